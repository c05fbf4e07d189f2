"""What the planner is told of how much there is, and what a plan says of how much was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

BELIEVED = {
    "slackwater.run_events": 3_000_000,
    "slackwater.runs": 1_000_000,
    "slackwater.threads": 1_000_000,
    "slackwater.idempotency_keys": 1_000_000,
    "slackwater.webhooks": 100_000,
    "slackwater.crons": 100_000,
    "public.checkpoints": 3_000_000,
    "public.checkpoint_writes": 3_000_000,
    "public.store": 1_000_000,
}


async def believe(connection: Any) -> None:
    """Tell the planner that there are so many rows."""
    for table, rows in BELIEVED.items():
        schema, name = table.split(".")
        await connection.execute(
            "select pg_restore_relation_stats('schemaname', %s::text, 'relname', %s::text, 'relpages', relpages, 'reltuples', %s::real) "
            "from pg_class where oid = %s::regclass",
            [schema, name, rows, table],
        )


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A node of a plan, and all below it."""
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def scans(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The nodes that read a table."""
    return (node for node in nodes(plan) if "Scan" in node["Node Type"] and "Relation Name" in node)


def read_whole(plan: Mapping[str, Any]) -> list[str]:
    """The large tables that are read from end to end."""
    large = {table.partition(".")[2] for table in BELIEVED}
    return [
        node["Relation Name"]
        for node in scans(plan)
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in large
    ]


def examined(plan: Mapping[str, Any]) -> float:
    """How many rows its scans have looked at."""
    names = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    return sum(sum(node.get(name, 0) for name in names) * node["Actual Loops"] for node in scans(plan))


def pages(plan: Mapping[str, Any]) -> int:
    """How many pages of tables and indexes its scans have looked at; of a plan with `buffers`."""
    return sum(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in scans(plan))
