"""The rows, looked at: whose they are, and what has become of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import psycopg

from slackwater.kit.ids import uuid7
from tests.fuzz.tenants import Kind, Tenant
from tests.fuzz.things import Sort
from tests.fuzz.watch import Leak, Watch

if TYPE_CHECKING:
    from tests.fuzz.world import Example

Connection = psycopg.Connection[Any]

_OF_THREADS = "join slackwater.threads t on t.thread_id::text = x.thread_id where t.owner = any(%(owners)s)"

TABLES = {
    **{
        f"slackwater.{name}": f"select owner, x::text from slackwater.{name} x where owner = any(%(owners)s)"
        for name in (
            "threads",
            "runs",
            "assistants",
            "assistant_versions",
            "crons",
            "webhooks",
            "idempotency_keys",
        )
    },
    "slackwater.run_events": "select t.owner, x.data from slackwater.run_events x join slackwater.threads t "
    "using (thread_id) where t.owner = any(%(owners)s)",
    "checkpoints": f"select t.owner, x.checkpoint::text || x.metadata::text from checkpoints x {_OF_THREADS}",
    "checkpoint_blobs": f"select t.owner, x.blob from checkpoint_blobs x {_OF_THREADS}",
    "checkpoint_writes": f"select t.owner, x.blob from checkpoint_writes x {_OF_THREADS}",
    "store": "select split_part(prefix, '.', 1), prefix || key || value::text from store "
    "where split_part(prefix, '.', 1) = any(%(labels)s)",
}
"""Whose each row is, and all that it says."""

_AUDIT = """
select coalesce(actor, ''), owner, action, subject from slackwater.audit
where action <> 'request.refused' and via = 'api' and owner = any(%(owners)s)"""

_RUNS = """
select r.owner, t.owner, r.run_id::text from slackwater.runs r join slackwater.threads t using (thread_id)
where r.owner <> t.owner and (r.owner = any(%(owners)s) or t.owner = any(%(owners)s))"""

_WHERE = {
    Sort.THREAD: "select thread_id::text, owner from slackwater.threads where owner = any(%(owners)s)",
    Sort.ASSISTANT: "select assistant_id::text, owner, version from slackwater.assistants where owner = any(%(owners)s)",
    Sort.CRON: "select cron_id::text, owner from slackwater.crons where owner = any(%(owners)s)",
}

_DUE = (
    "update slackwater.crons set next_run_date = clock_timestamp() where owner = any(%(owners)s) and enabled"
)


_ACTIVE = """
select count(*) from slackwater.runs where owner = any(%(owners)s) and kind = 'run' and available_at <= clock_timestamp()
and """

_FIGURES = {
    "handed over": "select count(*) from slackwater.runs where handovers > 0",
    "on shared threads": "select count(*) from slackwater.runs r join slackwater.threads t using (thread_id) "
    "where jsonb_array_length(case when jsonb_typeof(t.metadata -> 'members') = 'array' "
    "then t.metadata -> 'members' else '[]' end) > 1",
}


def working(database: Connection, example: Example) -> int:
    """How many of these people have a long run that is being worked on."""
    sql = """select count(distinct owner) from slackwater.runs where owner = any(%(owners)s) and status = 'running'
      and kwargs -> 'input' -> 'nap' = '1.5'"""
    return _number(database, sql, _owners(example))


def due_runs(database: Connection, example: Example) -> int:
    """How many of their runs have not ended, although nothing keeps them from it."""
    return _number(database, f"{_ACTIVE} status in ('pending', 'running')", _owners(example))


def figures(database: Connection) -> dict[str, int]:
    """What has happened in all examples together."""
    return {name: _number(database, sql, {}) for name, sql in _FIGURES.items()}


def _owners(example: Example) -> dict[str, Any]:
    return {"owners": [tenant.owner for tenant in example.cast.tenants]}


def _number(database: Connection, sql: str, params: dict[str, Any]) -> int:
    row = database.execute(sql, params).fetchone()
    assert row is not None
    return int(row[0])


def keys(database: Connection, tenants: Iterable[Tenant]) -> None:
    """Make keys, as `slackwater keys create` does."""
    for tenant in tenants:
        scope = "admin" if tenant.kind is Kind.ADMIN else "run"
        database.execute(
            "insert into slackwater.api_keys (key_id, owner, prefix, sha256, scopes) values (%s, %s, %s, %s, %s)",
            [uuid7(), tenant.owner, "sw_", bytes.fromhex(tenant.sha256), [scope]],
        )


def due(database: Connection, example: Example) -> None:
    """A year passes for the crons of these people."""
    database.execute(_DUE, _owners(example))


def check(database: Connection, watch: Watch, example: Example) -> None:
    """Raises Leak if somebody has written or deleted what is another's."""
    tenants = {tenant.owner: tenant for tenant in example.cast.tenants}
    labels = {tenant.label: tenant for tenant in example.cast.tenants}
    params = {"owners": list(tenants), "labels": list(labels)}
    for name, sql in TABLES.items():
        for owner, content in database.execute(sql, params):
            tenant = tenants.get(owner) or labels[owner]
            if content is not None:
                row = content.encode() if isinstance(content, str) else bytes(content)
                watch.look(tenant, row, where=f"a row of {name}")
    by_identity = {tenant.name: tenant for tenant in example.cast.tenants}
    for actor, owner, action, subject in database.execute(_AUDIT, params):
        if not _same(by_identity.get(actor), tenants[owner]):
            raise Leak(f"{actor} has done to {owner}: {action} {subject}")
    for of_run, of_thread, run_id in database.execute(_RUNS, params):
        if not _same(tenants.get(of_run), tenants.get(of_thread)):
            raise Leak(f"run {run_id} of {of_run} is on a thread of {of_thread}")
    for sort, sql in _WHERE.items():
        there = {row[0]: row[1:] for row in database.execute(sql, params)}
        for thing in example.things.all:
            if thing.sort is not sort or not thing.lasting or thing.gone or thing.id is None:
                continue
            if thing.owner in example.things.swept and sort is not Sort.ASSISTANT:
                continue
            found = there.get(thing.id)
            if found is None or not _same(tenants.get(found[0]), thing.owner):
                raise Leak(f"{thing.owner.name}'s {sort.value} {thing.id} has become {found}")
            if (
                sort is Sort.ASSISTANT
                and not thing.latest
                and found[1] < thing.versions
                and thing.versions == 1
            ):
                raise Leak(f"{thing.owner.name}'s assistant {thing.id} has another version: {found}")


def _same(one: Tenant | None, other: Tenant | None) -> bool:
    """Whether what is one's is the other's, too."""
    return one is other or (
        one is not None and other is not None and one.team is not None and one.team == other.team
    )
