"""A statement whose answer was lost is sent again, perhaps much later: it finds its own work done, and changes nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ends import IDLE, claimed, end_of, hand_over_of, waits
from helm import Helm
from rig import CUT, OWNER, Fleet, Process, fleet_on
from thread_rows import everything

from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database
from slackwater.runtime.fenced import settlement, settlements
from slackwater.runtime.fenced.settlement import Settled, ThreadFacts
from slackwater.runtime.process.hold import ThreadHeld
from slackwater.runtime.queue import claims
from slackwater.runtime.queue.cancel import CancelAction
from slackwater.runtime.queue.claims import ClaimedRun
from slackwater.runtime.queue.states import RunStatus, Stopped
from tests.support.proxy import proxied

ASKS = ThreadFacts("interrupted", b'{"log": ["second"]}', {"task": [{"id": "question"}]})


async def claim(fleet: Fleet, worker: str) -> ClaimedRun:
    (run,) = await claims.claim(fleet.database, worker=worker, graphs=["line"], limit=1, lease_seconds=60)
    return run


async def end(fleet: Fleet, run: ClaimedRun, facts: ThreadFacts = IDLE) -> Settled:
    return await settlement.end(fleet.database, end_of(run, facts))


async def hand_over(
    fleet: Fleet, run: ClaimedRun, stopped: Stopped = Stopped.DRAINED, max_handovers: int = 1000
) -> Settled:
    how = hand_over_of(run, stopped=stopped, max_handovers=max_handovers)
    return await settlement.hand_over(fleet.database, how)


async def unchanged_by(fleet: Fleet, repeat: Callable[[], Awaitable[Settled]]) -> Settled:
    before = await everything(fleet)
    settled = await repeat()
    assert await everything(fleet) == before
    return settled


async def test_an_end_sent_again_leaves_what_the_next_run_has_shown(fleet: Fleet) -> None:
    first = await claimed(fleet, "a")
    await end(fleet, first)
    second = await claimed(fleet, "b", thread_id=first.thread_id)
    await end(fleet, second, ASKS)
    settled = await unchanged_by(fleet, lambda: end(fleet, first))
    assert (settled.owned, settled.status) == (True, "success")
    thread = await fleet.thread(first.thread_id)
    assert (thread["status"], thread["values"]) == ("interrupted", {"log": ["second"]})


async def test_an_end_sent_again_still_tells_that_the_next_run_can_begin(fleet: Fleet) -> None:
    first = await claimed(fleet, "a")
    await waits(fleet, first.thread_id)
    assert (await end(fleet, first)).next_ready
    # Whoever hears only of the repetition is the one who has to wake somebody up for it.
    assert (await unchanged_by(fleet, lambda: end(fleet, first))).next_ready


async def test_a_hand_over_sent_again_is_judged_by_no_guard(fleet: Fleet) -> None:
    run = await claimed(fleet, "a")
    await hand_over(fleet, run)
    # As if whoever repeats it allowed fewer of them: only a hand-over that happens now can be one too many.
    settled = await unchanged_by(fleet, lambda: hand_over(fleet, run, max_handovers=0))
    assert (settled.owned, settled.status) == (True, "pending")


async def test_a_hand_over_sent_again_leaves_the_next_attempt_alone(fleet: Fleet) -> None:
    first = await claimed(fleet, "a")
    await hand_over(fleet, first)
    # Not yet claimed, worked on by the next owner, ended by him: the first one has handed it over, whatever came then.
    for happens in (None, "claim", "end"):
        if happens == "claim":
            second = await claim(fleet, "b")
        elif happens == "end":
            boom = ThreadFacts("error", None, {}, {"error": "ValueError", "message": "boom"})
            await settlement.end(fleet.database, end_of(second, boom, RunStatus.ERROR, said=0))
        settled = await unchanged_by(fleet, lambda: hand_over(fleet, first))
        if happens == "end":  # he has signed it since
            assert not settled.owned
        else:
            assert (settled.owned, settled.status) == (True, "pending")
    assert (await fleet.row(first.run_id))["handovers"] == 1


async def test_a_hand_over_that_a_guard_has_turned_into_an_end_says_so_again(fleet: Fleet) -> None:
    run = await claimed(fleet, "a")
    for _ in range(claims.MAX_STALLS - 1):
        await hand_over(fleet, run, Stopped.CUT)
        run = await claim(fleet, "a")
    first = await hand_over(fleet, run, Stopped.CUT)
    assert first.status == "error"
    assert first.error is not None
    assert b"NoProgress" in first.error
    again = await unchanged_by(fleet, lambda: hand_over(fleet, run, Stopped.CUT))
    assert (again.owned, again.status) == (True, "error")
    assert again.error is not None
    assert b"NoProgress" in again.error


async def test_a_rollback_sent_again_leaves_what_the_next_run_has_shown(
    fleet: Fleet, process: Process
) -> None:
    first = await claimed(fleet, "a")
    await process.cancel(first.thread_id, first.run_id, action=CancelAction.ROLLBACK)

    async def roll_back() -> Settled:
        how = end_of(first, ThreadFacts("busy", None), RunStatus.INTERRUPTED, reason="cancelled")
        return await settlement.end(fleet.database, how, rollback=True)

    assert (await roll_back()).owned
    assert await fleet.find(first.run_id) is None
    second = await claimed(fleet, "b", thread_id=first.thread_id)
    await end(fleet, second, ASKS)
    assert (await unchanged_by(fleet, roll_back)).owned


@pytest.mark.parametrize("by", ["end", "hand over"])
async def test_whose_run_was_taken_over_does_not_find_his_own_work_in_what_others_did(
    fleet: Fleet, by: str
) -> None:
    idle = await fleet.start(max_concurrent_runs=0)
    run = await claimed(fleet, "a")
    await fleet.expire(run.run_id)
    if by == "end":
        await fleet.database.execute(
            "update slackwater.runs set cancel_action = 'interrupt', cancel_reason = 'x' where run_id = %s",
            [run.run_id],
        )
    assert await idle.runtime.sweep() == 1
    repeat = {
        "end": lambda: settlement.end(fleet.database, end_of(run, status=RunStatus.INTERRUPTED)),
        "hand over": lambda: hand_over(fleet, run),
    }[by]
    assert not (await unchanged_by(fleet, repeat)).owned


async def test_two_owners_with_one_fence_cannot_end_each_others_run(fleet: Fleet) -> None:
    # As where no epoch tells a server from the one that it has replaced.
    run = await claimed(fleet, "a")
    await fleet.database.execute("update slackwater.runs set worker = 'b' where run_id = %s", [run.run_id])
    assert not (await unchanged_by(fleet, lambda: end(fleet, run))).owned
    assert not (await unchanged_by(fleet, lambda: hand_over(fleet, run))).owned


# Claims


async def test_a_claim_whose_answer_is_lost_is_worked_on_all_the_same(
    fleet: Fleet, helm: Helm, database_uri: str, database: Database
) -> None:
    idle = await fleet.start(max_concurrent_runs=0)
    runs = [(await idle.admit("line")).row["run_id"] for _ in range(3)]
    with proxied(database_uri) as proxy:
        async with fleet_on(proxy.uri, database) as far:
            process = await far.start(begin=False, lease_seconds=600)
            await process.runtime.start()
            proxy.lose_answers("suspect as (")
            # WHEN the answer of its first claim is lost, which has taken them all
            for run_id in runs:
                row = await fleet.ended(run_id)
                # THEN it works on them without a take-over
                assert (row["status"], row["attempt"], row["fence"]) == ("success", 1, 1)
                assert helm.begun_by(run_id) == list("abcd")
            assert proxy.lost == 1


async def test_a_run_that_could_not_be_settled_is_not_begun_again_by_the_process_that_has_given_it_up(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await fleet.start()

    async def never(*_: Any, **__: Any) -> None:
        raise ValueError("a mistake of ours")

    for module in (settlement, settlements):
        monkeypatch.setattr(module, "end", never)
    run_id = (await process.admit("line")).row["run_id"]
    await fleet.idle(process)
    worker = process.runtime.worker
    worker._check_claims.set()

    async def looked() -> bool:
        return not worker._check_claims.is_set()

    await fleet.until(looked)
    await asyncio.sleep(0.5)
    assert helm.begun_by(run_id) == list("abcd")
    assert (await fleet.row(run_id))["status"] == "running"


# Holds


@pytest.mark.parametrize("lost", ["insert into slackwater.runs", "delete from slackwater.runs"])
async def test_a_hold_whose_answer_is_lost_is_held_and_released_all_the_same(
    fleet: Fleet, database_uri: str, database: Database, lost: str
) -> None:
    run = await claimed(fleet, "a")
    await end(fleet, run)
    options: dict[str, Any] = {"owner": OWNER, "graph_id": "line", "assistant_id": uuid7()}
    other = await fleet.start()
    with proxied(database_uri) as proxy:
        async with fleet_on(proxy.uri, database) as far:
            process = await far.start()
            proxy.lose_answers(lost)
            async with process.runtime.hold(run.thread_id, **options) as held:
                with pytest.raises(ThreadHeld):
                    async with other.runtime.hold(run.thread_id, **options):
                        pass
                assert held.lease.fence == (await fleet.thread(run.thread_id))["fence"]
            assert proxy.lost == 1
            # THEN nobody has to wait until its lease expires
            async with other.runtime.hold(run.thread_id, **options):
                pass


async def test_a_hold_whose_holder_is_cancelled_before_its_answer_is_released_at_once(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await fleet.start(lease_seconds=600)
    run = await claimed(fleet, "a")
    await end(fleet, run)
    options: dict[str, Any] = {"owner": OWNER, "graph_id": "line", "assistant_id": uuid7()}
    taken = asyncio.Event()
    answers = process.database.answers

    async def late(**statements: Any) -> Any:
        found = await answers(**statements)
        if "taken" in statements:
            taken.set()
            await asyncio.Event().wait()
        return found

    async def hold() -> None:
        async with process.runtime.hold(run.thread_id, **options):
            raise AssertionError("nobody has heard of the hold")

    monkeypatch.setattr(process.database, "answers", late)
    # GIVEN a hold that is stored, whose answer is on its way, and a run that waits for it
    holding = asyncio.create_task(hold())
    await asyncio.wait_for(taken.wait(), 15)
    waiting = (await process.admit("line", thread_id=run.thread_id)).row["run_id"]
    assert (await fleet.row(waiting))["status"] == "pending"
    # WHEN who asked for it is cancelled
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding
    # THEN the thread is free, and the run begins, long before the lease is over
    assert (await fleet.ended(waiting))["status"] == "success"


# What they leave behind


@pytest.mark.parametrize("how", ["finished", "cancelled", "displaced", "guard"])
async def test_no_writes_are_kept_for_a_rollback_that_cannot_come_any_more(
    fleet: Fleet, helm: Helm, process: Process, how: str
) -> None:
    thread_id = uuid7()
    await fleet.reference(process, "ask", thread_id=thread_id)
    hold = helm.hold("q_after_0")
    run = (await process.admit("ask", thread_id=thread_id, command={"resume": "yes"})).row
    await hold.reached.wait()
    kept = "select count(*) from slackwater.base_writes where run_id = %s"
    drained = await process.drain(**CUT)
    assert drained["runs"][0]["handed_over"]
    assert await fleet.database.fetch(kept, [run["run_id"]]) == [{"count": 1}]
    other = await fleet.start(max_concurrent_runs=0)
    if how == "finished":
        helm.hooks.clear()
        await (await fleet.start()).claim()
        await fleet.ended(run["run_id"])
    elif how == "cancelled":
        await other.cancel(thread_id, run["run_id"])
    elif how == "displaced":
        await other.admit("line", thread_id=thread_id, strategy="interrupt")
    else:
        await fleet.database.execute(
            "update slackwater.runs set stalls = 2 where run_id = %s", [run["run_id"]]
        )
        taken = await claims.claim(fleet.database, worker="a", graphs=["ask"], limit=1, lease_seconds=60)
        assert (await hand_over(fleet, taken[0], Stopped.CUT)).status == "error"
    ends = {"finished": "success", "guard": "error"}
    assert (await fleet.row(run["run_id"]))["status"] == ends.get(how, "interrupted")
    assert await fleet.database.fetch(kept, [run["run_id"]]) == [{"count": 0}]
