"""The stop: every run handed over, finished, or left to its lease, within one budget, whatever its nodes do."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from helm import Helm
from rig import DEFER, Fleet, Process

from slackwater.errors import ExitCode
from slackwater.kit.budget import Budget
from slackwater.runtime.events.journal import Ending
from slackwater.runtime.process import stop
from slackwater.runtime.process.stop import Stop
from slackwater.runtime.queue import claims
from slackwater.runtime.queue.states import Outcome, Phase

SHORT = {"drain_reserve": 0.6, "hard_reserve": 0.3}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop that is late does not end the process of the tests."""
    monkeypatch.setattr("slackwater.runtime.process.watchdog.OVERRUN_SECONDS", 60.0)


async def reached(hold: object) -> None:
    await asyncio.wait_for(hold.reached.wait(), 15)  # type: ignore[attr-defined]


def outcomes(report: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    return {run["run_id"]: (run["outcome"], run["handed_over"]) for run in report["runs"]}


async def test_each_run_leaves_a_stop_as_what_really_happened_to_it(fleet: Fleet, helm: Helm) -> None:
    process, other = await fleet.start(), await fleet.start()
    helm.hold("in_2")  # cut
    helm.hold("q")  # asks, in time
    b, d = helm.hold("b"), helm.hold("fails")
    runs = {
        name: (await process.admit(graph)).row
        for name, graph in {"drained": "line", "cut": "nest", "asks": "ask", "fails": "boom"}.items()
    }
    for node in ("in_2", "q", "b", "fails"):
        await reached(helm.hooks[node])
    for hold in (b, d, helm.hooks["q"]):
        asyncio.get_running_loop().call_later(0.1, hold.let_go)  # type: ignore[attr-defined]
    began = time.monotonic()
    report = await process.stop(6.0, drain_reserve=5.0, hard_reserve=0.5)
    assert time.monotonic() - began < 8
    assert report["reason"] == "SIGTERM"
    assert report["budget_ms"] == 6000
    assert outcomes(report) == {
        str(runs["drained"]["run_id"]): ("drained", True),
        str(runs["cut"]["run_id"]): ("cancelled", True),
        str(runs["asks"]["run_id"]): ("finished", False),
        str(runs["fails"]["run_id"]): ("finished", False),
    }
    rows = {name: await fleet.row(run["run_id"]) for name, run in runs.items()}
    assert {name: (row["status"], row["stopped"], row["stalls"]) for name, row in rows.items()} == {
        "drained": ("pending", "drained", 0),
        "cut": ("pending", "cut", 1),
        "asks": ("success", None, 0),
        "fails": ("error", None, 0),
    }
    for line in report["runs"]:
        row = next(row for row in rows.values() if str(row["run_id"]) == line["run_id"])
        assert (line["fence"], line["attempt"], line["thread_id"]) == (1, 1, str(row["thread_id"]))
        assert line["checkpoint_id"] == row["last_checkpoint_id"]
        assert line["ms"] > 0
    assert (await fleet.thread(runs["asks"]["thread_id"]))["status"] == "interrupted"
    # THEN what goes on goes on from there
    helm.hooks.clear()
    await other.claim()
    for name in ("drained", "cut"):
        assert (await fleet.ended(runs[name]["run_id"]))["status"] == "success"
    assert helm.done_by(runs["drained"]["run_id"]) == list("abcd")
    assert helm.done_by(runs["cut"]["run_id"]) == ["a", "in_1", "in_2", "in_3", "z"]


async def test_a_run_whose_sync_node_cannot_be_cancelled_is_handed_over_last(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    hold = helm.hold_sync("s")
    run = (await process.admit("sync_line")).row
    await asyncio.to_thread(hold.reached.wait, 15)
    reader = asyncio.create_task(process.read(run["run_id"]))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    report = await process.drain(**DEFER)
    assert time.monotonic() - began < 5
    # THEN it is still ours, with a reader that has been let go
    assert (await fleet.row(run["run_id"]))["status"] == "running"
    assert outcomes(report) == {str(run["run_id"]): ("left", False)}
    await asyncio.gather(reader, return_exceptions=True)
    assert reader.exception() is not None
    # until the very end
    await stop.release(process.runtime, process.budget)
    (attempt,) = process.runtime.worker.live.values()
    assert await stop.settle_deferred(process.runtime, process.budget)
    row = await fleet.row(run["run_id"])
    assert (row["status"], row["stopped"]) == ("pending", "cut")
    assert attempt.settled == "pending"
    hold.go.set()
    process.over = True
    await process.database.close(1)


async def test_a_sync_node_that_returns_in_time_is_drained_at_its_boundary(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    hold = helm.hold_sync("s")
    run = (await process.admit("sync_line")).row
    await asyncio.to_thread(hold.reached.wait, 15)
    asyncio.get_running_loop().call_later(0.1, hold.go.set)
    report = await process.stop(10.0, **SHORT)
    assert outcomes(report) == {str(run["run_id"]): ("drained", True)}
    other = await fleet.start()
    await other.claim()
    await fleet.ended(run["run_id"])
    assert helm.done_by(run["run_id"]) == ["a", "s", "c"]


async def test_a_node_that_ignores_its_cancellation_and_returns_late_is_settled_once(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    hold = helm.hold("ignores")
    run = (await process.admit("stubborn")).row
    await reached(hold)
    await process.drain(1.0, **SHORT)
    (attempt,) = process.runtime.worker.live.values()
    assert (attempt.deferred, attempt.outcome) == (True, Outcome.CUT)
    assert attempt.journal.ending is Ending.GONE_ON
    # WHEN it returns after all, before the process has left
    hold.let_go()
    assert attempt.task is not None
    await asyncio.wait({attempt.task}, timeout=5)
    assert attempt.settled == "pending"
    before = await fleet.row(run["run_id"])
    assert await stop.settle_deferred(process.runtime, Budget.of(1, drain_reserve=0.5, hard_reserve=0.2))
    assert await fleet.row(run["run_id"]) == before
    assert helm.begun_by(run["run_id"])[-1] != "z"


async def test_the_gate_refuses_late_writers_without_a_word(
    fleet: Fleet, process: Process, helm: Helm, caplog: pytest.LogCaptureFixture
) -> None:
    hold = helm.hold("ignores")
    run = (await process.admit("stubborn")).row
    await reached(hold)
    await process.drain(1.0, **SHORT)
    (attempt,) = process.runtime.worker.live.values()
    await stop.release(process.runtime, process.budget)
    before = await fleet.checkpoints(run["thread_id"])
    # WHEN its node returns behind the shut gate
    hold.let_go()
    assert attempt.task is not None
    await asyncio.wait({attempt.task}, timeout=5)
    assert attempt.task.done()
    assert await fleet.checkpoints(run["thread_id"]) == before
    process.over = True
    await process.database.close(1)
    for word in ("PoolClosed", "never retrieved", "Traceback"):
        assert word not in caplog.text


async def test_a_second_stop_changes_nothing_and_new_runs_are_left_to_others(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    hold = helm.hold("b")
    await process.admit("line")
    await reached(hold)
    first = asyncio.create_task(process.drain())
    await asyncio.sleep(0.05)
    assert (process.runtime.phase, process.runtime.worker.stop_reason) == (Phase.DRAINING, "SIGTERM")
    stop.stop_claiming(process.runtime, "another reason")
    assert process.runtime.worker.stop_reason == "SIGTERM"
    assert not process.runtime.worker.has_room
    hold.let_go()
    assert len((await first)["runs"]) == 1
    assert process.runtime.closed
    assert (await process.drain())["runs"] == []


async def test_a_run_that_was_claimed_while_the_stop_began_is_handed_over_before_its_first_node(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    idle = await fleet.start(max_concurrent_runs=0)
    run = (await idle.admit("line")).row["run_id"]
    (claimed,) = await claims.claim(
        process.database, worker=process.runtime.worker_id, graphs=["line"], limit=1, lease_seconds=60
    )
    process.runtime.worker.claim_in_flight = True
    drain = asyncio.create_task(process.drain())
    await asyncio.sleep(0.1)
    assert not drain.done()
    process.runtime.worker.begin(claimed)
    process.runtime.worker.claim_in_flight = False
    report = await drain
    assert outcomes(report) == {str(run): ("drained", True)}
    assert helm.begun_by(run) == []
    other = await fleet.start()
    await other.claim()
    assert (await fleet.ended(run))["status"] == "success"


async def test_no_time_at_all_still_hands_over_what_can_be(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    hold = helm.hold("b")
    run = (await process.admit("line")).row["run_id"]
    await reached(hold)
    began = time.monotonic()
    await process.drain(0.0, **SHORT)
    assert time.monotonic() - began < 3

    async def rests() -> bool:
        return (await fleet.row(run))["status"] == "pending"

    await fleet.until(rests)


async def test_a_database_that_hangs_cannot_hold_up_the_stop(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(linked=True, statement_seconds=20.0)
    hold = helm.hold("b")
    runs = [(await process.admit("line")).row["run_id"] for _ in range(3)]
    for run in runs:
        await fleet.until(lambda: _begun(helm, run))  # noqa: B023
    assert process.link is not None
    process.link.hang()
    hold.let_go()
    began = time.monotonic()
    report = await process.drain(1.2, **SHORT)
    assert time.monotonic() - began < 5
    assert {line["outcome"] for line in report["runs"]} == {"left"}
    await process.release()
    assert time.monotonic() - began < 8
    process.link.flow()


async def test_what_hangs_in_a_batch_is_neither_said_again_by_who_leaves_nor_waited_for(
    fleet: Fleet, helm: Helm
) -> None:
    process = await fleet.start(linked=True, statement_seconds=20.0)
    hold = helm.hold("b")
    runs = [(await process.admit("line")).row["run_id"] for _ in range(3)]
    for run in runs:
        await fleet.until(lambda: _begun(helm, run))  # noqa: B023
    assert process.link is not None
    process.link.hang()
    hold.let_go()
    await asyncio.sleep(0.1)
    process.over = True
    budget = Budget.of(4.0, drain_reserve=1.0, hard_reserve=0.3)
    await stop.release(process.runtime, budget)
    assert budget.left() > 0
    assert process.database.gate.in_flight == 0
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "group-commit"]
    await process.database.close(budget.left())
    process.link.flow()


async def test_runs_that_store_together_by_a_silent_connection_are_handed_over_by_another(
    fleet: Fleet, helm: Helm
) -> None:
    process, other = await fleet.start(linked=True, statement_seconds=20.0), await fleet.start()
    hold = helm.hold("b")
    runs = [(await process.admit("line")).row["run_id"] for _ in range(3)]
    for run in runs:
        await fleet.until(lambda: _begun(helm, run))  # noqa: B023
    assert process.link is not None
    process.link.hang_open()
    hold.let_go()
    report = await process.stop(9.0, drain_reserve=7.8, hard_reserve=0.5)
    assert set(outcomes(report).values()) == {("drained", True)}
    # THEN what they had done is stored
    await other.claim()
    for run in runs:
        assert (await fleet.ended(run))["status"] == "success"
        assert helm.done_by(run) == list("abcd")


async def _begun(helm: Helm, run: object) -> bool:
    return "b" in helm.begun_by(run)


# The life of the process around it


def stopping_of(process: Process, **settings: float) -> Stop:
    values = {"grace_seconds": 10.0, "drain_reserve_seconds": 0.6, "hard_reserve_seconds": 0.3, **settings}
    process.over = True
    return Stop(SimpleNamespace(**values), process.runtime)  # type: ignore[arg-type]


async def test_a_drain_survives_cancellation_and_hands_the_first_one_on_at_its_end(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    hold = helm.hold("b")
    run = (await process.admit("line")).row["run_id"]
    await reached(hold)
    stopping = stopping_of(process)
    callers = [asyncio.create_task(stopping.drain("SIGTERM")) for _ in range(2)]
    for n in range(3):
        await asyncio.sleep(0.03)
        callers[0].cancel(f"cancel {n}")
    await asyncio.sleep(0.03)
    assert not callers[0].done()
    hold.let_go()
    await callers[1]
    with pytest.raises(asyncio.CancelledError) as caught:
        await callers[0]
    assert caught.value.args in (("cancel 0",), ())
    assert (await fleet.row(run))["status"] == "pending"
    await stopping.release()
    assert stopping.exit_code is ExitCode.CLEAN


async def test_the_report_is_logged_once_and_says_how_the_stop_went(
    fleet: Fleet, process: Process, helm: Helm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    hold = helm.hold("b")
    run = (await process.admit("line")).row["run_id"]
    await reached(hold)
    stopping = stopping_of(process)
    hold.let_go()
    await stopping.release()
    (record,) = [r for r in caplog.records if getattr(r, "event", None) == "drain.report"]
    assert record.levelno == logging.INFO
    assert record.runs[0]["run_id"] == str(run)  # type: ignore[attr-defined]
    assert (record.reason, record.budget_ms) == ("shutdown", 10_000)  # type: ignore[attr-defined]
    assert 0 < record.took_ms < 10_000  # type: ignore[attr-defined]


async def test_runs_that_are_left_make_another_exit_code(
    fleet: Fleet, helm: Helm, caplog: pytest.LogCaptureFixture
) -> None:
    process = await fleet.start(linked=True, statement_seconds=20.0)
    hold = helm.hold("b")
    await process.admit("line")
    await reached(hold)
    assert process.link is not None
    process.link.hang()
    stopping = stopping_of(process, grace_seconds=1.0)
    hold.let_go()
    await stopping.release()
    assert stopping.exit_code is ExitCode.RUNS_LEFT
    (record,) = [r for r in caplog.records if getattr(r, "event", None) == "drain.report"]
    assert record.levelno == logging.WARNING
    process.link.flow()


async def test_deferred_runs_are_given_away_right_before_the_process_is_gone(
    fleet: Fleet,
    process: Process,
    helm: Helm,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    hold = helm.hold_sync("s")
    run = (await process.admit("sync_line")).row
    await asyncio.to_thread(hold.reached.wait, 15)
    stopping = stopping_of(process, grace_seconds=5.0, drain_reserve_seconds=4.0, hard_reserve_seconds=3.8)
    left: list[str] = []

    async def leave() -> None:
        left.append((await fleet.row(run["run_id"]))["status"])

    gone: list[asyncio.Task[None]] = []
    monkeypatch.setattr(stopping, "_exit", lambda: gone.append(asyncio.create_task(leave())))
    await stopping.release()
    await gone[0]
    assert left == ["pending"]
    assert stopping.exit_code is ExitCode.CLEAN
    (record, *_) = [r for r in caplog.records if getattr(r, "event", None) == "drain.report"]
    assert [(line["outcome"], line["handed_over"]) for line in record.runs] == [  # type: ignore[attr-defined]
        ("cancelled", True)
    ]
    hold.go.set()


async def test_a_stop_that_is_past_its_deadline_ends_the_process(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = stopping_of(process)
    codes: list[ExitCode] = []
    monkeypatch.setattr("slackwater.runtime.process.watchdog.os._exit", codes.append)
    monkeypatch.setattr("slackwater.runtime.process.watchdog.OVERRUN_SECONDS", 0.0)
    # GIVEN a loop that a node blocks
    stopping._watchdog.watch(0.05)
    for _ in range(1000):
        if not codes:
            time.sleep(0.01)  # noqa: ASYNC251
    assert codes == [ExitCode.RUNS_LEFT]
    await stopping.release()


async def hung_claim(
    fleet: Fleet, process: Process, run_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> tuple[asyncio.Task[int], asyncio.Event]:
    """A claim of the process that has taken the run, and whose answer comes once the event is set."""
    real, answered = claims.claim, asyncio.Event()

    async def hanging(*arguments: Any, **options: Any) -> Any:
        claimed = await real(*arguments, **options)
        await answered.wait()
        return claimed

    monkeypatch.setattr(claims, "claim", hanging)
    claim = asyncio.create_task(process.claim())

    async def taken() -> bool:
        return bool((await fleet.row(run_id))["status"] == "running")

    await fleet.until(taken)
    return claim, answered


async def test_a_run_whose_claim_hung_until_the_drain_insists_is_handed_over_too(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, process = await fleet.start(max_concurrent_runs=0), await fleet.start(begin=False)
    run = (await full.admit("line")).row
    helm.hold("a")
    claim, answered = await hung_claim(fleet, process, run["run_id"], monkeypatch)
    # WHEN the answer comes after the time for asking is over
    drain = asyncio.create_task(process.drain(4.0, drain_reserve=3.6, hard_reserve=0.3))
    await asyncio.sleep(0.6)
    answered.set()
    assert await claim == 1
    # THEN the run is one of those that the stop hands over
    # at a boundary, if it gets there before the drain looks again
    ((run_id, outcome),) = outcomes(await drain).items()
    assert run_id == str(run["run_id"])
    assert outcome in {("cancelled", True), ("drained", True)}
    assert (await fleet.row(run["run_id"]))["status"] == "pending"


def test_a_log_that_hangs_does_not_keep_a_process_past_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    left, free = threading.Event(), threading.Event()
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        left.set()

    monkeypatch.setattr("slackwater.runtime.process.watchdog.os._exit", leave)
    # Its pipe is full: who writes to it, and who wants to, waits for its reader.
    monkeypatch.setattr("slackwater.runtime.process.stop.log.error", lambda *_, **__: free.wait(10))
    stopping = Stop(SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
    thread = threading.Thread(target=stopping._watchdog.overrun)
    thread.start()
    try:
        assert left.wait(8)
        assert codes == [ExitCode.RUNS_LEFT]
    finally:
        free.set()
        thread.join()


async def test_a_run_that_is_given_back_as_soon_as_it_is_claimed_is_in_the_report(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, process = await fleet.start(max_concurrent_runs=0), await fleet.start(begin=False)
    # GIVEN a drain that looks for what is claimed late less often than a run needs to be handed over
    monkeypatch.setattr("slackwater.runtime.process.stop.ROUND_SECONDS", 1.0)
    run = (await full.admit("line")).row
    claim, answered = await hung_claim(fleet, process, run["run_id"], monkeypatch)
    drain = asyncio.create_task(process.drain(5.0))
    await asyncio.sleep(0.1)
    answered.set()
    assert await claim == 1
    assert outcomes(await drain) == {str(run["run_id"]): ("drained", True)}
