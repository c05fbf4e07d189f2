"""The window of an invocation: what comes too late for it leaves nothing behind that a freeze could catch."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helm import Helm
from psycopg import OperationalError
from rig import ASSISTANT, OWNER, Fleet, Process, new_run

from slackwater.api.runs import service
from slackwater.identity.principal import Principal
from slackwater.runtime.fenced import settlement, settlements
from slackwater.runtime.queue import claims

# By its path: to pytest `handler` is the folder with its tests.
_SPEC = importlib.util.spec_from_file_location(
    "invocation_of_handler", Path(__file__).parents[4] / "handler" / "slackwater_lambda" / "invocation.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
_module = sys.modules[_SPEC.name] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_module)
Invocation = _module.Invocation


@pytest.fixture(autouse=True)
def _on_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")


class Wakes:
    """Counts wake-ups, each of which takes a moment."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.count = 0
        self._seconds = seconds

    async def prepare(self) -> None:
        pass

    async def wake(self, count: int) -> None:
        await asyncio.sleep(self._seconds)
        self.count += count


def open_invocation(process: Process, seconds: float) -> Any:
    now = time.monotonic()
    invocation = Invocation("one", now, now + seconds)
    invocation.open(process.runtime, process.runtime.settings)
    return invocation


async def waiting_run(fleet: Fleet) -> tuple[Process, dict[str, Any]]:
    """A run that nobody works on, for lack of a window."""
    other = await fleet.start()
    return other, dict((await other.admit("line")).row)


@pytest.mark.parametrize("late", [0.1, 0.7])
async def test_a_claim_that_is_answered_after_the_window_is_no_run_in_the_freezer(
    fleet: Fleet, helm: Helm, late: float
) -> None:
    process = await fleet.start(linked=True)
    _, run = await waiting_run(fleet)
    await process.runtime.worker._take(0)  # LangGraph is imported
    assert process.link is not None
    helm.hold("a")
    # GIVEN a claim that is on its way when the time has come
    invocation = open_invocation(process, 2.0)
    process.link.hang()
    work = asyncio.create_task(invocation.work())
    await asyncio.sleep(invocation.ask_at - time.monotonic() + late)
    process.link.flow()
    await work
    # THEN the environment is not frozen with the run: it has been handed over, or the process ends
    may_freeze = await invocation.close()
    assert may_freeze is not bool(process.runtime.worker.live)
    if may_freeze:
        assert (await fleet.row(run["run_id"]))["status"] == "pending"


async def test_an_environment_is_not_frozen_with_a_run_whose_state_could_not_be_written(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_answer(*_: Any, **__: Any) -> Any:
        raise OperationalError

    process = await fleet.start()
    _, run = await waiting_run(fleet)
    hold = helm.hold("b")
    invocation = open_invocation(process, 3.0)
    work = asyncio.create_task(invocation.work())
    await asyncio.wait_for(hold.reached.wait(), 15)
    # WHEN the database does not answer any more
    for module in (settlement, settlements):
        monkeypatch.setattr(module, "hand_over", no_answer)
    await work
    assert (await fleet.row(run["run_id"]))["status"] == "running"
    assert not await invocation.close()
    monkeypatch.undo()


async def test_a_wake_up_that_a_late_request_asks_for_is_out_before_the_freeze(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_module, "REST_SECONDS", 10.0)
    process = await fleet.start()
    wakes = process.runtime.wakeups.waker = Wakes(0.2)
    invocation = open_invocation(process, 30.0)
    assert await invocation.close(hold_seconds=0.0)
    # GIVEN a request that starts a run when the window is closed already
    admitted = await process.admit("line")
    assert admitted.claimed is None
    assert await invocation.close()
    # THEN somebody else has been told of it
    assert wakes.count == 1


async def test_a_queue_that_does_not_answer_costs_no_environment(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_module, "FREEZE_SECONDS", 1.0)
    process = await fleet.start()
    _, run = await waiting_run(fleet)
    process.runtime.wakeups.waker = Wakes(10)
    helm.hold("b")
    invocation = open_invocation(process, 4.0)
    await invocation.work()
    assert await invocation.close()
    # THEN the environment can be frozen, before it would be ended for having taken too long
    assert invocation.left() > 0.05
    assert (await fleet.row(run["run_id"]))["status"] == "pending"


async def test_no_statement_is_in_flight_when_an_environment_is_frozen(fleet: Fleet) -> None:
    process = await fleet.start(linked=True)
    _, run = await waiting_run(fleet)
    assert process.link is not None
    invocation = open_invocation(process, 30.0)
    process.link.delay = 0.1
    # GIVEN a reader of a run that is elsewhere, who leaves while the table is being asked
    reading = asyncio.create_task(process.read(run["run_id"]))
    while not process.database._statements.in_flight:
        await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert process.database._statements.in_flight
    assert await invocation.close()
    assert not process.database._statements.in_flight


async def test_a_thread_that_is_locked_for_a_moment_does_not_cost_the_wake_up(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_over, claim = asyncio.Event(), claims.claim

    async def watched(*args: Any, **options: Any) -> list[claims.ClaimedRun]:
        claimed = await claim(*args, **options)
        passed_over.set()
        return claimed

    process = await fleet.start()
    _, run = await waiting_run(fleet)
    monkeypatch.setattr(claims, "claim", watched)
    invocation = open_invocation(process, 30.0)
    # GIVEN somebody who does something else to the thread when the wake-up comes
    async with fleet.database.connection() as connection, connection.transaction():
        await connection.execute(
            "select 1 from slackwater.threads where thread_id = %s for update", [run["thread_id"]]
        )
        work = asyncio.create_task(invocation.work())
        await asyncio.wait_for(passed_over.wait(), 10)
    await work
    assert (await fleet.row(run["run_id"]))["status"] == "success"


async def test_an_invocation_does_not_wait_for_what_it_cannot_claim(fleet: Fleet) -> None:
    process = await fleet.start()
    _, run = await waiting_run(fleet)
    invocation = open_invocation(process, 30.0)
    async with fleet.database.connection() as connection, connection.transaction():
        await connection.execute(
            "select 1 from slackwater.threads where thread_id = %s for update", [run["thread_id"]]
        )
        await asyncio.wait_for(invocation.work(), 15)


# What makes a run ready tells those who could take it: on Lambda nobody listens to the database.


async def test_a_run_that_came_during_a_state_update_is_told_of_when_that_is_over(fleet: Fleet) -> None:
    process, other = await fleet.start(), await fleet.start()
    wakes = process.runtime.wakeups.waker = Wakes()
    open_invocation(other, 30.0)
    first = await other.admit("line")
    thread_id = first.row["thread_id"]
    await fleet.ended(first.row["run_id"])
    async with process.runtime.hold(thread_id, owner=OWNER, graph_id="line", assistant_id=ASSISTANT):
        assert (await other.admit("line", thread_id=thread_id)).row["status"] == "pending"
    await process.runtime.wakeups.flush(5)
    assert wakes.count == 1


async def test_a_run_that_is_due_behind_a_delayed_one_is_told_of(fleet: Fleet) -> None:
    process, other = await fleet.start(), await fleet.start()
    wakes = process.runtime.wakeups.waker = Wakes()
    # GIVEN an invocation that has room, and a thread whose next run is due in an hour
    invocation = open_invocation(process, 30.0)
    delayed = (await process.admit("line", after_seconds=3600)).row
    assert wakes.count == 0
    # WHEN another comes that is due now
    due = await process.admit("line", thread_id=delayed["thread_id"])
    assert due.claimed is None
    assert await invocation.close(hold_seconds=0.0)
    # THEN another environment is woken, and works on that one only
    assert wakes.count == 1
    await open_invocation(other, 30.0).work()
    assert (await fleet.row(due.row["run_id"]))["status"] == "success"
    assert (await fleet.row(delayed["run_id"]))["status"] == "pending"


@pytest.mark.parametrize("strategy", ["enqueue", "interrupt"])
async def test_a_run_that_has_to_wait_wakes_nobody(fleet: Fleet, helm: Helm, strategy: str) -> None:
    process = await fleet.start()
    wakes = process.runtime.wakeups.waker = Wakes()
    open_invocation(process, 30.0)
    hold = helm.hold("a")
    first = await process.admit("line")
    await asyncio.wait_for(hold.reached.wait(), 15)
    # WHEN its thread is busy
    waiting = await process.admit("line", thread_id=first.row["thread_id"], strategy=strategy)
    hold.let_go()
    await fleet.ended(first.row["run_id"])
    await fleet.idle(process)
    await process.runtime.wakeups.flush(5)
    # THEN the end of the one before tells of it, once
    assert wakes.count == 1
    assert (await fleet.row(waiting.row["run_id"]))["ready"]


async def test_of_a_batch_those_that_are_due_are_told_of(fleet: Fleet) -> None:
    process = await fleet.start(max_concurrent_runs=1)
    wakes = process.runtime.wakeups.waker = Wakes()
    open_invocation(process, 30.0)
    await process.runtime.admit_batch([new_run("line", after_seconds=3600) for _ in range(3)])
    await process.runtime.wakeups.flush(5)
    assert wakes.count == 0
    await process.runtime.admit_batch([new_run("line") for _ in range(12)])
    await process.runtime.wakeups.flush(5)
    assert wakes.count == 2  # of eleven runs


async def test_a_run_behind_a_writer_that_is_gone_is_told_of(fleet: Fleet) -> None:
    process, other = await fleet.start(), await fleet.start()
    wakes = process.runtime.wakeups.waker = Wakes()
    open_invocation(other, 30.0)
    first = await other.admit("line")
    thread_id = first.row["thread_id"]
    await fleet.ended(first.row["run_id"])
    whose: dict[str, Any] = {"owner": OWNER, "graph_id": "line", "assistant_id": ASSISTANT}
    async with other.runtime.hold(thread_id, **whose) as held:
        waiting = (await other.admit("line", thread_id=thread_id)).row
        # WHEN its lease is over and somebody looks
        await fleet.expire(held.lease.run_id)
        await process.runtime.sweep()
        await process.runtime.wakeups.flush(5)
        assert (await fleet.row(waiting["run_id"]))["ready"]
        assert wakes.count == 1


@pytest.mark.parametrize("held", ["a", None], ids=["cut", "at a boundary"])
async def test_a_pause_records_its_reason(fleet: Fleet, helm: Helm, held: str | None) -> None:
    process = await fleet.start()
    invocation = open_invocation(process, 3.0 if held else 30.0)
    hold = helm.hold("a")
    run = (await process.admit("line")).row
    await asyncio.wait_for(hold.reached.wait(), 15)
    close = asyncio.create_task(invocation.close(hold_seconds=60 if held else 0))
    if held is None:
        await asyncio.sleep(0.1)
        hold.let_go()
    await close
    row = await fleet.row(run["run_id"])
    assert (row["status"], row["stopped"], row["reason"]) == (
        ("pending", "cut", "deadline") if held else ("pending", "drained", "invocation over")
    )


async def test_a_run_behind_one_that_is_deleted_is_told_of(fleet: Fleet, helm: Helm) -> None:
    process, other = await fleet.start(), await fleet.start(poll_seconds=0.1)
    wakes = process.runtime.wakeups.waker = other.runtime.wakeups.waker = Wakes()
    open_invocation(other, 30.0)
    helm.hold("a")
    first = await other.admit("line")
    other.runtime.worker._taking = False
    thread_id = first.row["thread_id"]
    await other.admit("line", thread_id=thread_id)
    services: Any = SimpleNamespace(database=process.database, runtime=process.runtime)
    await service.delete(services, Principal(OWNER), str(thread_id), str(first.row["run_id"]))
    await fleet.idle(other)
    for each in (process, other):
        await each.runtime.wakeups.flush(5)
    assert wakes.count == 1
