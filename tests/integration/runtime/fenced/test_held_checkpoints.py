"""With durability `async` a checkpoint is stored with the one that follows, or with what settles the run: no superstep begins
before those are stored that the one before it has worked from."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from helm import Helm, Hold
from psycopg import OperationalError
from rig import Fleet, Process

from slackwater.postgres.group_commit import GroupCommit
from slackwater.runtime.execution.attempt import Attempt
from slackwater.runtime.fenced import writer
from slackwater.runtime.process.worker import Worker
from slackwater.runtime.queue.claims import ClaimedRun
from slackwater.runtime.queue.states import Outcome


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is stored because time has passed."""
    monkeypatch.setattr(writer, "EVENT_FLUSH_SECONDS", 60)
    monkeypatch.setattr(writer, "HOLD_SECONDS", 60)


@pytest.fixture
def stores(untimed: None, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many times something was stored, alone (`store`) or with what settles its run."""
    found: Counter[str] = Counter()
    send = GroupCommit.send

    async def sending(self: GroupCommit, kind: Any, item: Any, **options: Any) -> Any:
        first = options.get("first")
        found[f"{first[0].name} and {kind.name}" if first else kind.name] += 1
        return await send(self, kind, item, **options)

    monkeypatch.setattr(GroupCommit, "send", sending)
    return found


async def checkpoints_of(fleet: Fleet, thread_id: Any) -> list[int]:
    rows = await fleet.database.fetch(
        "select (metadata ->> 'step')::int as step from checkpoints where thread_id = %s order by checkpoint_id",
        [str(thread_id)],
    )
    return [row["step"] for row in rows]


async def test_what_short_supersteps_put_is_stored_every_other_time_and_with_the_end(
    fleet: Fleet, stores: Counter[str]
) -> None:
    process = await fleet.start(begin=False)
    run = (await process.admit("line")).row
    await process.read(run["run_id"])
    assert await checkpoints_of(fleet, run["thread_id"]) == [-1, 0, 1, 2, 3, 4]
    assert (await fleet.row(run["run_id"]))["status"] == "success"
    assert stores == {"admission": 1, "store": 2, "store and end": 1}


async def test_with_durability_sync_nothing_waits_for_what_follows(
    fleet: Fleet, stores: Counter[str]
) -> None:
    process = await fleet.start(begin=False)
    run = (await process.admit("line", durability="sync")).row
    await process.read(run["run_id"])
    assert await checkpoints_of(fleet, run["thread_id"]) == [-1, 0, 1, 2, 3, 4]
    assert stores["store"] > 5
    assert stores["end"] == 1


async def test_what_is_held_at_a_drain_is_stored_as_the_run_is_handed_over(
    fleet: Fleet, stores: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Worker.begin

    def begin_and_drain(self: Worker, run: ClaimedRun) -> Attempt | None:
        attempt = begin(self, run)
        assert attempt is not None
        attempt.ask_to_drain("before its first node")
        return attempt

    process = await fleet.start(begin=False)
    with monkeypatch.context() as patch:
        patch.setattr(Worker, "begin", begin_and_drain)
        run = (await process.admit("line")).row
        attempt = process.runtime.worker.live[run["run_id"]]
        assert attempt.task is not None
        await attempt.task
    row = await fleet.row(run["run_id"])
    assert (row["status"], row["stopped"], row["input_applied"]) == ("pending", "drained", True)
    assert await checkpoints_of(fleet, run["thread_id"]) == [-1]
    assert stores == {"admission": 1, "store and hand_over": 1}


# Both or nothing


async def held_in(process: Process, helm: Helm, node: str = "d") -> tuple[Attempt, Hold]:
    """A run in a node of `line`, of which `d` is the last one; its checkpoints so far are stored."""
    hold = helm.hold(node)
    run = (await process.admit("line")).row["run_id"]
    await asyncio.wait_for(hold.reached.wait(), 15)
    attempt = process.runtime.worker.live[run]
    await attempt.writer.written()
    return attempt, hold


WHOLE = [-1, 0, 1, 2, 3, 4]


async def test_a_checkpoint_is_held_for_a_moment_only(
    fleet: Fleet, process: Process, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "EVENT_FLUSH_SECONDS", 60)
    hold = helm.hold("c")
    thread_id = (await process.admit("line")).row["thread_id"]
    await asyncio.wait_for(hold.reached.wait(), 15)

    async def stored() -> bool:
        return await checkpoints_of(fleet, thread_id) == [-1, 0, 1, 2]

    await fleet.until(stored)
    hold.let_go()


async def settle(process: Process, attempt: Attempt, hold: Hold, *, drains: bool) -> None:
    """Let its node end, with a drain that has begun or without, and wait until its run is settled."""
    drain = asyncio.create_task(process.drain(10.0)) if drains else None
    await asyncio.sleep(0)
    hold.let_go()
    assert attempt.task is not None
    await asyncio.wait_for(drain or attempt.task, 10)


@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize("drains", [False, True], ids=["end", "hand-over"])
@pytest.mark.parametrize("committed", [False, True], ids=["not sent", "answer lost"])
async def test_what_settles_a_run_with_its_last_checkpoint_is_repeated_one_by_one(
    fleet: Fleet,
    process: Process,
    helm: Helm,
    monkeypatch: pytest.MonkeyPatch,
    drains: bool,
    committed: bool,
) -> None:
    attempt, hold = await held_in(process, helm, "c" if drains else "d")
    write, lost = process.database.write, list[bool]()

    async def losing(*statements: Any) -> Any:
        held = any(
            filter(None, params["stored_with"].values) for _, params in statements if "stored_with" in params
        )
        if not (held and not lost):
            return await write(*statements)
        lost.append(True)
        if committed:
            await write(*statements)
        raise OperationalError("the answer was lost")

    monkeypatch.setattr(process.database, "write", losing)
    await settle(process, attempt, hold, drains=drains)
    assert lost == [True]
    row = await fleet.row(attempt.run.run_id)
    assert await checkpoints_of(fleet, row["thread_id"]) == (WHOLE[:-1] if drains else WHOLE)
    expected = ("pending", "drained", 1, None) if drains else ("success", None, 0, str(attempt.journal.last))
    assert (row["status"], row["stopped"], row["handovers"], row["last_event"]) == expected
    assert attempt.settled == row["status"]
    events = [event.id for event in attempt.journal._events]
    assert [row["seq"] for row in await fleet.event_rows(attempt.run.run_id)][-1] == events[-1].seq


@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize("drains", [False, True], ids=["end", "hand-over"])
async def test_a_run_is_not_settled_without_its_last_checkpoint(
    fleet: Fleet, process: Process, helm: Helm, monkeypatch: pytest.MonkeyPatch, drains: bool
) -> None:
    attempt, hold = await held_in(process, helm, "c" if drains else "d")
    take, refused = attempt.writer.take, list[bool]()

    def refusing() -> Any:
        """It has something else than it seemed, when it is asked for the first time."""
        if refused:
            return take()
        refused.append(True)
        return None

    monkeypatch.setattr(attempt.writer, "take", refusing)
    await settle(process, attempt, hold, drains=drains)
    assert refused == [True]
    row = await fleet.row(attempt.run.run_id)
    assert row["status"] == ("pending" if drains else "success")
    assert await checkpoints_of(fleet, row["thread_id"]) == (WHOLE[:-1] if drains else WHOLE)


@pytest.mark.usefixtures("untimed")
async def test_who_has_locked_the_run_delays_its_end_and_what_is_held(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    attempt, hold = await held_in(process, helm)
    assert attempt.task is not None
    async with fleet.database.connection() as holder, holder.transaction():
        await holder.execute(
            "select 1 from slackwater.runs where run_id = %s for update", [attempt.run.run_id]
        )
        hold.let_go()
        assert not (await asyncio.wait({attempt.task}, timeout=0.3))[0]
        assert await checkpoints_of(fleet, attempt.run.thread_id) == WHOLE[:-1]
    assert (await fleet.ended(attempt.run.run_id))["status"] == "success"
    assert await checkpoints_of(fleet, attempt.run.thread_id) == WHOLE


@pytest.mark.usefixtures("untimed")
async def test_a_run_that_another_has_taken_over_gets_neither(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    attempt, hold = await held_in(process, helm)
    await fleet.database.execute(
        "update slackwater.runs set fence = fence + 1, worker = 'other' where run_id = %s",
        [attempt.run.run_id],
    )
    await settle(process, attempt, hold, drains=False)
    assert attempt.outcome is Outcome.LOST
    row = await fleet.row(attempt.run.run_id)
    assert (row["status"], row["worker"]) == ("running", "other")
    assert await checkpoints_of(fleet, attempt.run.thread_id) == WHOLE[:-1]
