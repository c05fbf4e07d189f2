"""Readers of a run's events: wherever they read, whatever happens to the run, each event once and in order."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from uuid import UUID

import pytest
from helm import Helm
from rig import BRISK, OWNER, Fleet, Process

from slackwater.api.runs import queries
from slackwater.runtime.events import journal as journals
from slackwater.runtime.events import run_reader as following
from slackwater.runtime.events.journal import BEGINNING, Event, EventId
from slackwater.runtime.events.run_reader import RunGone, StreamCut
from slackwater.runtime.queue.cancel import READER_GONE, CancelAction


async def reached(hold: object) -> None:
    await asyncio.wait_for(hold.reached.wait(), 15)  # type: ignore[attr-defined]


def ids(events: list[Event]) -> list[str]:
    return [str(event.id) for event in events]


async def test_a_reader_gets_exactly_what_comes_after_its_id_from_memory_and_from_the_table(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    other = await fleet.start()
    hold = helm.hold("d")
    run = (await process.admit("line", stream_mode=["values", "updates", "custom"])).row["run_id"]
    await reached(hold)
    whole = [asyncio.create_task(each.read(run)) for each in (process, other)]
    await asyncio.sleep(0.1)
    seen = [
        EventId(row["fence"], row["seq"])
        for row in await fleet.database.fetch("select fence, seq from slackwater.run_events order by 1, 2")
    ]
    parts = [
        (cursor, each, asyncio.create_task(each.read(run, cursor)))
        for cursor in seen
        for each in (process, other)
    ]
    await asyncio.sleep(0)
    hold.let_go()
    local, remote = [await task for task in whole]
    assert local == remote
    assert ids(local) == [f"1-{n}" for n in range(1, len(local) + 1)]
    for cursor, _, part in parts:
        assert await part == local[cursor.seq :]
    # and once the run is over
    for cursor in (BEGINNING, *(event.id for event in local), EventId(1, 999), EventId(9, 0)):
        for each in (process, other):
            assert await each.read(run, cursor) == [event for event in local if event.id > cursor]


async def test_a_reader_that_wants_only_what_comes_next_begins_at_the_newest(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    other = await fleet.start()
    hold = helm.hold("c")
    run = (await process.admit("line")).row["run_id"]
    assert await other.runtime.follower.newest(UUID(int=0)) == BEGINNING
    await reached(hold)

    async def written() -> bool:
        return process.runtime.worker.live[run].journal.unwritten == 0

    await fleet.until(written)
    newest = [await each.runtime.follower.newest(run) for each in (process, other)]
    assert newest[0] == newest[1]
    task = asyncio.create_task(other.read(run, newest[1]))
    hold.let_go()
    assert [json.loads(event.data) for event in await task if event.name == "updates"] == [
        {"c": {"log": ["c"]}},
        {"d": {"log": ["d"]}},
    ]


@pytest.mark.parametrize("keep", [0, 3])
async def test_what_memory_has_forgotten_is_read_from_the_table(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    monkeypatch.setattr(journals, "KEEP_EVENTS", keep)
    monkeypatch.setattr(following, "PAGE", 4)
    monkeypatch.setattr(following, "_EVENTS", following._EVENTS.replace("limit 500", "limit 4"))
    process, other = await fleet.start(), await fleet.start()
    hold = helm.hold("turn_12")
    run = (await process.admit("loop", {"n": 12})).row["run_id"]
    await reached(hold)

    async def written() -> bool:
        return process.runtime.worker.live[run].journal.unwritten == 0

    await fleet.until(written)
    assert process.runtime.worker.live[run].journal.after(BEGINNING) is None
    readers = [asyncio.create_task(each.read(run)) for each in (process, other, process)]
    await asyncio.sleep(0.1)
    hold.let_go()
    first, *rest = [await reader for reader in readers]
    assert rest == [first, first]
    assert ids(first) == [f"1-{n}" for n in range(1, len(first) + 1)]
    assert len(first) > 20


async def test_what_was_forgotten_and_deleted_is_announced_and_not_waited_for(
    fleet: Fleet, process: Process, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "KEEP_EVENTS", 2)
    hold = helm.hold("d")
    run = (await process.admit("line")).row["run_id"]
    await reached(hold)

    async def written() -> bool:
        return process.runtime.worker.live[run].journal.unwritten == 0

    await fleet.until(written)
    await fleet.database.execute("delete from slackwater.run_events")
    reader = asyncio.create_task(process.read(run))
    await asyncio.sleep(0.05)
    hold.let_go()
    first, *rest = await reader
    assert (first.name, str(first.id)) == ("gap", f"1-{rest[0].id.seq - 1}")
    assert json.loads(first.data) == {"first_available_id": str(rest[0].id)}


async def test_readers_hear_a_run_that_is_handed_over_twice_and_taken_over_once_as_one(
    fleet: Fleet, helm: Helm
) -> None:
    """A reader elsewhere hears everything; one in a process that leaves is cut off, and goes on from its last id."""
    watcher = await fleet.start(max_concurrent_runs=0)
    reference = await fleet.reference(await fleet.start("reference"), "line", durability="sync")
    first = await fleet.start(linked=True)
    hold = helm.hold("a")
    run = (await first.admit("line", durability="sync")).row["run_id"]
    watching = asyncio.create_task(watcher.read(run, timeout=60))
    heard: list[Event] = []
    process = first
    for n, node in enumerate("bcd"):
        await reached(hold)
        task = asyncio.create_task(collect(process, run, heard))
        await asyncio.sleep(0.05)
        following_one = await fleet.start(linked=True)
        if n == 1:  # SIGKILL
            await process.runtime.worker.live[run].writer.flush()  # what has been heard is stored
            await process.die()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await fleet.expire(run)
            hold.let_go()  # the node begins once more
            hold = helm.hold(node)
            await following_one.runtime.sweep()
        else:
            asyncio.get_running_loop().call_later(0.05, hold.let_go)
            hold = helm.hold(node)
            await process.stop()
            with pytest.raises(StreamCut):
                await task
        await following_one.claim()
        process = following_one
    await reached(hold)
    hold.let_go()
    heard += await process.read(run, heard[-1].id if heard else BEGINNING)
    everything = await watching
    assert heard == everything
    assert ids(everything) == ids(await watcher.read(run))
    fences = [event.id.fence for event in everything]
    assert fences == sorted(fences)
    assert {fences[0], fences[-1]} == {1, 4}
    names = [f"{event.name} {event.data.decode()}" for event in everything if event.name != "metadata"]
    assert names == reference.sequence[1:]
    attempts = [json.loads(event.data)["attempt"] for event in everything if event.name == "metadata"]
    assert attempts == [1, 2]


async def collect(process: Process, run: UUID, heard: list[Event]) -> None:
    cursor = heard[-1].id if heard else BEGINNING
    async with aclosing(process.runtime.follow(run, cursor)) as batches:
        async for batch in batches:
            heard += batch


async def test_an_id_of_a_lost_attempt_resumes_at_the_take_over(fleet: Fleet, helm: Helm) -> None:
    process, other = await fleet.start(linked=True), await fleet.start()
    hold = helm.hold("c")
    run = (await process.admit("line")).row["run_id"]
    await reached(hold)
    assert process.link is not None
    process.link.hang()
    # GIVEN an event that its reader has heard, and that nobody else ever will
    process.runtime.worker.live[run].writer.publish("custom", b'"lost"')
    heard: list[Event] = []
    task = asyncio.create_task(collect(process, run, heard))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert heard[-1].data == b'"lost"'
    await process.die()
    del helm.hooks["c"]
    await fleet.expire(run)
    await other.runtime.sweep()
    await other.claim()
    rest = await other.read(run, heard[-1].id)
    assert [event.id.fence for event in rest] == [2] * len(rest)
    assert rest[0].name == "metadata"
    assert "gap" not in {event.name for event in rest}


# Its end


async def test_a_reader_of_a_run_that_waits_hears_it_from_its_beginning(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(poll_seconds=0.05)
    hold = helm.hold("a")
    first = (await process.admit("line")).row
    await reached(hold)
    second = (await process.admit("line", thread_id=first["thread_id"])).row["run_id"]
    task = asyncio.create_task(process.read(second))
    await asyncio.sleep(0.1)
    hold.let_go()
    assert ids(await task)[0].endswith("-1")


async def test_a_run_that_is_deleted_while_it_is_read_is_gone(fleet: Fleet, helm: Helm) -> None:
    process, other = await fleet.start(), await fleet.start()
    hold = helm.hold("b")
    run = (await process.admit("line")).row
    await reached(hold)
    readers = [asyncio.create_task(each.read(run["run_id"])) for each in (process, other)]
    await asyncio.sleep(0.05)
    assert (await queries.delete(other.database, OWNER, run["thread_id"], run["run_id"])).live
    process.runtime.forget(run["run_id"])
    for reader in readers:
        with pytest.raises(RunGone):
            await reader
    with pytest.raises(RunGone):
        await other.read(UUID(int=7))
    hold.let_go()


async def test_a_run_that_is_rolled_back_while_it_is_read_is_gone_for_those_elsewhere(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    other = await fleet.start()
    hold = helm.hold("b")
    run = (await process.admit("line")).row
    await reached(hold)
    here, there = [asyncio.create_task(each.read(run["run_id"])) for each in (process, other)]
    await asyncio.sleep(0.05)
    await process.cancel(run["thread_id"], run["run_id"], action=CancelAction.ROLLBACK)
    await here
    with pytest.raises(RunGone):
        await there


async def test_a_run_whose_log_was_trimmed_says_so(fleet: Fleet, process: Process) -> None:
    told = await fleet.reference(process, "line")
    run = told.row["run_id"]
    await fleet.database.execute("delete from slackwater.run_events")
    (event,) = await process.read(run)
    assert (event.name, json.loads(event.data), event.id) == (
        "gap",
        {"first_available_id": None},
        told.events[-1].id,
    )
    assert await process.read(run, told.events[-1].id) == []


async def test_the_readers_of_runs_elsewhere_are_cut_when_the_process_stops_and_those_here_at_their_runs_end(
    fleet: Fleet, helm: Helm
) -> None:
    process, other = await fleet.start(), await fleet.start()
    hold = helm.hold("d")
    here = (await process.admit("line")).row["run_id"]
    await reached(hold)
    there = (await other.admit("line")).row["run_id"]
    readers = [asyncio.create_task(process.read(run)) for run in (here, there)]
    await asyncio.sleep(0.05)
    drain = asyncio.create_task(process.drain())
    await asyncio.sleep(0.05)
    with pytest.raises(StreamCut):
        await readers[1]
    assert not readers[0].done()
    with pytest.raises(StreamCut):
        await process.read(there)
    hold.let_go()
    await drain
    # THEN the run has finished in time, and its reader has heard all of it
    assert (await readers[0])[-1].data == b'{"log":["a","b","c","d"]}'


async def test_readers_wait_for_a_database_that_is_away(fleet: Fleet, helm: Helm) -> None:
    owner, process = await fleet.start(), await fleet.start(linked=True, statement_seconds=0.3)
    hold = helm.hold("d")
    run = (await owner.admit("line")).row["run_id"]
    await reached(hold)
    task = asyncio.create_task(process.read(run))
    await asyncio.sleep(0.1)
    assert process.link is not None
    process.link.hang()
    hold.let_go()
    await fleet.ended(run)
    await asyncio.sleep(0.5)
    process.link.drop()
    process.link.flow()
    assert ids(await task) == ids(await owner.read(run))


async def test_the_polling_task_ends_with_its_last_reader(fleet: Fleet, process: Process, helm: Helm) -> None:
    other = await fleet.start()
    hold = helm.hold("b")
    run = (await process.admit("line")).row["run_id"]
    await reached(hold)
    task = asyncio.create_task(other.read(run))
    await asyncio.sleep(0.05)
    follower = other.runtime.follower
    assert follower.following == {run: 1}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert follower.following == {}
    assert follower._task is not None
    await asyncio.wait_for(follower._task, 10)
    hold.let_go()


async def test_a_mistake_while_polling_is_logged_and_the_readers_are_served_all_the_same(
    fleet: Fleet, process: Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = await fleet.reference(process, "line")
    other = await fleet.start()
    real, calls = following.event_of, 0

    def sometimes(row: dict[str, object]) -> Event:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("strange row")
        return real(row)

    monkeypatch.setattr(following, "event_of", sometimes)
    assert [event.id for event in await other.read(told.row["run_id"])][-1] == told.events[-1].id
    assert "strange row" in caplog.text


# on_disconnect=cancel


async def away(fleet: Fleet, run: UUID, seconds: float) -> None:
    await fleet.database.execute(
        "update slackwater.runs set reader_left_at = clock_timestamp() - make_interval(secs => %s) where run_id = %s",
        [seconds, run],
    )


async def test_a_reader_that_the_server_has_cut_off_has_a_minute_to_come_back(
    fleet: Fleet, helm: Helm
) -> None:
    process, other = await fleet.start(), await fleet.start()
    hold = helm.hold("b")
    run = (await process.admit("line", on_disconnect="cancel")).row["run_id"]
    goes_on = (await process.admit("line")).row["run_id"]
    await reached(hold)
    asyncio.get_running_loop().call_later(0.05, hold.let_go)
    await process.stop()
    # GIVEN a run that was handed over, and whose reader was cut off with that
    row = await fleet.row(run)
    assert row["reader_left_at"] is not None
    assert (await fleet.row(goes_on))["reader_left_at"] is None
    # WHEN it does not come back within a minute
    await away(fleet, run, 50)
    await other.runtime.sweep()
    assert (await fleet.row(run))["cancel_action"] is None
    await away(fleet, run, 61)
    await other.runtime.sweep()
    # THEN
    row = await fleet.row(run)
    assert (row["status"], row["reason"]) == ("interrupted", READER_GONE)
    await other.claim()
    assert (await fleet.ended(goes_on))["status"] == "success"


async def test_a_reader_that_is_connected_elsewhere_has_not_left(fleet: Fleet, helm: Helm) -> None:
    process, other = await fleet.start(), await fleet.start()
    hold = helm.hold("b")
    run = (await process.admit("line", on_disconnect="cancel")).row["run_id"]
    await reached(hold)
    reader = asyncio.create_task(other.read(run))
    asyncio.get_running_loop().call_later(0.05, hold.let_go)
    await process.stop()
    await away(fleet, run, 61)
    # WHEN the process through which it reads sweeps
    await other.runtime.sweep()
    row = await fleet.row(run)
    assert (row["cancel_action"], row["reader_left_at"]) == (None, None)
    await other.claim()
    assert (await reader)[-1].name == "values"


async def test_a_reader_that_is_connected_where_nobody_sweeps_has_not_left(fleet: Fleet, helm: Helm) -> None:
    """As on Lambda, where the schedule's event comes to any environment."""
    process, other, third = [await fleet.start() for _ in range(3)]
    hold = helm.hold("b")
    run = (await process.admit("line", on_disconnect="cancel")).row["run_id"]
    await reached(hold)
    reader = asyncio.create_task(other.read(run))
    asyncio.get_running_loop().call_later(0.05, hold.let_go)
    await process.stop()

    async def is_back() -> bool:
        return (await fleet.row(run))["reader_left_at"] is None

    await fleet.until(is_back)
    # WHEN a minute is over, had it been away since the hand-over
    await fleet.database.execute(
        "update slackwater.runs set reader_left_at = reader_left_at - interval '61 seconds' where run_id = %s",
        [run],
    )
    await third.runtime.sweep()
    assert (await fleet.row(run))["cancel_action"] is None
    await third.claim()
    assert (await reader)[-1].name == "values"


async def test_a_reader_says_when_it_leaves_and_when_it_is_back(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    hold = helm.hold("b")
    runs = [(await process.admit("line", on_disconnect=how)).row["run_id"] for how in ("cancel", "continue")]
    await reached(hold)
    for run in runs:
        await queries.reader(process.database, run, left=True)
    assert [(await fleet.row(run))["reader_left_at"] is not None for run in runs] == [True, False]
    await queries.reader(process.database, runs[0], left=False)
    assert (await fleet.row(runs[0]))["reader_left_at"] is None
    hold.let_go()


# How soon


async def test_a_reader_here_hears_an_event_long_before_the_table_does(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(linked=True, **{**BRISK, "lease_seconds": 30.0})
    assert process.link is not None
    hold = helm.hold("b")
    run = (await process.admit("line")).row["run_id"]
    await reached(hold)
    heard: list[Event] = []
    task = asyncio.create_task(collect(process, run, heard))
    await asyncio.sleep(0.05)
    process.link.hang()
    before = len(heard)
    process.runtime.worker.live[run].writer.publish("custom", b"1")
    async with asyncio.timeout(5):
        while len(heard) == before:
            await asyncio.sleep(0.001)
    assert heard[-1].data == b"1"
    assert "1" not in {event["data"] for event in await fleet.events(run)}
    process.link.flow()
    hold.let_go()
    await task
