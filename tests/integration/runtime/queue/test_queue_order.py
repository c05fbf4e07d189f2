"""Which of a thread's runs is ready: at most one, and the one to start next."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database
from slackwater.runtime.queue import order

THREAD = UUID(int=1)

_INSERT = """
insert into slackwater.runs (run_id, thread_id, owner, assistant_id, graph_id, status, holds_thread, ready, metadata,
  available_at)
values (%(run_id)s, %(thread_id)s, 'local', %(assistant_id)s, 'graph', %(status)s, %(holds)s, %(ready)s,
  jsonb_build_object('name', %(name)s::text), clock_timestamp() + make_interval(secs => %(in)s))"""


async def _add(
    database: Database,
    name: str,
    *,
    status: str = "pending",
    holds: bool = False,
    ready: bool = False,
    due_in: float = 0.0,
) -> None:
    params = {
        "run_id": uuid7(),
        "thread_id": THREAD,
        "assistant_id": uuid4(),
        "name": name,
        "status": status,
        "holds": holds,
        "ready": ready,
        "in": due_in,
    }
    await database.execute(_INSERT, params)


async def _promote(database: Database) -> list[dict[str, object]]:
    whose = {"thread_id": THREAD, "owner": "local"}
    _, changed = await database.pipeline((order.LOCK, whose), (order.PROMOTE, whose))
    return changed


async def _ready(database: Database) -> list[str]:
    rows = await database.fetch(
        "select metadata ->> 'name' as name from slackwater.runs where ready order by seq"
    )
    return [row["name"] for row in rows]


async def test_the_oldest_of_those_due_is_made_ready(database: Database) -> None:
    await _add(database, "later", due_in=60)
    await _add(database, "first")
    await _add(database, "second")
    assert await _promote(database) == [{"ready": True, "due": True}]
    assert await _ready(database) == ["first"]
    assert await _promote(database) == []


async def test_a_due_run_takes_the_place_of_one_that_waits_for_its_time(database: Database) -> None:
    await _add(database, "later", ready=True, due_in=60)
    await _add(database, "now")
    assert sorted(row["ready"] for row in await _promote(database)) == [False, True]
    assert await _ready(database) == ["now"]


@pytest.mark.parametrize(("status", "expected"), [("pending", ["holder"]), ("running", [])])
async def test_a_run_that_has_started_keeps_its_thread(
    database: Database, status: str, expected: list[str]
) -> None:
    await _add(database, "older", ready=True, due_in=-60)
    await _add(database, "holder", status=status, holds=True)
    await _promote(database)
    assert await _ready(database) == expected


async def test_nothing_is_ready_when_nothing_waits(database: Database) -> None:
    await _add(database, "done", status="success", ready=True)
    await _promote(database)
    assert await _ready(database) == []


async def test_another_owner_neither_locks_nor_promotes(database: Database) -> None:
    await database.execute("insert into slackwater.threads (thread_id, owner) values (%s, 'local')", [THREAD])
    await _add(database, "first")
    whose = {"thread_id": THREAD, "owner": "somebody else"}

    locked, changed = await database.pipeline((order.LOCK, whose), (order.PROMOTE, whose))

    assert (locked, changed, await _ready(database)) == ([], [], [])
