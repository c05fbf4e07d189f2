"""How a run gets in: at once or not at all, whatever else happens on its thread."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import pytest
from helm import Helm
from rig import Fleet, Process, new_run

from slackwater.errors import Draining, NotFound, ThreadBusy
from slackwater.kit.ids import uuid7
from slackwater.runtime.queue.admission import Admitted, RunForgotten
from slackwater.runtime.queue.cancel import CancelAction


async def reached(hold: object) -> None:
    await asyncio.wait_for(hold.reached.wait(), 15)  # type: ignore[attr-defined]


# reject


async def test_of_twenty_rejecting_requests_at_once_exactly_one_gets_in(fleet: Fleet, helm: Helm) -> None:
    processes = [await fleet.start() for _ in range(2)]
    hold = helm.hold("a")
    thread_id = uuid7()
    results = await asyncio.gather(
        *(processes[n % 2].admit("line", thread_id=thread_id, strategy="reject") for n in range(20)),
        return_exceptions=True,
    )
    admitted = [result for result in results if isinstance(result, Admitted)]
    assert len(admitted) == 1
    assert all(isinstance(result, Admitted | ThreadBusy) for result in results)
    assert len(await fleet.database.fetch("select 1 from slackwater.runs")) == 1
    hold.let_go()
    run = admitted[0].row["run_id"]
    assert (await fleet.ended(run))["status"] == "success"
    await fleet.reference(processes[0], "line", thread_id=thread_id, strategy="reject")


# enqueue


async def test_the_runs_of_a_thread_start_in_the_order_of_their_admission_whoever_claims_them(
    fleet: Fleet, helm: Helm
) -> None:
    processes = [await fleet.start(poll_seconds=0.02) for _ in range(4)]
    thread_id = uuid7()
    runs: list[UUID] = []
    for n in range(12):
        admitted = await processes[n % 4].admit("loop", {"n": 0}, thread_id=thread_id)
        runs.append(admitted.row["run_id"])
    for run in runs:
        assert (await fleet.ended(run))["status"] == "success"
    begun = [UUID(step.run_id) for step in helm.steps if step.phase == "begin"]
    assert list(dict.fromkeys(begun)) == runs
    fences = [(await fleet.row(run))["fence"] for run in runs]
    assert fences == sorted(set(fences))


async def test_a_run_that_was_admitted_on_a_busy_thread_is_shown_as_waiting(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    hold = helm.hold("a")
    first = await process.admit("line")
    await reached(hold)
    second = await process.admit("line", thread_id=first.row["thread_id"])
    assert (first.row["status"], second.row["status"]) == ("running", "pending")
    assert second.claimed is None
    assert (await fleet.row(second.row["run_id"]))["ready"] is False
    hold.let_go()
    for admitted in (first, second):
        assert (await fleet.ended(admitted.row["run_id"]))["status"] == "success"


async def test_no_process_works_on_more_runs_than_it_is_allowed(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(max_concurrent_runs=2, poll_seconds=0.05)
    hold = helm.hold("a")
    admitted = await asyncio.gather(*(process.admit("line") for _ in range(8)))
    assert sum(a.claimed is not None for a in admitted) <= 2

    async def full() -> bool:
        return len(process.runtime.worker.live) == 2

    await fleet.until(full)
    await asyncio.sleep(0.1)
    assert len(process.runtime.worker.live) == 2
    hold.let_go()
    for each in admitted:
        assert (await fleet.ended(each.row["run_id"]))["status"] == "success"


# interrupt and rollback


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
async def test_a_newer_run_displaces_the_live_and_the_waiting_ones(
    fleet: Fleet, helm: Helm, strategy: str
) -> None:
    owner, other = await fleet.start(poll_seconds=0.05), await fleet.start(poll_seconds=0.05)
    hold = helm.hold("b")
    live = (await owner.admit("line")).row
    await reached(hold)
    waiting = (await owner.admit("line", thread_id=live["thread_id"])).row
    del helm.hooks["b"]
    # WHEN a newer run comes, by another process
    newer = (await other.admit("line", thread_id=live["thread_id"], strategy=strategy)).row
    told = await fleet.told(other, newer["run_id"], live["thread_id"])
    # THEN it goes on from what the older one has finished, or from before it
    assert told.row["status"] == "success"
    if strategy == "interrupt":
        assert told.thread["values"] == {"log": ["a", "a", "b", "c", "d"]}
        for run in (live, waiting):
            row = await fleet.row(run["run_id"])
            assert (row["status"], row["reason"]) == (
                "interrupted",
                f"superseded by run {newer['run_id']} (multitask_strategy=interrupt)",
            )
    else:
        assert told.thread["values"] == {"log": ["a", "b", "c", "d"]}
        assert await fleet.find(live["run_id"]) is None
        assert await fleet.find(waiting["run_id"]) is None
    assert helm.done_by(waiting["run_id"]) == []


async def test_an_earlier_wish_is_not_overruled_by_the_run_that_displaces(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    hold = helm.hold("b")
    live = (await process.admit("line")).row
    await reached(hold)
    # GIVEN a wish to keep what is finished, which its owner has not heard of
    await fleet.database.execute(
        "update slackwater.runs set cancel_action = 'interrupt', cancel_reason = 'mine' where run_id = %s",
        [live["run_id"]],
    )
    newer = (await process.admit("line", thread_id=live["thread_id"], strategy="rollback")).row
    del helm.hooks["b"]
    row = await fleet.ended(live["run_id"])
    assert (row["status"], row["reason"]) == ("interrupted", "mine")
    await process.claim()
    told = await fleet.told(process, newer["run_id"], live["thread_id"])
    assert told.thread["values"] == {"log": ["a", "a", "b", "c", "d"]}


@pytest.mark.parametrize("graph", ["ask", "ask_twice", "ask_nested"])
@pytest.mark.parametrize("where", ["q", "z"])
async def test_rollback_of_an_answer_brings_back_checkpoints_and_pending_writes(
    fleet: Fleet, process: Process, helm: Helm, graph: str, where: str
) -> None:
    # GIVEN a thread that waits for an answer
    first = await fleet.reference(process, graph)
    thread_id = first.row["thread_id"]
    checkpoints, writes = await fleet.checkpoints(thread_id), await fleet.writes(thread_id)
    blobs = await fleet.database.fetch(
        "select * from checkpoint_blobs where thread_id = %s order by 1,2,3,4", [str(thread_id)]
    )
    # WHEN the run with the answer is rolled back in the middle, or the one after the first of two questions
    hold = helm.hold(f"{where}_after_0" if where == "q" else "z")
    run = (await process.admit(graph, thread_id=thread_id, command={"resume": "yes"})).row["run_id"]
    if graph == "ask_twice" and where == "z":
        await fleet.ended(run)
        run = (await process.admit(graph, thread_id=thread_id, command={"resume": "more"})).row["run_id"]
        checkpoints, writes = await fleet.checkpoints(thread_id), None
    await reached(hold)
    await process.cancel(thread_id, run, action=CancelAction.ROLLBACK)
    del helm.hooks[f"{where}_after_0" if where == "q" else "z"]
    await fleet.until(lambda: gone(fleet, run), what="the run is gone")
    # THEN the thread is as it was, and the same answer is taken as the first time
    if writes is not None:
        assert await fleet.checkpoints(thread_id) == checkpoints
        assert await fleet.writes(thread_id) == writes
        assert blobs == await fleet.database.fetch(
            "select * from checkpoint_blobs where thread_id = %s order by 1,2,3,4", [str(thread_id)]
        )
        thread = await fleet.thread(thread_id)
        assert (thread["status"], thread["values"], thread["interrupts"]) == (
            first.thread["status"],
            first.thread["values"],
            first.thread["interrupts"],
        )
    told = await fleet.reference(process, graph, thread_id=thread_id, command={"resume": "yes"})
    assert told.row["status"] == "success"
    assert [line for line in told.thread["values"]["log"] if line.startswith("q:")] == {
        "ask": ["q:yes"],
        "ask_nested": ["q:yes"],
        "ask_twice": [] if where == "q" else ["q:yes+yes"],
    }[graph]


async def gone(fleet: Fleet, run_id: UUID) -> bool:
    if await fleet.find(run_id) is not None:
        return False
    row = await fleet.database.fetch_one("select 1 from slackwater.threads where status = 'busy'")
    return row is None


# A thread that is held by a run that has started


async def test_a_started_run_keeps_its_thread_also_while_it_is_shown_as_pending(
    fleet: Fleet, helm: Helm
) -> None:
    first, other = await fleet.start(), await fleet.start()
    hold = helm.hold("b")
    run = (await first.admit("line")).row
    await reached(hold)
    younger = (await first.admit("line", thread_id=run["thread_id"])).row
    asyncio.get_running_loop().call_later(0.05, hold.let_go)
    await first.stop()
    row = await fleet.row(run["run_id"])
    assert (row["status"], row["holds_thread"], row["ready"]) == ("pending", True, True)
    # WHEN somebody claims, and a third run comes
    third = (await other.admit("line", thread_id=run["thread_id"])).row
    assert third["status"] == "pending"
    assert (await fleet.row(younger["run_id"]))["ready"] is False
    hold = helm.hold("c")
    await other.claim()
    # THEN it is the one that had started
    assert (await fleet.row(younger["run_id"]))["status"] == "pending"
    hold.let_go()
    for each in (run, younger, third):
        told = await fleet.told(other, each["run_id"], run["thread_id"])
        assert told.row["status"] == "success"
        await other.claim()
    assert told.thread["values"] == {"log": list("abcd") * 3}


async def test_the_database_itself_refuses_a_second_run_that_holds_the_thread(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    from psycopg.errors import UniqueViolation

    hold = helm.hold("a")
    first = (await process.admit("line")).row
    await reached(hold)
    second = (await process.admit("line", thread_id=first["thread_id"])).row
    with pytest.raises(UniqueViolation):
        await fleet.database.execute(
            "update slackwater.runs set holds_thread = true where run_id = %s", [second["run_id"]]
        )
    hold.let_go()


# Delay, existence, owners


async def test_a_delayed_run_is_overtaken_and_starts_when_it_is_due(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(poll_seconds=0.05)
    thread_id = uuid7()
    late = (await process.admit("line", thread_id=thread_id, after_seconds=60)).row
    assert late["status"] == "pending"
    soon = (await process.admit("line", thread_id=thread_id)).row
    told = await fleet.told(process, soon["run_id"], thread_id)
    assert told.row["status"] == "success"
    assert (await fleet.row(late["run_id"]))["attempt"] == 0
    await fleet.database.execute(
        "update slackwater.runs set available_at = clock_timestamp() + interval '0.3 seconds' where run_id = %s",
        [late["run_id"]],
    )
    row = await fleet.ended(late["run_id"])
    assert row["status"] == "success"
    assert row["started_at"] >= row["available_at"]


async def test_a_thread_that_is_not_there_is_made_only_if_that_was_asked_for(
    fleet: Fleet, process: Process
) -> None:
    with pytest.raises(NotFound):
        await process.admit("line", create_thread=False)
    assert await fleet.database.fetch("select 1 from slackwater.threads") == []
    told = await fleet.reference(process, "line")
    again = await fleet.reference(
        process, "line", thread_id=told.row["thread_id"], create_thread=False, strategy="rollback"
    )
    assert again.row["status"] == "success"


@pytest.mark.parametrize("strategy", ["enqueue", "reject", "interrupt", "rollback"])
@pytest.mark.parametrize("create", [True, False])
async def test_anothers_thread_is_not_there_and_its_runs_do_not_notice(
    fleet: Fleet, process: Process, helm: Helm, strategy: str, create: bool
) -> None:
    hold = helm.hold("b")
    mine = (await process.admit("line")).row
    await reached(hold)
    waiting = (await process.admit("line", thread_id=mine["thread_id"])).row
    before = [await fleet.row(row["run_id"]) for row in (mine, waiting)]
    thread = await fleet.thread(mine["thread_id"])
    with pytest.raises(NotFound):
        await process.admit(
            "line", thread_id=mine["thread_id"], owner="mallory", strategy=strategy, create_thread=create
        )
    await process.cancel(mine["thread_id"], owner="mallory")
    assert [await fleet.row(row["run_id"]) for row in (mine, waiting)] == before
    assert await fleet.thread(mine["thread_id"]) == thread
    hold.let_go()


async def test_a_cancel_that_finds_nothing_to_cancel_leaves_the_thread_alone(
    fleet: Fleet, process: Process
) -> None:
    told = await fleet.reference(process, "line")
    found = await process.cancel(told.row["thread_id"], told.row["run_id"])
    assert not found.found
    assert await fleet.thread(told.row["thread_id"]) == told.thread


# Idempotency


async def test_the_same_request_delivered_many_times_at_once_is_one_run(fleet: Fleet, helm: Helm) -> None:
    processes = [await fleet.start() for _ in range(2)]
    for strategy in ("enqueue", "reject", "interrupt", "rollback"):
        thread_id = uuid7()
        results = await asyncio.gather(
            *(
                processes[n % 2].admit(
                    "line", thread_id=thread_id, strategy=strategy, idempotency_key=f"key {strategy}"
                )
                for n in range(8)
            )
        )
        assert len({result.row["run_id"] for result in results}) == 1, strategy
        assert sorted(result.repeated for result in results) == [False] + [True] * 7
        assert (await fleet.ended(results[0].row["run_id"]))["status"] == "success"
    # on threads of their own, too, and for every owner apart
    one = await asyncio.gather(*(processes[n % 2].admit("line", idempotency_key="k") for n in range(8)))
    assert len({result.row["run_id"] for result in one}) == 1
    other = await processes[0].admit("line", idempotency_key="k", owner="bob")
    assert not other.repeated
    assert len(await fleet.database.fetch("select 1 from slackwater.runs")) == 6
    for result in (one[0], other):
        await fleet.ended(result.row["run_id"])


async def test_a_key_is_forgotten_after_a_day_and_outlives_its_run_until_then(
    fleet: Fleet, process: Process
) -> None:
    first = await process.admit("line", idempotency_key="k")
    await fleet.ended(first.row["run_id"])
    await fleet.database.execute("delete from slackwater.runs")
    with pytest.raises(RunForgotten):
        await process.admit("line", idempotency_key="k")
    await fleet.database.execute(
        "update slackwater.idempotency_keys set created_at = created_at - interval '25 hours'"
    )
    second = await process.admit("line", idempotency_key="k")
    assert not second.repeated
    await fleet.ended(second.row["run_id"])


# All or nothing


async def test_nothing_is_to_be_seen_before_everything_is(fleet: Fleet, helm: Helm) -> None:
    """At whatever point the process dies, there is no run, or a whole one; and what it displaced with it."""
    home = await fleet.start()
    hold = helm.hold("b")
    for point in range(1, 12):
        live = (await home.admit("line")).row
        await reached(hold)
        process = await fleet.start(linked=True, statement_seconds=0.3, max_concurrent_runs=0)
        assert process.link is not None
        process.link.cut_at(point, executed=point % 2 == 0)
        new = new_run("line", thread_id=live["thread_id"], strategy="interrupt", idempotency_key=str(point))
        done = True
        try:
            await process.runtime.admit(new)
        except Exception:
            done = False
        await process.die()
        row, old = await fleet.find(new.run_id), await fleet.row(live["run_id"])
        assert (row is None) == (old["cancel_action"] is None)
        assert row is not None or not done
        if row is not None:
            assert row["status"] == "pending"
            assert await fleet.database.fetch(
                "select 1 from slackwater.idempotency_keys where key = %s", [str(point)]
            )
        await home.cancel(live["thread_id"])
        await fleet.ended(live["run_id"])
        if done:
            return
    raise AssertionError("never got in")


async def test_a_caller_that_is_cancelled_leaves_nothing_or_a_run_that_is_worked_on(
    fleet: Fleet, helm: Helm
) -> None:
    process = await fleet.start(linked=True, poll_seconds=0.05)
    assert process.link is not None
    process.link.delay = 0.002
    runs = []
    for n in range(25):
        new = new_run("line", strategy=random.choice(["enqueue", "interrupt"]))
        task = asyncio.create_task(process.runtime.admit(new))
        await asyncio.sleep(random.uniform(0, 0.02) if n else 0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        runs.append(new.run_id)
    process.link.delay = 0
    await asyncio.wait(process.runtime.admitting, timeout=5) if process.runtime.admitting else None
    for run in runs:
        if await fleet.find(run) is not None:
            assert (await fleet.ended(run))["status"] == "success"


async def test_a_run_that_comes_while_the_process_stops_waits_for_another_one(
    fleet: Fleet, helm: Helm
) -> None:
    process, other = await fleet.start(), await fleet.start()
    hold = helm.hold("b")
    await process.admit("line")
    await reached(hold)
    drain = asyncio.create_task(process.drain())
    await asyncio.sleep(0.05)
    late = await process.admit("line")
    assert late.row["status"] == "pending"
    hold.let_go()
    report = await drain
    assert len(report["runs"]) == 1
    await other.claim()
    assert (await fleet.ended(late.row["run_id"]))["status"] == "success"
    # and once the states are written nobody gets in any more
    with pytest.raises(Draining):
        await process.admit("line")
