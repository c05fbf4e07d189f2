"""Partial messages are stored as what each token adds, and read whole: from anywhere, by anybody, as they were said."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any
from uuid import UUID

import pytest
from helm import Helm
from rig import OWNER, Fleet, Process

from slackwater.postgres.pool import Database
from slackwater.runtime.events import deltas
from slackwater.runtime.events import journal as journals
from slackwater.runtime.events import run_reader as following
from slackwater.runtime.events.deltas import PARTIAL
from slackwater.runtime.events.journal import BEGINNING, Event, EventId, event_of
from slackwater.runtime.events.packs import DELTA, PACK
from slackwater.runtime.events.partials import Partials
from slackwater.runtime.events.thread_reader import RUN_DONE
from slackwater.runtime.fenced import writer

TALK = {"stream_mode": ["values", "messages"]}


async def of_thread(process: Process, thread_id: UUID, cursor: EventId, runs: int = 1) -> list[Event]:
    """What the thread's log says after `cursor`, until so many runs have ended."""
    said: list[Event] = []
    log = process.runtime.thread_log.follow(OWNER, thread_id, cursor)
    async with asyncio.timeout(10), aclosing(log) as batches:
        async for batch in batches:
            said += [Event(*entry[:3]) for entry in batch if entry.name != RUN_DONE]
            runs -= sum(entry.name == RUN_DONE for entry in batch)
            if not runs:
                return said
    raise AssertionError


async def all_said(fleet: Fleet, process: Process, run_id: UUID, speaker: str, words: int) -> EventId:
    """Wait until the table has what the speaker has said before it was held; the id of the last event."""
    journal = process.runtime.worker.live[run_id].journal

    async def so() -> bool:
        # A word comes to the log some turns of the loop after it was said.
        count = len(said_by(list(journal._events), speaker))
        return count >= words and not journal.unwritten

    await fleet.until(so)
    return journal.last


async def stored(fleet: Fleet, run_id: UUID) -> list[Event]:
    """The events as the table has them, out of their packs."""
    return [event_of(event) for event in await fleet.events(run_id)]


def said_by(events: list[Event], speaker: str, part: str = "content") -> list[Any]:
    """What the speaker's message had come to with each of its partials."""
    said = [json.loads(event.data)[0] for event in events if event.name == PARTIAL]
    return [each[part] for each in said if each["id"] == f"said-by-{speaker}"]


@pytest.mark.parametrize(("rows", "room"), [(deltas.ROWS, deltas.KEEP_BYTES), (4, 0)])
async def test_from_every_event_on_all_readers_get_the_rest_of_the_same_stream(
    fleet: Fleet, process: Process, helm: Helm, monkeypatch: pytest.MonkeyPatch, rows: int, room: int
) -> None:
    monkeypatch.setattr(deltas, "ROWS", rows)
    monkeypatch.setattr(deltas, "KEEP_BYTES", room)
    other = await fleet.start()
    hold = helm.hold("calls:6")
    run = (await process.admit("talks", {"tokens": 12}, **TALK)).row
    run_id, thread_id = run["run_id"], run["thread_id"]
    await asyncio.wait_for(hold.reached.wait(), 15)
    # GIVEN readers that begin in the middle of a message
    begun = await all_said(fleet, process, run_id, "calls", 5)
    in_the_middle = [asyncio.create_task(each.read(run_id, begun)) for each in (process, other)]
    from_the_beginning = [asyncio.create_task(each.read(run_id)) for each in (process, other)]
    await asyncio.sleep(0.15)
    hold.let_go()

    whole, elsewhere = [await task for task in from_the_beginning]

    assert whole == elsewhere
    assert [str(event.id) for event in whole] == [f"1-{n}" for n in range(1, len(whole) + 1)]
    for task in in_the_middle:
        assert await task == [event for event in whole if event.id > begun]
    for message in ("left", "right"):
        assert said_by(whole, message)[-1] == '"Hé"llo\nwörld \\🌊\u2028 a 💧🌊\ufffdend"Hé"llo\n'
        assert len(said_by(whole, message)) >= 12
    assert said_by(whole, "calls", "tool_calls")[-1][0]["args"] == {"a": [0, *range(2, 11)]}
    # THEN whoever comes back with any id gets the rest
    for cursor in (BEGINNING, *(event.id for event in whole)):
        rest = [event for event in whole if event.id > cursor]
        assert await other.read(run_id, cursor) == rest
        assert await of_thread(other, thread_id, cursor) == rest
    # and it is deltas that were stored
    in_the_table = await stored(fleet, run_id)
    assert [event.id for event in in_the_table] == [event.id for event in whole]
    assert DELTA in {event.name for event in in_the_table}
    assert DELTA not in {event.name for event in whole}
    for event, row in zip(whole, in_the_table, strict=True):
        assert row == event or (row.name == DELTA and event.name == PARTIAL)


async def test_a_message_costs_as_many_bytes_as_it_has(fleet: Fleet, process: Process) -> None:
    run = (await process.admit("talks", {"tokens": 200}, **TALK)).row["run_id"]
    whole = await process.read(run, timeout=60)

    rows = [
        event_of(row)
        for row in await fleet.event_rows(run)
        if row["event"] in (PARTIAL, DELTA, f"{PACK}{DELTA}")
    ]
    said = [event for event in whole if event.name == PARTIAL]
    assert len(rows) < len(said) >= 600
    size, whole_size = [sum(len(event.data) for event in events) for events in (rows, said)]
    assert size < 0.15 * whole_size


async def test_tokens_that_are_written_together_share_a_row(
    fleet: Fleet, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speakers say them as fast as they can: as they take turns, two beside each other have less in common."""
    monkeypatch.setattr(writer, "EVENT_FLUSH_SECONDS", 0.5)
    run = (await process.admit("talks", {"tokens": 200}, stream_mode=["messages-tuple"])).row["run_id"]
    whole = await process.read(run, timeout=60)

    rows = await fleet.event_rows(run)
    said = [event for event in whole if event.name == "messages"]
    assert len(said) >= 600
    assert sum(row["event"].endswith("messages") for row in rows) < len(said) / 3
    assert sum(len(row["data"]) for row in rows) < sum(len(event.data) for event in whole) / 2
    other = await fleet.start()
    for cursor in (BEGINNING, *(event.id for event in whole[::7])):
        rest = [event for event in whole if event.id > cursor]
        assert await other.read(run, cursor) == rest


async def test_rows_of_an_older_version_are_read_as_they_are(fleet: Fleet, process: Process) -> None:
    """It stored every partial whole. Both stand in one log when processes of both have worked on a thread."""
    other = await fleet.start()
    first = (await process.admit("talks", {"tokens": 12}, **TALK)).row
    older = await process.read(first["run_id"])
    second = (await process.admit("talks", {"tokens": 12}, thread_id=first["thread_id"], **TALK)).row
    newer = await process.read(second["run_id"])
    rows = [{"seq": event.id.seq, "event": event.name, "data": event.data.decode()} for event in older]
    await fleet.database.execute("delete from slackwater.run_events where run_id = %s", [first["run_id"]])
    await fleet.database.execute(
        "insert into slackwater.run_events (run_id, thread_id, fence, seq, event, data) "
        "select %s, %s, 1, o.* from jsonb_to_recordset(%s::jsonb) as o(seq int, event text, data text)",
        [first["run_id"], first["thread_id"], json.dumps(rows)],
    )
    assert await stored(fleet, first["run_id"]) == older
    assert await stored(fleet, second["run_id"]) != newer

    for run, whole in ((first, older), (second, newer)):
        for cursor in (BEGINNING, *(event.id for event in whole)):
            rest = [event for event in whole if event.id > cursor]
            assert await other.read(run["run_id"], cursor) == rest
    assert await of_thread(other, first["thread_id"], BEGINNING, runs=2) == older + newer


async def test_a_process_that_is_lost_in_the_middle_of_a_message(fleet: Fleet, helm: Helm) -> None:
    process, other = await fleet.start(linked=True), await fleet.start()
    hold = helm.hold("left:8")
    run = (await process.admit("talks", {"tokens": 12}, **TALK)).row["run_id"]
    await asyncio.wait_for(hold.reached.wait(), 15)
    await all_said(fleet, process, run, "left", 7)
    watched = asyncio.create_task(other.read(run))
    await process.die()
    helm.hooks.clear()
    await fleet.expire(run)
    await other.runtime.sweep()
    await other.claim()

    whole = await watched

    assert {event.id.fence for event in whole} == {1, 2}
    attempts = [event.data for event in whole if event.name == "metadata"]
    assert len(attempts) == 2
    # what is said again is a message of its own: it begins anew
    first, second = [
        said_by([event for event in whole if event.id.fence == fence], "left") for fence in (1, 2)
    ]
    assert len(second) > len(first) > 4
    assert second[: len(first)] == first
    for cursor in (BEGINNING, *(event.id for event in whole)):
        assert await other.read(run, cursor) == [event for event in whole if event.id > cursor]


@pytest.mark.parametrize("keep", [0, 3])
async def test_what_memory_has_forgotten_is_made_whole_from_the_table(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    monkeypatch.setattr(journals, "KEEP_EVENTS", 1_000)
    monkeypatch.setattr(following, "PAGE", 4)
    monkeypatch.setattr(following, "_EVENTS", following._EVENTS.replace("limit 500", "limit 4"))
    process = await fleet.start()
    hold = helm.hold("calls:6")
    run = (await process.admit("talks", {"tokens": 12}, **TALK)).row["run_id"]
    await asyncio.wait_for(hold.reached.wait(), 15)
    newest = await all_said(fleet, process, run, "calls", 5)
    # WHEN memory keeps less than that, and forgets when the next events are stored
    monkeypatch.setattr(journals, "KEEP_EVENTS", keep)
    journal = process.runtime.worker.live[run].journal
    journal.written([])
    assert journal.after(BEGINNING) is None
    readers = [
        asyncio.create_task(process.read(run, EventId(1, seq))) for seq in range(newest.seq - 8, newest.seq)
    ]
    first = asyncio.create_task(process.read(run))
    await asyncio.sleep(0.1)
    hold.let_go()
    whole = await first
    assert [event.id.seq for event in whole] == [*range(1, len(whole) + 1)]
    assert DELTA not in {event.name for event in whole}
    for seq, reader in zip(range(newest.seq - 8, newest.seq), readers, strict=True):
        assert await reader == whole[seq:]


async def test_a_reader_gets_no_more_at_a_time_than_there_is_room_for(
    fleet: Fleet, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many deltas go into one page, and wholes are larger."""
    monkeypatch.setattr(following, "BATCH_BYTES", 3_000)
    run = (await process.admit("talks", {"tokens": 60}, **TALK)).row["run_id"]
    whole = await process.read(run)
    other = await fleet.start()
    heard: list[list[Event]] = []
    async with asyncio.timeout(10), aclosing(other.runtime.follow(run)) as batches:
        heard += [batch async for batch in batches]
    assert [event for batch in heard for event in batch] == whole
    assert max(len(batch) for batch in heard) > 1
    for batch in heard:
        assert sum(len(event.data) for event in batch[:-1]) < 3_000


async def test_one_whose_beginning_was_deleted_meanwhile_is_announced_once(
    fleet: Fleet, process: Process
) -> None:
    run = (await process.admit("talks", {"tokens": 12}, **TALK)).row["run_id"]
    await process.read(run)
    rows = await stored(fleet, run)
    whole = next(row.id.seq for row in rows if row.name == PARTIAL)
    its = [
        n for n, row in enumerate(rows) if row.name == DELTA and row.data.startswith(f"[{whole},".encode())
    ]
    assert len(its) > 5
    read = rows[its[2] :]
    await fleet.database.execute(
        "delete from slackwater.run_events where run_id = %s and seq <= %s", [run, whole]
    )
    partials_of = Partials(fleet.database, lambda: False)
    async with aclosing(partials_of.restored(read, run, 500_000, BEGINNING)) as batches:
        told = [event async for batch in batches for event in batch]
    gaps = [event for event in told if event.name == "gap"]
    assert [(gap.id, json.loads(gap.data)) for gap in gaps] == [(read[0].id, {"first_available_id": None})]
    assert [event for event in told if event.name == DELTA] == []
    assert len(told) > 5


async def test_a_reader_waits_for_the_database_until_it_is_let_go(fleet: Fleet, process: Process) -> None:
    run = (await process.admit("talks", {"tokens": 12}, **TALK)).row["run_id"]
    whole = await process.read(run)
    rows = await stored(fleet, run)
    first = next(n for n, row in enumerate(rows) if row.name == DELTA)
    linked = await fleet.start(linked=True)
    assert linked.link is not None

    async def rest(database: Database) -> list[Event]:
        async with aclosing(
            Partials(database, lambda: False).restored(rows[first:], run, 500_000, BEGINNING)
        ) as read:
            return [event async for batch in read for event in batch]

    linked.link.is_cut = True
    linked.link.drop()
    reader = asyncio.create_task(rest(linked.database))
    await asyncio.sleep(0.3)
    assert not reader.done()
    linked.link.is_cut = False
    assert await asyncio.wait_for(reader, 10) == whole[first:]
