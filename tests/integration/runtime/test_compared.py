"""What each statement and each clock compares: small things that decide who owns a run, and that no larger test needs."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from helm import Helm, Hold
from psycopg.errors import LockNotAvailable
from rig import Fleet, Process, settle_alone

from slackwater.errors import LeaseLost
from slackwater.kit.budget import Budget
from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database
from slackwater.project.ttl import TtlPolicy
from slackwater.runtime.execution import executor, loaded, outcome
from slackwater.runtime.execution.attempt import Attempt
from slackwater.runtime.fenced import settlement
from slackwater.runtime.fenced.settlement import HandOver, Whose
from slackwater.runtime.fenced.statements import REQUIRE_OWNED
from slackwater.runtime.process import stop
from slackwater.runtime.queue import claims, pruning
from slackwater.runtime.queue.cancel import CancelAction, CancelWish
from slackwater.runtime.queue.lease import Lease
from slackwater.runtime.queue.states import Outcome, Stopped, StopWish
from tests.support.sessions import until_waiting

DELAY = 0.3

THREAD = "insert into slackwater.threads (thread_id, owner, fence) values (%s, 'me', 1)"
RUNNING = """
insert into slackwater.runs (run_id, thread_id, owner, assistant_id, graph_id, status, holds_thread, worker, fence, lease_until)
values (%s, %s, 'me', %s, 'line', 'running', true, 'w', 1, clock_timestamp() + interval '1 minute')"""


async def running(database: Database) -> UUID:
    """A run that worker `w` owns by fence 1."""
    run_id, thread_id = uuid7(), uuid7()
    await database.execute(THREAD, (thread_id,))
    await database.execute(RUNNING, (run_id, thread_id, uuid4()))
    return run_id


@pytest.mark.parametrize(("worker", "found"), [("w", 1), ("another", 0)])
async def test_a_renewal_finds_only_what_its_own_worker_holds(
    database: Database, worker: str, found: int
) -> None:
    lease = Lease(await running(database), uuid7(), 1, worker=worker, deadline=time.monotonic() + 60)

    parameters = claims.renewal([lease], worker=worker, lease_seconds=60)

    assert len(await database.fetch(claims.RENEW, parameters)) == found


async def test_a_lease_that_was_claimed_counts_from_before_the_statement(fleet: Fleet) -> None:
    other, process = await fleet.start(max_concurrent_runs=0), await fleet.start(linked=True)
    await other.admit("line")
    assert process.link is not None
    process.link.delay = DELAY

    (run,) = await claims.claim(process.database, worker="w", graphs=["line"], limit=1, lease_seconds=60)

    # Sent so long ago at least: whoever counts from the answer believes in a lease that another may have taken.
    assert run.lease.deadline <= time.monotonic() - DELAY + 60


async def test_a_lease_that_was_renewed_counts_from_before_the_statement(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(linked=True, lease_seconds=60.0)
    hold = helm.hold("a")
    await process.admit("line")
    await asyncio.wait_for(hold.reached.wait(), 15)
    (attempt,) = process.runtime.worker.live.values()
    before = attempt.lease.deadline
    assert process.link is not None
    process.link.delay = DELAY

    await process.runtime.worker.renew_now()
    await fleet.until(lambda: before < attempt.lease.deadline)

    assert attempt.lease.deadline <= time.monotonic() - DELAY + 60
    process.link.delay = 0
    hold.let_go()


async def test_a_wish_for_a_later_attempt_does_not_stop_an_earlier_one(
    fleet: Fleet, process: Process, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = helm.hold("a")
    run = (await process.admit("line")).row
    await asyncio.wait_for(hold.reached.wait(), 15)
    (attempt,) = process.runtime.worker.live.values()
    heard = asyncio.Event()

    async def wishes(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        heard.set()
        return [{"run_id": run["run_id"], "fence": 2, "cancel_action": "interrupt", "cancel_reason": "x"}]

    monkeypatch.setattr(claims, "wishes", wishes)
    process.runtime.worker._check_wishes.set()
    await asyncio.wait_for(heard.wait(), 5)
    await asyncio.sleep(0)

    assert attempt.wish is None
    hold.let_go()
    assert (await fleet.ended(run["run_id"]))["status"] == "success"


async def test_a_suspect_that_has_outlived_a_lease_lets_the_next_one_begin(fleet: Fleet) -> None:
    other = await fleet.start(max_concurrent_runs=0)
    for _ in range(3):
        await other.admit("line")
    await fleet.database.execute("update slackwater.runs set stalls = 2")

    async def take() -> int:
        found = await claims.claim(fleet.database, worker="w", graphs=["line"], limit=5, lease_seconds=60)
        return len(found)

    # One after the other, so that the one that kills its process is known by that
    assert (await take(), await take()) == (1, 0)
    await fleet.database.execute(
        "update slackwater.runs set claimed_at = claimed_at - interval '61 seconds' where status = 'running'"
    )
    assert (await take(), await take()) == (1, 0)


async def test_nobody_takes_a_run_over_in_the_middle_of_a_fenced_write(database: Database) -> None:
    run_id = await running(database)
    async with database.connection() as writer, writer.transaction():
        await writer.execute(REQUIRE_OWNED, {"run_id": run_id, "fence": 1, "worker": "w"})
        async with database.connection() as taker:
            await taker.execute("set lock_timeout = '100ms'")
            with pytest.raises(LockNotAvailable):
                await taker.execute(
                    "update slackwater.runs set fence = 2, worker = 'x' where run_id = %s", (run_id,)
                )
            await taker.execute("reset lock_timeout")


async def test_who_takes_over_needs_a_lease_that_is_over(fleet: Fleet, process: Process, helm: Helm) -> None:
    hold = helm.hold("a")
    run = (await process.admit("line")).row
    await asyncio.wait_for(hold.reached.wait(), 15)
    (attempt,) = process.runtime.worker.live.values()

    whose = Whose(run["run_id"], run["thread_id"], run["owner"], attempt.run.fence, process.runtime.worker_id)
    settled = await settlement.hand_over(
        fleet.database, HandOver(whose, Stopped.LOST, "lease_expired", 1000, ""), expired=True
    )

    assert not settled.owned
    assert (await fleet.row(run["run_id"]))["status"] == "running"
    hold.let_go()


async def test_a_thread_is_not_read_again_while_a_run_is_on_it(fleet: Fleet, process: Process) -> None:
    other = await fleet.start(max_concurrent_runs=0)
    first = (await process.admit("line")).row
    await fleet.ended(first["run_id"])
    await other.admit("line", thread_id=first["thread_id"])

    await other.runtime.refresh_thread(first["thread_id"])

    assert (await fleet.thread(first["thread_id"]))["status"] == "busy"


@pytest.mark.parametrize("begun", [True, False], ids=["running", "waiting"])
async def test_a_rollback_leaves_the_thread_with_the_error_of_the_run_before(
    fleet: Fleet, process: Process, helm: Helm, begun: bool
) -> None:
    # GIVEN a thread whose run has failed, and another run on it
    failed = (await process.admit("boom", {"log": []})).row
    await fleet.ended(failed["run_id"])
    before = await fleet.thread(failed["thread_id"])
    assert before["status"] == "error"
    hold = helm.hold("a")
    second = (
        await process.admit("line", thread_id=failed["thread_id"], after_seconds=0.0 if begun else 60.0)
    ).row
    if begun:
        await asyncio.wait_for(hold.reached.wait(), 15)

    # WHEN that one is rolled back
    await process.cancel(second["thread_id"], second["run_id"], action=CancelAction.ROLLBACK)

    # THEN the thread is as it was
    async def gone() -> bool:
        return await fleet.find(second["run_id"]) is None

    await fleet.until(gone)

    async def shown() -> bool:
        return (await fleet.thread(failed["thread_id"]))["status"] != "busy"

    await fleet.until(shown)
    after = await fleet.thread(failed["thread_id"])
    assert [after[key] for key in ("status", "error", "values")] == [
        before[key] for key in ("status", "error", "values")
    ]


async def test_the_first_wish_stands(process: Process, helm: Helm) -> None:
    hold = helm.hold("a")
    await process.admit("line")
    await asyncio.wait_for(hold.reached.wait(), 15)
    (attempt,) = process.runtime.worker.live.values()
    first = CancelWish(CancelAction.INTERRUPT, "first")

    attempt.stop(StopWish.CANCEL, first)
    attempt.stop(StopWish.CANCEL, CancelWish(CancelAction.ROLLBACK, "second"))
    attempt.stop(StopWish.TIMEOUT)

    assert (attempt.wish, attempt.cancel_wish) == (StopWish.CANCEL, first)


async def test_a_claim_in_flight_has_its_room(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or an admission that comes meanwhile begins one run too many."""
    process = await fleet.start(max_concurrent_runs=5)
    left: list[int] = []

    async def claim(*args: Any, **kwargs: Any) -> list[Any]:
        left.append(process.runtime.worker.room)
        return []

    monkeypatch.setattr(claims, "claim", claim)
    await process.claim(3)

    assert left == [2]
    assert process.runtime.worker.room == 5


async def test_runs_that_end_each_alone_leave_connections_to_others(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await fleet.start(pool_size=4, pool_max_size=4)
    settle_alone(monkeypatch)
    now, most = 0, 0
    write = outcome._write

    async def counted(*args: Any) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            await asyncio.sleep(0.02)
            return await write(*args)
        finally:
            now -= 1

    monkeypatch.setattr(outcome, "_write", counted)
    runs = [(await process.admit("line")).row["run_id"] for _ in range(6)]
    for run_id in runs:
        await fleet.ended(run_id)

    assert most == 1  # of four, of which two are the writers' and one is a hint's


async def test_a_process_that_leaves_has_shut_the_gate(fleet: Fleet) -> None:
    process = await fleet.start()

    await stop.release(process.runtime, Budget.of(3.0, drain_reserve=1.0, hard_reserve=0.3))

    assert process.database.gate.is_shut


async def test_a_run_ends_after_what_langgraph_still_does_of_it(
    fleet: Fleet, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    async def cut(attempt: Any, *args: Any) -> None:
        async def leave() -> None:
            await asyncio.sleep(0.2)
            seen.append((await fleet.row(attempt.run.run_id))["status"])

        raise asyncio.CancelledError(asyncio.create_task(leave(), name="leave"))

    monkeypatch.setattr(executor, "_stream", cut)
    run = (await process.admit("line")).row
    await fleet.ended(run["run_id"])

    assert seen == ["running"]


async def test_a_thread_that_gets_a_run_just_now_does_not_expire(fleet: Fleet, process: Process) -> None:
    run = (await process.admit("line")).row
    await fleet.ended(run["run_id"])
    thread_id = run["thread_id"]
    before = await fleet.checkpoints(thread_id)
    for statement in (
        "update slackwater.threads set ttl_minutes = 1, ttl_strategy = 'delete', updated_at = updated_at - interval '1 day'",
        "update slackwater.rounds set begun_at = '-infinity'",
    ):
        await fleet.database.execute(statement)
    # GIVEN an admission that has locked the thread and is not committed yet
    async with fleet.database.connection() as connection, connection.transaction():
        await connection.execute(
            "select 1 from slackwater.threads where thread_id = %s for update", (thread_id,)
        )
        await connection.execute(
            "insert into slackwater.runs (run_id, thread_id, owner, assistant_id, graph_id) values (%s, %s, %s, %s, 'line')",
            (uuid7(), thread_id, run["owner"], run["assistant_id"]),
        )
        # WHEN the sweep finds the thread overdue meanwhile
        expiring = asyncio.create_task(pruning.expire(process.database, TtlPolicy()))
        await until_waiting(fleet.uri)
    await expiring
    # THEN nothing of it is gone
    assert await fleet.checkpoints(thread_id) == before
    assert (await fleet.thread(thread_id))["thread_id"] == thread_id


async def held(process: Process, helm: Helm) -> tuple[Attempt, Hold]:
    """A run that is in its first node."""
    hold = helm.hold("a")
    await process.admit("line")
    await asyncio.wait_for(hold.reached.wait(), 15)
    (attempt,) = process.runtime.worker.live.values()
    return attempt, hold


async def test_a_write_that_is_refused_stops_its_run_at_once(process: Process, helm: Helm) -> None:
    """LangGraph looks at its puts only on its way out."""
    attempt, hold = await held(process, helm)

    assert attempt.writer.on_lost is not None
    attempt.writer.on_lost()

    assert attempt.wish is StopWish.LEASE_LOST
    hold.let_go()


async def test_what_comes_out_of_a_graph_without_a_lease_is_no_end_of_its_run(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    attempt, hold = await held(process, helm)
    attempt.lease.lost = True

    assert executor._outcome_of(attempt, ValueError("a node's own")) is Outcome.LOST
    attempt.lease.lost = False
    hold.let_go()
    await fleet.ended(attempt.run.run_id)


async def test_no_superstep_begins_after_the_attempt_is_over(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    attempt, hold = await held(process, helm)
    attempt.lease.over = True

    with pytest.raises(LeaseLost):
        await executor._check_before_next(SimpleNamespace(writer=attempt.writer, files=None), False)
    attempt.lease.over = False
    hold.let_go()
    await fleet.ended(attempt.run.run_id)


async def test_a_run_is_at_its_end_only_when_its_writer_is(
    process: Process, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the last put was taken is known when it is answered, not when the graph has ended."""
    attempt, hold = await held(process, helm)
    written = attempt.writer.written

    async def at_last() -> None:
        await written()
        if attempt.outcome is not None:
            attempt.writer.failure = LeaseLost()

    monkeypatch.setattr(attempt.writer, "written", at_last)
    monkeypatch.setattr(attempt.writer, "hold_to_the_end", lambda *, ends: None)
    hold.let_go()
    assert attempt.task is not None
    await asyncio.wait({attempt.task}, timeout=10)

    assert attempt.outcome is Outcome.LOST
    attempt.writer.take_events()
    await written()


async def test_ids_of_a_run_come_after_the_head_that_it_found(
    fleet: Fleet, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork reads an older checkpoint only, and would not know."""
    first = (await process.admit("line")).row
    await fleet.ended(first["run_id"])
    head = (await fleet.row(first["run_id"]))["last_checkpoint_id"]
    passed: list[str] = []
    monkeypatch.setattr(loaded, "advance_past", passed.append)

    second = (await process.admit("line", thread_id=first["thread_id"])).row

    assert passed == [head]
    await fleet.ended(second["run_id"])
