"""What the nodes of a drill really did: a table that they write through a connection of their own."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

TABLE = """
create table if not exists effects (
  id bigint generated always as identity primary key,
  run text not null, node text not null, step integer, pid integer not null,
  phase text not null check (phase in ('start', 'done')),
  at timestamptz not null default clock_timestamp()
)"""


@dataclass(frozen=True)
class Effect:
    """A node that started, or finished."""

    run: str
    node: str
    step: int | None
    pid: int
    phase: str


class Effects:
    """Reads the table of one database."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        with psycopg.connect(uri, autocommit=True) as connection:
            connection.execute(TABLE)

    def of_runs(self) -> dict[str, list[Effect]]:
        """Each run's effects in their order."""
        found: dict[str, list[Effect]] = defaultdict(list)
        for row in query(self.uri, "select run, node, step, pid, phase from effects order by id"):
            found[row["run"]].append(Effect(**row))
        return dict(found)

    def of(self, run_id: str) -> list[Effect]:
        return self.of_runs().get(run_id, [])


def query(uri: str, sql: str, params: Any = None) -> list[dict[str, Any]]:
    """The rows of one statement, on a connection of its own."""
    with psycopg.connect(uri, autocommit=True, row_factory=dict_row) as connection:
        cursor = connection.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


def started(effects: list[Effect]) -> list[str]:
    return [effect.node for effect in effects if effect.phase == "start"]


def finished(effects: list[Effect]) -> list[str]:
    return [effect.node for effect in effects if effect.phase == "done"]


def repeated(nodes: list[str]) -> list[str]:
    """Those that are there more than once."""
    return sorted({node for node in nodes if nodes.count(node) > 1})
