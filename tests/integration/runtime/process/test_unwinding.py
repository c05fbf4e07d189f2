"""An attempt whose lease is gone, and whose node takes its time to end."""

from __future__ import annotations

import asyncio

import pytest
from helm import Helm
from rig import Fleet, Process

from slackwater.runtime.execution.attempt import UNWIND_SECONDS, Attempt
from slackwater.runtime.queue import claims
from slackwater.runtime.queue.cancel import CancelAction, CancelWish
from slackwater.runtime.queue.states import Outcome, StopWish


class SlowEnd:
    """A node that cleans up after its cancellation, until it is let go."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.clean = asyncio.Event()

    async def __call__(self, config: object) -> None:
        self.reached.set()
        try:
            await asyncio.sleep(30)
        finally:
            self.cancelled.set()
            await asyncio.wait_for(self.clean.wait(), 10)


async def lost(fleet: Fleet, process: Process, helm: Helm) -> tuple[dict[str, object], Attempt, SlowEnd]:
    """A run that was taken over from this process, whose node has not ended yet."""
    end = helm.hooks["b"] = SlowEnd()
    row = dict((await process.admit("line")).row)
    await asyncio.wait_for(end.reached.wait(), 15)
    attempt = process.runtime.worker.live[row["run_id"]]
    await fleet.expire(row["run_id"])
    taker = await fleet.start("taker", max_concurrent_runs=0)
    assert await taker.runtime.sweep() == 1
    await process.runtime.worker.renew_now()
    await asyncio.wait_for(end.cancelled.wait(), 5)
    del helm.hooks["b"]
    return row, attempt, end


async def test_an_attempt_that_ends_late_leaves_its_successor_in_the_books(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    row, first, end = await lost(fleet, process, helm)
    hold = helm.hold("b")
    worker = process.runtime.worker
    # GIVEN a claim of the same run that was answered here all the same
    (claimed,) = await claims.claim(
        process.database, worker=process.runtime.worker_id, graphs=["line"], limit=1, lease_seconds=60
    )
    second = worker.begin(claimed)
    await asyncio.wait_for(hold.reached.wait(), 15)
    # WHEN the first one has ended
    end.clean.set()
    assert first.task is not None
    await asyncio.wait_for(asyncio.shield(first.task), 5)
    # THEN the second one is renewed, cancelled and drained as before
    assert first.outcome is Outcome.LOST
    assert worker.live == {row["run_id"]: second}
    assert worker.attempts == [second]
    deadline = second.lease.deadline
    await worker.renew_now()
    await fleet.until(lambda: second.lease.deadline > deadline)
    hold.let_go()
    assert (await fleet.ended(row["run_id"]))["status"] == "success"  # type: ignore[arg-type]


async def test_a_run_is_not_claimed_where_it_still_unwinds(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    row, first, end = await lost(fleet, process, helm)
    assert await process.claim() == 0
    assert process.runtime.worker.attempts == [first]
    # Its room is taken, too: the node still works.
    assert process.runtime.worker.room == process.runtime.settings.max_concurrent_runs - 1
    # WHEN it has ended
    end.clean.set()
    assert first.task is not None
    await asyncio.wait_for(asyncio.shield(first.task), 5)
    # THEN it is claimed at once: the end has said so
    assert (await fleet.ended(row["run_id"]))["status"] == "success"  # type: ignore[arg-type]
    assert helm.begun_by(row["run_id"]).count("b") == 2


async def test_others_claim_a_run_that_unwinds_here(fleet: Fleet, process: Process, helm: Helm) -> None:
    row, first, end = await lost(fleet, process, helm)
    other = await fleet.start()
    assert (await fleet.ended(row["run_id"]))["status"] == "success"  # type: ignore[arg-type]
    # AND the thread's next run begins where nothing of it unwinds
    admitted = await process.admit("line", thread_id=row["thread_id"])
    assert admitted.claimed is None
    assert await process.claim() == 0
    assert await other.claim() == 1
    assert (await fleet.ended(admitted.row["run_id"]))["status"] == "success"
    assert first.task is not None
    assert not first.task.done()
    end.clean.set()


async def test_readers_do_not_wait_for_what_unwinds(fleet: Fleet, process: Process, helm: Helm) -> None:
    row, first, end = await lost(fleet, process, helm)
    reader = asyncio.create_task(process.read(row["run_id"]))  # type: ignore[arg-type]
    await fleet.start()
    events = await reader
    assert events[-1].name == "values"
    assert first.task is not None
    assert not first.task.done()
    end.clean.set()


async def test_a_drain_waits_for_what_unwinds_and_reports_it(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    row, first, end = await lost(fleet, process, helm)
    await fleet.start()
    await fleet.ended(row["run_id"])  # type: ignore[arg-type]
    drain = asyncio.create_task(process.drain(5.0, drain_reserve=1.0))
    await asyncio.sleep(0.1)
    assert not drain.done()
    end.clean.set()
    report = await drain
    assert first.task is not None
    assert first.task.done()
    assert [(run["run_id"], run["fence"], run["handed_over"]) for run in report["runs"]] == [
        (str(row["run_id"]), 1, False)
    ]


@pytest.mark.parametrize("unwinds", [True, False], ids=["whose nodes end", "with a node that does not"])
async def test_a_cancelled_run_ends_although_its_last_put_is_on_a_silent_connection(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch, unwinds: bool
) -> None:
    monkeypatch.setitem(UNWIND_SECONDS, StopWish.CANCEL, 0.3)
    process = await fleet.start(linked=True, statement_seconds=60.0)
    hold = helm.hold("b")
    node = SlowEnd()
    if not unwinds:
        helm.hooks["c"] = node
    run = (await process.admit("line")).row["run_id"]
    await asyncio.wait_for(hold.reached.wait(), 15)
    # GIVEN connections that are open and say nothing any more
    assert process.link is not None
    process.link.hang_open()
    hold.let_go()
    await fleet.until(lambda: _done(helm, run))
    await asyncio.sleep(0.1)
    if not unwinds:
        await asyncio.wait_for(node.reached.wait(), 15)
    # WHEN the run is cancelled
    process.runtime.worker.live[run].stop(StopWish.CANCEL, CancelWish(CancelAction.INTERRUPT, "enough"))
    # THEN it ends long before the database's time is over
    assert (await fleet.ended(run, timeout=20))["status"] == "interrupted"
    assert node.cancelled.is_set() is not unwinds
    node.clean.set()


async def _done(helm: Helm, run: object) -> bool:
    return "b" in helm.done_by(run)
