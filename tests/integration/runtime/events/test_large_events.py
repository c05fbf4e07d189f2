"""Readers are served by bytes, not by numbers: what waits for a slow one is a batch, and one look at the table is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any
from uuid import UUID

import pytest
from helm import Helm
from rig import OWNER, Fleet, Process

from slackwater.runtime.events.journal import BATCH_BYTES, BEGINNING, Ending, EventId, Journal
from slackwater.runtime.events.run_reader import ROUND_BYTES
from slackwater.runtime.events.thread_reader import RUN_DONE

SIZE = 300_000
COUNT = 40

Batches = AsyncGenerator[Sequence[Any]]


@pytest.fixture
async def long_run(fleet: Fleet, process: Process) -> tuple[UUID, UUID]:
    """A run that has ended, and its thread; its log begins with 12 MB of large events, which Postgres stores as 140 kB."""
    row = (await process.admit("line")).row
    await process.read(row["run_id"])
    await fleet.database.execute(
        "insert into slackwater.run_events (run_id, thread_id, fence, seq, event, data)"
        " select %s, %s, 0, n, 'custom', to_json(repeat('x', %s))::text from generate_series(1, %s) n",
        [row["run_id"], row["thread_id"], SIZE, COUNT],
    )
    return row["run_id"], row["thread_id"]


async def all_of(batches: Batches, over: Callable[[Any], bool]) -> list[Any]:
    """What comes, until it is over."""
    found: list[Any] = []
    async with asyncio.timeout(20), aclosing(batches):
        async for batch in batches:
            assert sum(len(event.data) for event in batch) <= BATCH_BYTES + SIZE + 2
            found += batch
            if found and over(found[-1]):
                break
    return found


def watch(process: Process, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each look at the log brings."""
    looks: list[int] = []
    fetch, pipeline = process.runtime.database.fetch, process.runtime.database.pipeline

    def note(rows: Sequence[Any]) -> None:
        looks.append(sum(len(row.get("data") or "") for row in rows))

    async def fetched(*args: Any) -> Any:
        rows = await fetch(*args)
        note(rows)
        return rows

    async def piped(*args: Any) -> Any:
        answers = await pipeline(*args)
        for rows in answers:
            note(rows)
        return answers

    monkeypatch.setattr(process.runtime.database, "fetch", fetched)
    monkeypatch.setattr(process.runtime.database, "pipeline", piped)
    return looks


@pytest.mark.parametrize("readers", [1, 20])
async def test_one_look_at_the_table_is_bounded_and_nobody_misses_anything(
    process: Process, long_run: tuple[UUID, UUID], readers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, thread = long_run
    looks = watch(process, monkeypatch)

    async def of_run() -> list[Any]:
        return await all_of(process.runtime.follow(run), lambda event: False)

    async def of_thread() -> list[Any]:
        log = process.runtime.thread_log.follow(OWNER, thread, BEGINNING)
        return await all_of(log, lambda entry: entry.name == RUN_DONE)

    for read in (of_run, of_thread):
        first, *rest = await asyncio.gather(*(read() for _ in range(readers)))
        assert all([event.id for event in other] == [event.id for event in first] for other in rest)
        assert [str(event.id) for event in first[: COUNT + 1]] == [f"0-{n}" for n in range(1, COUNT + 1)] + [
            "1-1"
        ]
        assert "gap" not in {event.name for event in first}
    assert max(looks) <= ROUND_BYTES + SIZE + 2
    assert max(looks) > BATCH_BYTES or readers == 1


async def test_a_cursor_in_the_middle(process: Process, long_run: tuple[UUID, UUID]) -> None:
    run, thread = long_run
    whole = await all_of(process.runtime.follow(run), lambda event: False)
    cursor = EventId(0, COUNT // 2)
    assert await all_of(process.runtime.follow(run, cursor), lambda event: False) == whole[COUNT // 2 :]
    log = process.runtime.thread_log.follow(OWNER, thread, cursor)
    entries = await all_of(log, lambda entry: entry.name == RUN_DONE)
    assert [entry.id for entry in entries[:-1]] == [event.id for event in whole[COUNT // 2 :]]


async def test_memory_gives_batches_too(fleet: Fleet, process: Process, helm: Helm) -> None:
    hold = helm.hold("d")
    run = (await process.admit("line")).row["run_id"]
    await asyncio.wait_for(hold.reached.wait(), 15)
    journal = process.runtime.worker.live[run].journal
    for _ in range(10):
        journal.append("custom", b'"' + b"x" * SIZE + b'"')
    reader = asyncio.create_task(all_of(process.runtime.follow(run), lambda event: False))
    await asyncio.sleep(0.05)
    hold.let_go()
    found = await reader
    assert [event.id.seq for event in found] == list(range(1, len(found) + 1))


def test_one_event_is_a_batch_however_large() -> None:
    journal = Journal(1)
    for size in (10, BATCH_BYTES * 3, 10, 10):
        journal.append("custom", b"x" * size)
    journal.close(Ending.SETTLED)
    cursor, batches = BEGINNING, []
    while events := journal.after(cursor):
        batches.append([event.id.seq for event in events])
        cursor = events[-1].id
    assert batches == [[1, 2], [3, 4]]
