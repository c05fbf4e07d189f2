"""Guards, the sweep, holds, and what a thread shows: all that nobody else looks after."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from typing import Any
from uuid import UUID

import pytest
from helm import Helm
from psycopg.errors import InvalidTextRepresentation
from rig import ASSISTANT, CUT, OWNER, Fleet, Process

from slackwater.errors import Draining, LeaseLost, NotFound
from slackwater.kit.ids import uuid7
from slackwater.runtime.process import stop
from slackwater.runtime.process.hold import ThreadHeld
from slackwater.runtime.queue import pruning, retention
from tests.support.sessions import until_waiting


async def reached(hold: object) -> None:
    await asyncio.wait_for(hold.reached.wait(), 15)  # type: ignore[attr-defined]


# Guards


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_three_cut_attempts_without_progress_end_the_run_and_its_readers_hear_why(
    fleet: Fleet, helm: Helm, where: str
) -> None:
    watcher = await fleet.start(max_concurrent_runs=0)
    hold = helm.hold("b")
    run: dict[str, Any] | None = None
    readers = []
    for attempt in range(3):
        process, began = await fleet.start(), time.monotonic()
        if run is None:
            run = dict((await process.admit("line", on_completion="delete")).row)
            readers.append(asyncio.create_task(watcher.read(run["run_id"])))
        else:
            await process.claim()
        await reached(hold)
        hold.reached.clear()
        if attempt == 2 and where == "here":
            readers.append(asyncio.create_task(process.read(run["run_id"])))
            await asyncio.sleep(0.05)
        report = await process.stop(**CUT)
        assert len(report["runs"]) == 1
    assert run is not None
    row = await fleet.row(run["run_id"])
    assert (row["status"], row["stalls"], row["holds_thread"]) == ("error", 3, False)
    assert row["error"]["error"] == "NoProgress"
    assert "3 times in a row" in row["error"]["message"]
    had = re.search(r"in b, which last had (\d+\.\d) s", row["error"]["message"])
    assert had is not None
    assert float(had[1]) <= round(time.monotonic() - began, 1)  # the last of its attempts, not all of them
    assert row["delete_at"] is not None
    for reader in readers:
        events = await reader
        assert events[-1].name == "error"
        assert json.loads(events[-1].data) == row["error"]
        assert str(events[-1].id) == row["last_event"]
    thread = await fleet.thread(run["thread_id"])
    assert (thread["status"], thread["error"], thread["values"]) == ("error", row["error"], {"log": ["a"]})
    assert report["runs"][0]["handed_over"] is False


@pytest.mark.parametrize(
    ("graph", "nodes"), [("line", ["a", "b", "c", "d"]), ("nest", ["in_1", "in_2", "in_3"])]
)
async def test_what_gets_ahead_between_its_cuts_is_not_stuck(
    fleet: Fleet, helm: Helm, graph: str, nodes: list[str]
) -> None:
    run = None
    for node in nodes:
        hold = helm.hold(node)
        process = await fleet.start()
        if run is None:
            run = (await process.admit(graph)).row["run_id"]
        else:
            await process.claim()
        await reached(hold)
        del helm.hooks[node]
        await process.stop(**CUT)
        row = await fleet.row(run)
        assert (row["status"], row["stalls"]) == ("pending", 1)
    process = await fleet.start()
    await process.claim()
    row = await fleet.ended(run)
    assert (row["status"], row["handovers"], row["attempt"]) == ("success", len(nodes), len(nodes) + 1)


async def test_hand_overs_at_a_boundary_do_not_count_as_standing_still(fleet: Fleet, helm: Helm) -> None:
    idle = await fleet.start(max_concurrent_runs=0)
    run = (await idle.admit("line")).row["run_id"]
    for n in range(1, 6):
        process = await fleet.start(begin=False)
        stop.stop_claiming(process.runtime, "test")  # whatever it begins stops before its first node
        await process.claim()
        await fleet.reaches(run, "pending")
        await process.release()
        row = await fleet.row(run)
        assert (row["handovers"], row["stalls"], row["attempt"]) == (n, 0, 1)
    process = await fleet.start()
    await process.claim()
    assert (await fleet.ended(run))["status"] == "success"
    assert helm.done_by(run) == list("abcd")


async def test_there_is_an_end_to_hand_overs(fleet: Fleet, helm: Helm) -> None:
    idle = await fleet.start(max_concurrent_runs=0)
    run = (await idle.admit("line")).row["run_id"]
    for status in ("pending", "pending", "error"):
        process = await fleet.start(begin=False, max_handovers=2)
        stop.stop_claiming(process.runtime, "test")
        await process.claim()
        await fleet.reaches(run, status)
        await process.release()
    row = await fleet.row(run)
    assert row["error"]["error"] == "NoProgress"
    assert "Handed over 3 times" in row["error"]["message"]


async def test_the_next_run_of_a_thread_starts_when_a_guard_has_ended_the_one_before(
    fleet: Fleet, helm: Helm
) -> None:
    home = await fleet.start()
    run = (await home.admit("line")).row
    await fleet.ended(run["run_id"])
    stuck = (await home.admit("line", thread_id=run["thread_id"], after_seconds=60)).row["run_id"]
    await fleet.database.execute(
        "update slackwater.runs set status = 'running', stalls = 2, attempt = 3, fence = 7, ready = false, "
        "holds_thread = true, claimed_at = now(), progress = (select max(checkpoint_id) || ':0' from checkpoints), "
        "lease_until = now() - interval '1 second' where run_id = %s",
        [stuck],
    )
    waiting = (await home.admit("line", thread_id=run["thread_id"])).row["run_id"]
    assert await home.runtime.sweep() == 1
    row = await fleet.row(stuck)
    assert row["status"] == "error"
    assert (await fleet.ended(waiting))["status"] == "success"


async def test_a_checkpoint_that_cannot_be_read_keeps_nobody_from_ending_the_run(
    fleet: Fleet, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    run = (await process.admit("ask")).row
    await fleet.ended(run["run_id"])
    await fleet.idle(process)
    await fleet.database.execute(
        "update slackwater.runs set status = 'running', stalls = 2, fence = 1, holds_thread = true, claimed_at = now(), "
        "progress = (select max(checkpoint_id) || ':1' from checkpoints), "
        "lease_until = now() - interval '1 second'"
    )
    await fleet.database.execute("update checkpoint_blobs set type = 'unheard of'")
    assert await process.runtime.sweep() == 1
    row = await fleet.row(run["run_id"])
    assert row["status"] == "error"
    assert "in its first node" in row["error"]["message"]
    # and its thread says that it cannot be read
    thread = await fleet.thread(run["thread_id"])
    assert thread["status"] == "error"
    assert "cannot be read" in caplog.text


# The sweep


async def test_stateless_runs_are_deleted_with_all_that_is_theirs_when_they_have_lingered(
    fleet: Fleet, process: Process
) -> None:
    gone = [await fleet.reference(process, "nest", on_completion="delete") for _ in range(2)]
    kept = [
        await fleet.reference(process, "nest", on_completion="keep"),
        await fleet.reference(process, "nest"),
    ]
    await process.runtime.sweep()
    assert len(await fleet.database.fetch("select 1 from slackwater.runs")) == 4
    await fleet.database.execute(
        "update slackwater.runs set delete_at = clock_timestamp() where delete_at is not null"
    )
    await process.runtime.sweep()
    for table in ("slackwater.runs", "slackwater.threads", "slackwater.run_events", "checkpoints"):
        rows = await fleet.database.fetch(f"select distinct thread_id::text as id from {table}")  # type: ignore[arg-type]
        assert {row["id"] for row in rows} == {str(told.row["thread_id"]) for told in kept}, table
    for table in ("checkpoint_blobs", "checkpoint_writes"):
        rows = await fleet.database.fetch(f"select distinct thread_id as id from {table}")  # type: ignore[arg-type]
        assert not {row["id"] for row in rows} & {str(told.row["thread_id"]) for told in gone}, table


async def test_a_hidden_thread_stays_while_another_run_of_it_does(fleet: Fleet, process: Process) -> None:
    told = await fleet.reference(process, "line", on_completion="delete")
    thread_id = told.row["thread_id"]
    other = await fleet.reference(process, "line", thread_id=thread_id)
    await fleet.database.execute(
        "update slackwater.runs set delete_at = clock_timestamp() where delete_at is not null"
    )
    await process.runtime.sweep()
    assert await fleet.find(told.row["run_id"]) is None
    assert await fleet.find(other.row["run_id"]) is not None
    assert await fleet.thread(thread_id)


async def test_the_events_of_a_run_go_all_at_once_and_not_before_it_is_old(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "RUNS", 2)
    for name in ("_MARK_OLD", "_WIPE"):
        monkeypatch.setattr(retention, name, getattr(retention, name).replace("limit 200", "limit 2"))
    process = await fleet.start(event_retention_seconds=100)
    hold = helm.hold("z")
    live = (await process.admit("nest")).row["run_id"]
    await reached(hold)
    old = [(await fleet.reference(process, "line")).row["run_id"] for _ in range(5)]
    young = (await fleet.reference(process, "line")).row["run_id"]
    await fleet.database.execute(
        "update slackwater.run_events set created_at = created_at - interval '101 seconds'"
    )
    # one that is half old
    await fleet.database.execute(
        "update slackwater.run_events set created_at = now() where run_id = %s and seq > 3", [old[0]]
    )
    await fleet.database.execute(
        "update slackwater.runs set ended_at = ended_at - interval '101 seconds' where run_id = any(%s)",
        [old],
    )
    await process.runtime.sweep()
    left = await fleet.database.fetch("select distinct run_id from slackwater.run_events")
    assert {row["run_id"] for row in left} == {live, young}
    hold.let_go()
    assert (await process.read(live))[0].id.seq == 1


async def test_keys_go_after_a_day(fleet: Fleet, process: Process) -> None:
    for key in ("old", "new"):
        await fleet.ended((await process.admit("line", idempotency_key=key)).row["run_id"])
    await fleet.database.execute(
        "update slackwater.idempotency_keys set created_at = now() - interval '25 hours' where key = 'old'"
    )
    await process.runtime.sweep()
    assert await fleet.database.fetch("select key from slackwater.idempotency_keys") == [{"key": "new"}]


async def test_a_thread_on_which_a_run_begins_just_now_is_not_deleted_with_the_last_one(
    fleet: Fleet, process: Process
) -> None:
    run = (await process.admit("line", on_completion="delete")).row
    await fleet.ended(run["run_id"])
    await fleet.database.execute(
        "update slackwater.runs set delete_at = now() - interval '1 second', trimmed = 'gone'"
    )
    sweep: asyncio.Task[int] | None = None
    async with fleet.database.connection() as connection, connection.transaction():
        # GIVEN a run that is being admitted
        await connection.execute(
            "select 1 from slackwater.threads where thread_id = %s for update", [run["thread_id"]]
        )
        # WHEN the sweep comes to its thread
        sweep = asyncio.create_task(pruning.delete_due(process.database))
        await until_waiting(fleet.uri)
        await connection.execute(
            "insert into slackwater.runs (run_id, thread_id, owner, assistant_id, graph_id) "
            "values (%s, %s, %s, %s, 'line')",
            [uuid7(), run["thread_id"], OWNER, ASSISTANT],
        )
    # THEN only the run that is over goes
    assert await sweep == 1
    assert await fleet.find(run["run_id"]) is None
    assert (await fleet.thread(run["thread_id"]))["hidden"]
    assert await fleet.checkpoints(run["thread_id"])


async def test_a_hold_whose_process_died_is_dropped_and_the_thread_goes_on(
    fleet: Fleet, process: Process
) -> None:
    told = await fleet.reference(process, "line")
    thread_id = told.row["thread_id"]
    dead = await fleet.start(linked=True)
    hold = dead.runtime.hold(thread_id, owner=OWNER, graph_id="line", assistant_id=ASSISTANT)
    await hold.__aenter__()
    waiting = (await process.admit("line", thread_id=thread_id)).row
    assert waiting["status"] == "pending"
    await dead.die()
    await hold.__aexit__(None, None, None)
    await fleet.database.execute(
        "update slackwater.runs set lease_until = now() - interval '1 second' where kind = 'write'"
    )
    assert await process.runtime.sweep() == 1
    await process.claim()
    assert (await fleet.ended(waiting["run_id"]))["status"] == "success"
    assert await fleet.database.fetch("select 1 from slackwater.runs where kind = 'write'") == []


async def test_the_sweep_goes_on_after_trouble(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    process = await fleet.start(begin=False, sweep_seconds=0.02)
    calls: list[str] = []

    async def slow() -> None:
        calls.append("slow")
        raise TimeoutError("slow")

    async def strange() -> None:
        calls.append("strange")
        raise InvalidTextRepresentation("strange")

    process.runtime.sweeper.jobs = {"slow": slow, "strange": strange}
    await process.runtime.start()

    async def thrice() -> bool:
        return len(calls) > 5

    await fleet.until(thrice)
    assert calls[:4] == ["slow", "strange"] * 2
    assert [(r.event, r.job) for r in caplog.records if r.levelno >= logging.WARNING][:2] == [  # type: ignore[attr-defined]
        ("sweep.trouble", "slow"),
        ("sweep.failed", "strange"),
    ]


async def test_a_job_that_cancels_itself_is_not_the_end_of_all_sweeps(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    process = await fleet.start(begin=False, sweep_seconds=0.02)
    calls: list[str] = []

    async def cancelled() -> None:
        calls.append("cancelled")
        raise asyncio.CancelledError  # as a factory's library may, with a scope of its own

    async def other() -> None:
        calls.append("other")

    process.runtime.sweeper.jobs = {"cancelled": cancelled, "other": other}
    await process.runtime.start()

    async def twice() -> bool:
        return len(calls) > 3

    await fleet.until(twice)
    assert calls[:4] == ["cancelled", "other"] * 2
    assert ("sweep.failed", "cancelled") in {
        (getattr(r, "event", ""), getattr(r, "job", "")) for r in caplog.records
    }


async def test_a_loop_that_fails_is_logged_and_starts_again(
    fleet: Fleet, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await fleet.start(begin=False, poll_seconds=0.02)
    worker = process.runtime.worker
    calls: dict[str, int] = {"claim": 0, "wishes": 0}

    def failing(name: str, real: Any) -> Any:
        async def act(*arguments: Any) -> Any:
            calls[name] += 1
            if calls[name] == 1:
                raise TimeoutError("slow")
            if calls[name] == 2:
                raise InvalidTextRepresentation("strange")
            return await real(*arguments)

        return act

    monkeypatch.setattr(worker, "_take", failing("claim", worker._take))
    monkeypatch.setattr(worker, "_wishes", failing("wishes", worker._wishes))
    await process.runtime.start()

    async def recovered() -> bool:
        return min(calls.values()) > 2

    await fleet.until(recovered)
    events = {getattr(r, "event", "") for r in caplog.records}
    assert {
        "worker.claim.trouble",
        "worker.claim.failed",
        "worker.wishes.trouble",
        "worker.wishes.failed",
    } <= events
    await fleet.ended((await process.admit("line")).row["run_id"])


# Holds


async def hold_of(process: Process, thread_id: UUID, owner: str = OWNER) -> Any:
    return process.runtime.hold(thread_id, owner=owner, graph_id="line", assistant_id=ASSISTANT)


async def test_a_held_thread_is_nobody_elses(fleet: Fleet, helm: Helm) -> None:
    process, other = await fleet.start(poll_seconds=0.05), await fleet.start()
    thread_id = (await fleet.reference(process, "line")).row["thread_id"]
    before = (await fleet.thread(thread_id))["fence"]
    async with await hold_of(process, thread_id) as held:
        assert held.lease.fence == before + 1
        with pytest.raises(ThreadHeld):
            async with await hold_of(other, thread_id):
                pass
        run = (await process.admit("line", thread_id=thread_id)).row
        assert run["status"] == "pending"
        await other.cancel(thread_id, owner="mallory")
    assert (await fleet.ended(run["run_id"]))["status"] == "success"
    with pytest.raises(NotFound):
        async with await hold_of(process, uuid7()):
            pass
    with pytest.raises(NotFound):
        async with await hold_of(process, thread_id, "mallory"):
            pass
    hold = helm.hold("a")
    await process.admit("line", thread_id=thread_id)
    await reached(hold)
    with pytest.raises(ThreadHeld):
        async with await hold_of(process, thread_id):
            pass
    hold.let_go()


async def test_a_hold_is_let_go_of_whatever_comes_out_of_it(fleet: Fleet, process: Process) -> None:
    thread_id = (await fleet.reference(process, "line")).row["thread_id"]

    held = asyncio.Event()

    async def work(problem: BaseException | None) -> None:
        async with await hold_of(process, thread_id):
            if problem is not None:
                raise problem
            held.set()
            await asyncio.sleep(10)

    with pytest.raises(ValueError):
        await work(ValueError())
    task = asyncio.create_task(work(None))
    await asyncio.wait_for(held.wait(), 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await fleet.database.fetch("select 1 from slackwater.runs where kind = 'write'") == []


async def test_a_stale_hold_writes_nothing(fleet: Fleet, process: Process) -> None:
    told = await fleet.reference(process, "line")
    thread_id = told.row["thread_id"]
    before = await fleet.checkpoints(thread_id)
    async with await hold_of(process, thread_id) as held:
        await fleet.database.execute(
            "update slackwater.runs set lease_until = now() - interval '1 second' where kind = 'write'"
        )
        await (await fleet.start()).runtime.sweep()
        async with process.runtime.graphs.open(
            "line",
            owner="alice",
            config={"configurable": {"thread_id": str(thread_id)}},
            access="threads.update",
            checkpointer=held.saver,
            store=process.runtime.store,
        ) as graph:
            with pytest.raises(LeaseLost):
                await graph.aupdate_state(
                    {"configurable": {"thread_id": str(thread_id)}}, {"log": ["x"]}, "d"
                )
    assert await fleet.checkpoints(thread_id) == before


async def test_the_pool_waits_for_a_hold_and_a_process_that_leaves_takes_none(
    fleet: Fleet, process: Process
) -> None:
    thread_id = (await fleet.reference(process, "line")).row["thread_id"]
    async with await hold_of(process, thread_id):
        await process.drain()
        release = asyncio.create_task(process.release(10.0))
        await asyncio.sleep(0.1)
        assert not release.done()
    await release
    assert await fleet.database.fetch("select 1 from slackwater.runs where kind = 'write'") == []
    with pytest.raises(Draining):
        async with await hold_of(process, thread_id):
            pass


# What a thread shows


async def test_a_thread_that_nobody_works_on_is_read_again(fleet: Fleet, process: Process) -> None:
    told = await fleet.reference(process, "ask")
    thread_id = told.row["thread_id"]
    await fleet.database.execute(
        "update slackwater.threads set status = 'busy', \"values\" = null, interrupts = '{}'"
    )
    await process.runtime.sweep()
    thread = await fleet.thread(thread_id)
    assert (thread["status"], thread["values"], thread["interrupts"]) == (
        "interrupted",
        told.thread["values"],
        told.thread["interrupts"],
    )
    await process.runtime.refresh_thread(uuid7())  # one that is gone is no trouble


async def test_a_thread_without_checkpoints_is_idle_and_shows_nothing(fleet: Fleet, process: Process) -> None:
    told = await fleet.reference(process, "line")
    thread_id = told.row["thread_id"]
    await fleet.database.execute("delete from checkpoints")
    await process.runtime.refresh_thread(thread_id)
    thread = await fleet.thread(thread_id)
    assert (thread["status"], thread["values"]) == ("idle", None)


async def test_a_thread_of_another_servers_graph_keeps_what_it_shows(fleet: Fleet, process: Process) -> None:
    told = await fleet.reference(process, "ask")
    thread_id = told.row["thread_id"]
    other = await fleet.start(project="renamed.json")
    await other.runtime.refresh_thread(thread_id)
    thread = await fleet.thread(thread_id)
    assert (thread["status"], thread["values"], thread["interrupts"]) == (
        "interrupted",
        told.thread["values"],
        told.thread["interrupts"],
    )
    # but is busy no longer than somebody is at work
    await fleet.database.execute("update slackwater.threads set status = 'busy'")
    await other.runtime.sweep()
    assert (await fleet.thread(thread_id))["status"] == "busy"
    await other.runtime.refresh_thread(thread_id)
    assert (await fleet.thread(thread_id))["status"] == "idle"


async def test_an_error_stays_until_the_state_was_written_since(fleet: Fleet, process: Process) -> None:
    told = await fleet.reference(process, "boom")
    thread_id = told.row["thread_id"]
    assert told.thread["status"] == "error"
    await process.runtime.refresh_thread(thread_id)
    thread = await fleet.thread(thread_id)
    assert (thread["status"], thread["error"]) == ("error", told.thread["error"])
    await process.runtime.refresh_thread(thread_id, clear_error=True)
    thread = await fleet.thread(thread_id)
    assert (thread["status"], thread["error"]) == ("interrupted", None)


async def test_what_a_run_has_shown_since_is_not_overwritten_by_an_older_reading(
    fleet: Fleet, process: Process, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await fleet.reference(process, "line")
    thread_id = told.row["thread_id"]
    runtime = process.runtime
    real = runtime._read_thread

    async def slow(*arguments: Any) -> Any:
        facts = await real(*arguments)
        await fleet.reference(process, "line", thread_id=thread_id)
        return facts

    monkeypatch.setattr(runtime, "_read_thread", slow)
    await runtime.refresh_thread(thread_id)
    assert (await fleet.thread(thread_id))["values"] == {"log": list("abcd") * 2}


async def test_the_state_of_an_ended_run_that_could_not_be_read_is_read_when_the_database_is_back(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slackwater.runtime.execution import outcome

    process = await fleet.start()
    calls: list[int] = []

    async def facts(*arguments: Any) -> Any:
        calls.append(1)
        raise TimeoutError("away")

    monkeypatch.setattr(outcome, "facts_of", facts)
    told = await fleet.reference(process, "ask")
    assert calls == [1]
    assert (told.row["status"], told.thread["status"]) == ("success", "interrupted")
    assert told.thread["values"] == {"log": ["a"]}
    # and by the sweep, if it was away for longer
    refresh = process.runtime.refresh_thread
    monkeypatch.setattr(process.runtime, "refresh_thread", facts)
    told = await fleet.reference(process, "ask")
    assert told.thread["status"] == "busy"
    monkeypatch.setattr(process.runtime, "refresh_thread", refresh)
    await process.runtime.sweep()
    assert (await fleet.thread(told.row["thread_id"]))["status"] == "interrupted"


async def test_a_state_that_postgres_does_not_take_ends_by_the_guard_and_is_logged(
    fleet: Fleet, process: Process, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slackwater.runtime.fenced import settlement, settlements

    async def refuse(*arguments: Any, **options: Any) -> Any:
        raise InvalidTextRepresentation("not JSON")

    ends = {module: module.end for module in (settlement, settlements)}
    for module in ends:
        monkeypatch.setattr(module, "end", refuse)
    run = (await process.admit("line")).row
    # The first attempt that stores its last checkpoint makes progress: that is the first, or the second if it held it to the end.
    for attempt in range(1, 5):

        async def left(attempt: int = attempt) -> bool:
            row = await fleet.row(run["run_id"])
            return run["run_id"] not in process.runtime.worker.live and row["attempt"] == attempt

        await fleet.until(left)
        assert "run not settled" in caplog.text
        await fleet.expire(run["run_id"])
        await process.runtime.sweep()
        if (await fleet.row(run["run_id"]))["status"] == "error":
            assert attempt >= 3
            break
        await process.claim()
    row = await fleet.ended(run["run_id"])
    assert (row["status"], row["error"]["error"]) == ("error", "NoProgress")
    for module, end in ends.items():
        monkeypatch.setattr(module, "end", end)
