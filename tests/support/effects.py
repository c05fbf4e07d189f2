"""What the nodes of a drill really did: a table that they write through a connection of their own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
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


class Watcher:
    """A connection that looks at what the servers do. Reconnects when the database has been away."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._connection: psycopg.Connection[dict[str, Any]] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def query(self, sql: str, params: Any = None) -> list[dict[str, Any]]:
        """The rows of one statement."""
        with self._lock:
            if self._closed:
                raise RuntimeError("Nobody looks any more.")
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(
                    self.uri, autocommit=True, row_factory=dict_row, application_name="drill"
                )
            cursor = self._connection.execute(sql, params)
            return cursor.fetchall() if cursor.description else []

    def disconnect(self) -> None:
        """The next query connects anew."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def close(self) -> None:
        """For good: a query that still waits in another thread would leave a connection behind."""
        self._closed = True
        self.disconnect()


class Effects:
    """Reads the table of one database."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.watcher = Watcher(uri)
        self.watcher.query(TABLE)

    def of_runs(self, run_ids: Sequence[str]) -> dict[str, list[Effect]]:
        """The runs' effects in their order."""
        found: dict[str, list[Effect]] = {run_id: [] for run_id in run_ids}
        for row in self.watcher.query(
            "select run, node, step, pid, phase from effects where run = any(%s) order by id",
            (list(run_ids),),
        ):
            found[row["run"]].append(Effect(**row))
        return found

    def of(self, run_id: str) -> list[Effect]:
        return self.of_runs([run_id])[run_id]

    def runs(self) -> list[str]:
        """All runs of which a node has started."""
        return [row["run"] for row in self.watcher.query("select distinct run from effects")]

    def last(self) -> int:
        """A mark for `after`: the number of the newest effect."""
        return int(self.watcher.query("select coalesce(max(id), 0) as id from effects")[0]["id"])

    def after(self, mark: int) -> list[Effect]:
        """What was written after the mark."""
        rows = self.watcher.query(
            "select run, node, step, pid, phase from effects where id > %s order by id", (mark,)
        )
        return [Effect(**row) for row in rows]


def started(effects: list[Effect]) -> list[str]:
    return [effect.node for effect in effects if effect.phase == "start"]


def finished(effects: list[Effect]) -> list[str]:
    return [effect.node for effect in effects if effect.phase == "done"]


def repeated(nodes: list[str]) -> list[str]:
    """Those that are there more than once."""
    return sorted({node for node in nodes if nodes.count(node) > 1})
