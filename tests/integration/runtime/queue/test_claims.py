"""Who works on what: claims, leases, take-overs, and everything else that locks rows, all at once."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from uuid import UUID

import psycopg
import pytest
from helm import Helm
from psycopg import errors
from rig import BRISK, CUT, OWNER, Fleet, Process, new_run

from slackwater.api.runs import queries
from slackwater.kit.ids import uuid7
from slackwater.postgres.shares import Shares
from slackwater.runtime.process.hold import ThreadHeld
from slackwater.runtime.queue import claims
from slackwater.runtime.queue.cancel import CancelAction
from slackwater.runtime.queue.states import Outcome
from tests.support.sessions import until_waiting


async def reached(hold: object) -> None:
    await asyncio.wait_for(hold.reached.wait(), 15)  # type: ignore[attr-defined]


# Claims


async def test_many_claimers_take_each_run_once(fleet: Fleet) -> None:
    idle = await fleet.start(max_concurrent_runs=0)
    threads = [uuid7() for _ in range(30)]
    runs = [
        (await idle.admit("line", thread_id=thread)).row["run_id"] for thread in threads for _ in range(2)
    ]
    claimers = [await fleet.start(begin=False) for _ in range(4)]
    taken: list[tuple[UUID, int]] = []

    async def take(process: Process) -> None:
        for _ in range(20):
            found = await claims.claim(
                process.database,
                worker=process.runtime.worker_id,
                graphs=["line"],
                limit=4,
                lease_seconds=60,
            )
            taken.extend((run.run_id, run.fence) for run in found)
            assert len(found) <= 4

    await asyncio.gather(*(take(process) for process in claimers))
    assert len(taken) == len({run for run, _ in taken}) == len(threads)
    assert {run for run, _ in taken} == set(runs[::2])
    for run, fence in taken:
        row = await fleet.row(run)
        assert (row["status"], row["fence"], row["attempt"]) == ("running", fence, 1)


async def test_only_runs_of_graphs_that_are_loaded_are_claimed(fleet: Fleet) -> None:
    idle = await fleet.start(max_concurrent_runs=0)
    run = (await idle.admit("ask")).row["run_id"]
    other = await fleet.start(project="renamed.json")
    assert "ask" not in other.runtime.graphs.ids
    assert await other.claim() == 0
    assert (await fleet.row(run))["status"] == "pending"
    await (await fleet.start()).claim()
    await fleet.ended(run)


async def test_the_longest_due_is_taken_first_and_none_before_it_is_due(fleet: Fleet) -> None:
    idle = await fleet.start(max_concurrent_runs=0)
    late = (await idle.admit("line", after_seconds=30)).row["run_id"]
    runs = [(await idle.admit("line")).row["run_id"] for _ in range(3)]
    process = await fleet.start(begin=False)
    options = {"worker": "w", "graphs": ["line"], "lease_seconds": 60.0}
    order = []
    for _ in range(4):
        order += [run.run_id for run in await claims.claim(process.database, limit=1, **options)]  # type: ignore[arg-type]
    assert order == runs
    assert (await fleet.row(late))["status"] == "pending"


@pytest.mark.parametrize("statement", [claims._CLAIM, claims._CLAIM_ALONE], ids=["shared", "alone"])
async def test_a_claim_that_another_one_has_overtaken_leaves_the_thread_alone(
    fleet: Fleet, process: Process, statement: str
) -> None:
    # GIVEN a claim that has chosen its run, and waits
    idle = await fleet.start(max_concurrent_runs=0)
    run = (await idle.admit("line")).row
    slow = statement.replace(
        "), mine as (", "), pause as (select pg_advisory_xact_lock(7) from locked), mine as ("
    )
    slow = slow.replace(
        "from locked l", "from (select * from locked where (select count(*) from pause) > 0 offset 0) l"
    )
    slow = slow.replace("for update skip locked", "")  # so that the other one is not held up by it
    params = {
        "worker": "slow",
        "graphs": ["line"],
        "limit": 1,
        "lease": 60,
        "occupied": [],
        "max_running": None,
    }
    params |= Shares().parameters([])

    async with await psycopg.AsyncConnection.connect(fleet.uri) as somebody:
        await somebody.execute("select pg_advisory_xact_lock(7)")
        claim = asyncio.create_task(fleet.database.fetch(slow, params))
        await until_waiting(fleet.uri)
        # WHEN another process has claimed and ended the run in between
        await process.claim()
        told = await fleet.told(process, run["run_id"], run["thread_id"])
    # THEN it takes nothing, and the thread shows what it showed
    assert [row["run_id"] for row in await claim] == [None]
    assert await fleet.thread(run["thread_id"]) == told.thread
    assert told.thread["status"] == "idle"


# Leases


async def test_a_lease_is_renewed_for_as_long_as_the_run_takes(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(**{**BRISK, "lease_seconds": 2.4})
    other = await fleet.start(**{**BRISK, "lease_seconds": 2.4})
    hold = helm.hold("b")
    run = (await process.admit("line")).row["run_id"]
    first = (await fleet.row(run))["lease_until"]

    async def over() -> bool:
        return bool(await fleet.database.fetch("select 1 where %s < clock_timestamp()", [first]))

    await fleet.until(over, what="the end of the first lease")
    hold.let_go()
    row = await fleet.ended(run)
    assert (row["status"], row["attempt"], row["fence"]) == ("success", 1, 1)
    assert other.runtime.worker.live == {}


async def test_a_renewal_that_fails_is_repeated_before_the_lease_is_over(
    fleet: Fleet, helm: Helm, caplog: pytest.LogCaptureFixture
) -> None:
    process = await fleet.start(linked=True, statement_seconds=5.0, **{**BRISK, "lease_seconds": 4.8})
    other = await fleet.start(**{**BRISK, "lease_seconds": 4.8})
    hold = helm.hold("b")
    run = (await process.admit("line")).row["run_id"]
    await reached(hold)
    # WHEN the database is away for half a lease, and what was open is lost
    assert process.link is not None
    first = (await fleet.row(run))["lease_until"]
    process.link.hang()
    await asyncio.sleep(2.4)
    process.link.drop()
    process.link.flow()

    async def renewed() -> bool:
        return bool((await fleet.row(run))["lease_until"] > first)

    await fleet.until(renewed)
    # THEN the run is still its own
    hold.let_go()
    row = await fleet.ended(run)
    assert (row["status"], row["attempt"], row["fence"]) == ("success", 1, 1)
    assert other.runtime.worker.live == {}


async def test_a_process_that_cannot_renew_stops_its_runs_before_anybody_else_may_take_them(
    fleet: Fleet, helm: Helm
) -> None:
    process = await fleet.start(linked=True, statement_seconds=10.0, **{**BRISK, "lease_seconds": 2.4})
    other = await fleet.start(**{**BRISK, "lease_seconds": 2.4})
    stopped_at: list[float] = []

    async def until_cancelled(config: object) -> None:
        due = time.monotonic()
        try:
            while True:
                due = time.monotonic() + 0.02
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            stopped_at.append(min(due, time.monotonic()))  # no later, but for a loop that stood still
            raise

    helm.hooks["b"] = until_cancelled
    run = (await process.admit("line")).row["run_id"]

    async def begun() -> bool:
        return "b" in helm.begun_by(run)

    await fleet.until(begun)
    attempt = process.runtime.worker.live[run]
    await attempt.writer.flush()
    # WHEN the database does not answer this process any more
    assert process.link is not None
    process.link.hang()
    async with asyncio.timeout(10):
        while not stopped_at:
            await asyncio.sleep(0.01)
    del helm.hooks["b"]
    # THEN its node was stopped while the lease was still its own, and the attempt ends although nothing answers
    assert stopped_at[0] < attempt.lease.deadline
    assert attempt.task is not None
    await asyncio.wait_for(asyncio.shield(attempt.task), 10)
    assert attempt.outcome is Outcome.LOST
    row = await fleet.ended(run)
    assert (row["status"], row["attempt"], row["worker"]) == ("success", 2, None)
    assert helm.done_by(run) == list("abcd")
    await fleet.idle(other)
    process.link.flow()


async def test_a_process_that_slept_through_its_lease_writes_nothing_and_begins_nothing(
    fleet: Fleet, helm: Helm
) -> None:
    process, other = await fleet.start(linked=True), await fleet.start()
    hold = helm.hold("b")
    run = (await process.admit("line")).row
    await reached(hold)
    attempt = process.runtime.worker.live[run["run_id"]]
    # GIVEN a take-over behind its back, as after a SIGSTOP
    await fleet.expire(run["run_id"])
    del helm.hooks["b"]
    assert await other.runtime.sweep() == 1
    await other.claim()
    told = await fleet.told(other, run["run_id"], run["thread_id"])
    before = await fleet.checkpoints(run["thread_id"])
    # WHEN it wakes up in the middle of its node
    attempt.lease.deadline = time.monotonic() - 1
    hold.let_go()
    assert attempt.task is not None
    await asyncio.wait_for(asyncio.shield(attempt.task), 5)
    # THEN
    assert attempt.outcome is Outcome.LOST
    assert attempt.settled is None
    assert await fleet.checkpoints(run["thread_id"]) == before
    assert [str(event.id) for event in told.events] == [
        f"{event['fence']}-{event['seq']}" for event in await fleet.events(run["run_id"])
    ]
    assert helm.done_by(run["run_id"]).count("c") == 1
    assert (await fleet.row(run["run_id"]))["fence"] == 2


async def test_a_takeover_needs_an_expired_lease_and_happens_once(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start()
    # They would claim what they have taken over before it can be looked at.
    others = [await fleet.start(max_concurrent_runs=0) for _ in range(3)]
    hold = helm.hold("b")
    run = (await process.admit("line")).row["run_id"]
    await reached(hold)
    assert [await other.runtime.sweep() for other in others] == [0, 0, 0]
    await fleet.expire(run)
    assert sum(await asyncio.gather(*(other.runtime.sweep() for other in others))) == 1
    row = await fleet.row(run)
    assert (row["status"], row["stopped"], row["stalls"], row["handovers"]) == ("pending", "lost", 1, 1)
    hold.let_go()


# Cancel


async def test_a_live_run_is_cancelled_from_another_process_before_a_renewal(
    fleet: Fleet, helm: Helm
) -> None:
    process = await fleet.start(poll_seconds=1.0)
    other = await fleet.start()
    helm.hold("b")
    run = (await process.admit("line")).row
    await asyncio.wait_for(helm.hooks["b"].reached.wait(), 15)  # type: ignore[attr-defined]
    found = await other.cancel(run["thread_id"], run["run_id"])
    assert list(found.live) == [run["run_id"]]
    row = await fleet.ended(run["run_id"])  # long before a renewal would have told of it
    assert (row["status"], row["worker"]) == ("interrupted", None)
    thread = await fleet.thread(run["thread_id"])
    assert (thread["status"], thread["values"], thread["error"]["error"]) == (
        "interrupted",
        {"log": ["a"]},
        "UserInterrupt",
    )


async def test_a_hint_makes_it_faster_than_the_poll(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(wake="listen", lease_seconds=90, poll_seconds=30)
    other = await fleet.start(max_concurrent_runs=0)
    await fleet.until_listening(1)
    helm.hold("b")
    run = (await other.admit("line")).row
    await asyncio.wait_for(helm.hooks["b"].reached.wait(), 15)  # type: ignore[attr-defined]
    await other.cancel(run["thread_id"], run["run_id"])
    assert (await fleet.ended(run["run_id"], 5))["status"] == "interrupted"
    await fleet.idle(process)


@pytest.mark.parametrize("action", list(CancelAction))
async def test_a_run_whose_owner_is_dead_is_cancelled_by_the_request_itself(
    fleet: Fleet, helm: Helm, action: CancelAction
) -> None:
    process, other = await fleet.start(linked=True), await fleet.start()
    hold = helm.hold("b")
    run = (await process.admit("line", durability="sync")).row
    await reached(hold)
    await process.die()
    await fleet.expire(run["run_id"])
    await other.cancel(run["thread_id"], run["run_id"], action=action)
    thread = await fleet.thread(run["thread_id"])
    row = await fleet.find(run["run_id"])
    if action is CancelAction.ROLLBACK:
        assert row is None
        assert (thread["status"], thread["values"]) == ("idle", None)
        assert await fleet.checkpoints(run["thread_id"]) == []
    else:
        assert row is not None
        assert row["status"] == "interrupted"
        assert (thread["status"], thread["values"]) == ("interrupted", {"log": ["a"]})
        assert thread["error"]["error"] == "UserInterrupt"


@pytest.mark.parametrize("action", list(CancelAction))
async def test_a_wish_that_its_owner_did_not_live_to_hear_is_carried_out_by_the_sweep(
    fleet: Fleet, helm: Helm, action: CancelAction
) -> None:
    process, other = await fleet.start(linked=True), await fleet.start()
    hold = helm.hold("b")
    run = (await process.admit("line")).row
    await reached(hold)
    assert process.link is not None
    process.link.hang()
    await other.cancel(run["thread_id"], run["run_id"], action=action)
    assert (await fleet.row(run["run_id"]))["status"] == "running"
    await process.die()
    await fleet.expire(run["run_id"])
    assert await other.runtime.sweep() == 1
    row = await fleet.find(run["run_id"])
    assert (row is None) == (action is CancelAction.ROLLBACK)
    assert row is None or row["status"] == "interrupted"
    assert (await fleet.thread(run["thread_id"]))["status"] != "busy"


async def test_the_first_wish_wins(fleet: Fleet, process: Process, helm: Helm) -> None:
    other = await fleet.start()
    hold = helm.hold("b")
    run = (await process.admit("line")).row
    await reached(hold)
    await other.cancel(run["thread_id"], run["run_id"], action=CancelAction.INTERRUPT)
    await process.cancel(run["thread_id"], run["run_id"], action=CancelAction.ROLLBACK)
    row = await fleet.ended(run["run_id"])
    assert (row["status"], row["cancel_action"]) == ("interrupted", "interrupt")


@pytest.mark.parametrize("action", list(CancelAction))
async def test_a_wish_that_came_while_the_run_was_handed_over_is_carried_out_by_whoever_claims_it(
    fleet: Fleet, process: Process, helm: Helm, action: CancelAction
) -> None:
    hold = helm.hold("b")
    run = (await process.admit("line")).row
    await reached(hold)
    drain = asyncio.create_task(process.drain())
    await asyncio.sleep(0.05)
    await fleet.database.execute(
        "update slackwater.runs set cancel_action = %s, cancel_reason = 'late' where run_id = %s",
        [action.value, run["run_id"]],
    )
    hold.let_go()
    await drain
    other = await fleet.start()
    await other.claim()

    async def over() -> bool:
        row = await fleet.find(run["run_id"])
        return row is None or row["status"] == "interrupted"

    await fleet.until(over)
    assert helm.done_by(run["run_id"]) == ["a", "b"]
    assert ((await fleet.find(run["run_id"])) is None) == (action is CancelAction.ROLLBACK)

    async def rests() -> bool:
        return (await fleet.thread(run["thread_id"]))["status"] != "busy"

    await fleet.until(rests)
    thread = await fleet.thread(run["thread_id"])
    if action is CancelAction.INTERRUPT:
        assert (thread["status"], thread["values"]) == ("interrupted", {"log": ["a", "b"]})


async def test_a_pending_run_is_cancelled_at_once(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(max_concurrent_runs=0)
    run = (await process.admit("line", after_seconds=60)).row
    stateless = (await process.admit("line", on_completion="delete")).row
    found = await process.cancel(run["thread_id"], run["run_id"])
    assert found.ended == (run["run_id"],)
    assert (await fleet.row(run["run_id"]))["status"] == "interrupted"
    assert (await fleet.thread(run["thread_id"]))["status"] == "idle"
    await process.cancel(stateless["thread_id"])
    assert (await fleet.row(stateless["run_id"]))["delete_at"] is not None


async def test_a_node_that_swallows_the_cancellation_does_not_take_the_run_any_further(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    hold = helm.hold("ignores")
    run = (await process.admit("stubborn")).row
    await reached(hold)
    await process.cancel(run["thread_id"], run["run_id"])
    hold.let_go()
    row = await fleet.ended(run["run_id"])
    assert row["status"] == "interrupted"
    assert helm.done_by(run["run_id"]) == ["a", "ignores"]


@pytest.mark.parametrize("how", ["cancel", "drain"])
async def test_an_error_that_a_library_makes_of_a_cancellation_is_not_the_runs_own(
    fleet: Fleet, process: Process, helm: Helm, how: str
) -> None:
    hold = helm.hold("goes_wrong")
    run = (await process.admit("flaky")).row
    await reached(hold)
    if how == "cancel":
        await process.cancel(run["thread_id"], run["run_id"])
        assert (await fleet.ended(run["run_id"]))["status"] == "interrupted"
        return
    await process.stop(**CUT)
    row = await fleet.row(run["run_id"])
    assert (row["status"], row["stopped"]) == ("pending", "cut")
    del helm.hooks["goes_wrong"]
    other = await fleet.start()
    await other.claim()
    assert (await fleet.ended(run["run_id"]))["status"] == "success"


async def test_a_node_that_cancels_itself_has_failed(fleet: Fleet, process: Process, helm: Helm) -> None:
    async def cancel_itself(config: object) -> None:
        raise asyncio.CancelledError

    helm.hooks["b"] = cancel_itself
    run = (await process.admit("line")).row
    row = await fleet.ended(run["run_id"])
    assert (row["status"], row["error"]["error"]) == ("error", "NodeCancelledError")


async def test_a_run_that_is_stopped_before_its_first_turn_is_settled_all_the_same(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    idle = await fleet.start(max_concurrent_runs=0)
    for action in CancelAction:
        run = (await idle.admit("line")).row
        (claimed,) = await claims.claim(
            process.database,
            worker=process.runtime.worker_id,
            graphs=["line"],
            limit=1,
            lease_seconds=60,
        )
        attempt = process.runtime.worker.begin(claimed)
        cancel = asyncio.create_task(process.cancel(run["thread_id"], run["run_id"], action=action))
        from slackwater.runtime.queue.cancel import CancelWish
        from slackwater.runtime.queue.states import StopWish

        attempt.stop(StopWish.CANCEL, CancelWish(action, "at once"))
        await cancel
        assert attempt.task is not None
        await asyncio.wait_for(attempt.task, 5)
        assert attempt.outcome is Outcome.CANCELLED
        assert run["run_id"] not in process.runtime.worker.live
        row = await fleet.find(run["run_id"])
        if row is None:  # its wish was stored before its end was: it is as if it had never been
            assert action is CancelAction.ROLLBACK
        else:
            assert row["status"] == "interrupted"
        assert helm.begun_by(run["run_id"]) == []


# Everything at once


async def test_everything_that_locks_rows_at_once_deadlocks_nowhere(
    fleet: Fleet, helm: Helm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    settings = {**BRISK, "poll_seconds": 0.02, "sweep_seconds": 0.1, "event_retention_seconds": 0.3}
    processes = [await fleet.start(**settings) for _ in range(3)]
    threads = [uuid7() for _ in range(6)]
    until = time.monotonic() + 3
    trouble: list[BaseException] = []

    async def pause(config: object) -> None:
        await asyncio.sleep(random.uniform(0, 0.01))

    for node in "abcd":
        helm.hooks[node] = pause

    async def act() -> None:
        while time.monotonic() < until:
            process, thread = random.choice(processes), random.choice(threads)
            try:
                match random.randrange(10):
                    case 0 | 1 | 2:
                        strategy = random.choice(["enqueue", "interrupt", "rollback", "reject"])
                        await process.admit(
                            "line",
                            thread_id=thread,
                            strategy=strategy,
                            on_completion=random.choice([None, "delete"]),
                        )
                    case 3:
                        await process.cancel(thread, action=random.choice(list(CancelAction)))
                    case 4:
                        rows = await fleet.database.fetch(
                            "select run_id from slackwater.runs where thread_id = %s limit 1", [thread]
                        )
                        for row in rows:
                            await queries.delete(process.database, OWNER, thread, row["run_id"])
                            process.runtime.forget(row["run_id"])
                    case 5:
                        await process.runtime.worker.renew_now()
                        await process.runtime.sweep()
                    case 6:
                        async with process.runtime.hold(
                            thread, owner=OWNER, graph_id="line", assistant_id=uuid7()
                        ):
                            await asyncio.sleep(0.002)
                    case 7:
                        await process.runtime.refresh_thread(thread)
                        await fleet.database.execute(
                            "update slackwater.runs set delete_at = clock_timestamp() where delete_at is not null"
                        )
                    case 8:
                        for attempt in process.runtime.worker.attempts[:3]:
                            attempt.ask_to_drain("a stop")
                    case 9:
                        rows = await queries.active(process.database, OWNER, "all", after=None)
                        run_ids = {row["thread_id"]: row["run_ids"] for row in rows}
                        action = random.choice(list(CancelAction))
                        await process.runtime.cancel_many(OWNER, run_ids, action, "all of them")
            except errors.OperationalError as problem:
                trouble.append(problem)
            except Exception as problem:
                if type(problem).__name__ not in ("ThreadBusy", "NotFound", ThreadHeld.__name__):
                    trouble.append(problem)

    await asyncio.gather(*(act() for _ in range(8)))
    assert not trouble, Counter(map(repr, trouble))

    async def quiet() -> bool:
        return not await fleet.database.fetch(
            "select 1 from slackwater.runs where status in ('pending', 'running')"
        )

    await fleet.until(quiet, 30)
    await processes[0].runtime.sweep()
    assert await fleet.database.fetch("select 1 from slackwater.threads where status = 'busy'") == []
    for word in ("deadlock", "DeadlockDetected", "Traceback", "never retrieved"):
        assert word not in caplog.text
    bad = await fleet.database.fetch("select status, error from slackwater.runs where status = 'error'")
    assert bad == []
    # Nor was there one of which nobody says a word, since what it broke off was sent again: a session tells when it ends.
    for process in processes:
        await process.stop()

    async def gone() -> bool:
        return not await fleet.database.fetch(
            "select 1 from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
            "and application_name like 'slackwater p_'"
        )

    await fleet.until(gone, what="the sessions of the processes are gone")
    counted = await fleet.database.fetch(
        "select deadlocks from pg_stat_database where datname = current_database()"
    )
    assert counted == [{"deadlocks": 0}]


async def test_a_database_that_restarts_under_a_run_costs_it_nothing(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(**BRISK)
    runs = []
    for node in "abcd":
        hold = helm.hold(node)
        new = new_run("line", durability=random.choice(["sync", "async", "exit"]))
        runs.append(new.run_id)
        await process.runtime.admit(new)
        await reached(hold)
        # WHEN all its sessions are terminated in the middle of a node
        ended = await fleet.database.fetch(
            "select pid from pg_stat_activity where application_name like %s and pg_terminate_backend(pid)",
            [f"%{process.name}"],
        )
        pids = [row["pid"] for row in ended]
        await fleet.until(lambda: _no_longer(fleet, pids))  # noqa: B023
        hold.let_go()
        del helm.hooks[node]
    for run in runs:
        row = await fleet.ended(run)
        assert (row["status"], row["attempt"]) == ("success", 1)
        assert helm.done_by(run) == list("abcd")


async def _no_longer(fleet: Fleet, pids: list[int]) -> bool:
    return not await fleet.database.fetch("select 1 from pg_stat_activity where pid = any(%s)", [pids])
