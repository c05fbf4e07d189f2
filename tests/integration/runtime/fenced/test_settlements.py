"""Attempts that end, or are handed over, several in one statement: as if each were settled alone, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from ends import IDLE, claimed, end_of, hand_over_of, waits
from helm import Helm
from rig import Fleet, fleet_on
from thread_rows import all_rows, everything

from slackwater.postgres.group_commit import GroupCommit
from slackwater.postgres.pool import Database
from slackwater.runtime.fenced import settlement, settlements
from slackwater.runtime.fenced.settlement import Settled, ThreadFacts
from slackwater.runtime.queue import claims
from slackwater.runtime.queue.claims import ClaimedRun
from slackwater.runtime.queue.states import RunStatus, Stopped
from slackwater.telemetry import metrics
from slackwater.telemetry.metrics import Metric
from tests.support.proxy import proxied
from tests.support.sessions import until_waiting

ASKS = ThreadFacts("interrupted", b'{"log": []}', {"task": [{"id": "question", "value": 1}]})
BOOM = ThreadFacts("error", None, {}, {"error": "ValueError", "message": "boom"})
STOPPED = ThreadFacts("idle", None, {}, {"error": "UserInterrupt", "message": "enough"})


async def together(fleet: Fleet, statement: Any) -> list[int]:
    """Send it; which items were done."""
    (rows,) = await fleet.database.write(statement)
    return sorted(row["n"] for row in rows)


# Equal rows


async def as_it_is(fleet: Fleet, run: ClaimedRun) -> None:
    """Nothing more."""


async def has_said(fleet: Fleet, run: ClaimedRun) -> None:
    await fleet.database.execute(
        "insert into slackwater.run_events (run_id, fence, seq, thread_id, event, data) values (%s, %s, 7, %s, 'values', '{}')",
        [run.run_id, run.fence, run.thread_id],
    )


async def has_kept_writes(fleet: Fleet, run: ClaimedRun) -> None:
    await fleet.database.execute(
        "insert into slackwater.base_writes values (%s, %s, '', 'c', '[]')",
        [run.run_id, str(run.thread_id)],
    )


async def has_shown(fleet: Fleet, run: ClaimedRun) -> None:
    await fleet.database.execute(
        """update slackwater.threads set "values" = '{"old": 1}', interrupts = '{"a": []}', error = '{"error": "E"}'
        where thread_id = %s""",
        [run.thread_id],
    )


async def is_elsewhere(fleet: Fleet, run: ClaimedRun) -> None:
    await fleet.database.execute(
        "insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata) values (%s, '', 'c1', '{}', '{}')",
        [str(run.thread_id)],
    )
    await fleet.database.execute(
        "update slackwater.runs set stalls = 2, progress = 'c0:0', stalled_by = gen_random_uuid() where run_id = %s",
        [run.run_id],
    )


Before = Callable[[Fleet, ClaimedRun], Any]

ENDS: dict[str, tuple[dict[str, Any], Before, dict[str, Any]]] = {
    "success": ({}, as_it_is, {"facts": IDLE, "checkpoint_id": "1f0"}),
    "asks": ({}, has_shown, {"facts": ASKS}),
    "error": ({}, has_shown, {"facts": BOOM, "status": RunStatus.ERROR}),
    "timeout": ({}, has_said, {"facts": BOOM, "status": RunStatus.TIMEOUT, "said": 0}),
    "cancelled": ({}, has_said, {"facts": STOPPED, "status": RunStatus.INTERRUPTED, "reason": "enough"}),
    "nothing said": ({}, as_it_is, {"said": 0}),
    "not read": ({}, has_shown, {"facts": ThreadFacts("busy", None), "checkpoint_id": "1f0"}),
    "stateless": ({"on_completion": "delete"}, has_kept_writes, {}),
    "kept": ({"on_completion": "keep"}, as_it_is, {}),
    "webhook": ({"webhook": "https://example.org"}, as_it_is, {}),
}


async def prepared(fleet: Fleet, cases: Any) -> dict[str, ClaimedRun]:
    """A run for each case, as it is before it is settled."""
    runs = {}
    for case, (options, before, _) in cases.items():
        runs[case] = await claimed(fleet, **options)
        await before(fleet, runs[case])
    return runs


async def test_an_end_is_the_same_alone_and_together(fleet: Fleet) -> None:
    singles, runs = await prepared(fleet, ENDS), await prepared(fleet, ENDS)
    settled = {
        case: await settlement.end(fleet.database, end_of(run, **ENDS[case][2]))
        for case, run in singles.items()
    }
    items = [end_of(run, **ENDS[case][2]) for case, run in runs.items()]
    group = GroupCommit(fleet.database)
    ended = await asyncio.gather(*(settlements.end(group, item) for item in items))
    for case, item, answer in zip(ENDS, items, ended, strict=True):
        assert answer == settled[case], case
        assert await all_rows(fleet, item.whose.thread_id) == await all_rows(
            fleet, singles[case].thread_id
        ), case


HAND_OVERS: dict[str, tuple[dict[str, Any], Before, dict[str, Any]]] = {
    "plain": ({}, as_it_is, {}),
    "further": ({}, is_elsewhere, {"checkpoint_id": "c1"}),
    "nothing said": ({}, has_said, {"said": 0}),
    "reader": ({"on_disconnect": "cancel"}, as_it_is, {}),
    "kept writes": ({}, has_kept_writes, {}),
}


async def test_a_hand_over_is_the_same_alone_and_together(fleet: Fleet) -> None:
    singles, runs = await prepared(fleet, HAND_OVERS), await prepared(fleet, HAND_OVERS)
    settled = {
        case: await settlement.hand_over(fleet.database, hand_over_of(run, **HAND_OVERS[case][2]))
        for case, run in singles.items()
    }
    items = [hand_over_of(run, **HAND_OVERS[case][2]) for case, run in runs.items()]
    group = GroupCommit(fleet.database)
    handed_over = await asyncio.gather(*(settlements.hand_over(group, item) for item in items))
    for case, item, answer in zip(HAND_OVERS, items, handed_over, strict=True):
        assert answer == settled[case], case
        assert await all_rows(fleet, item.whose.thread_id) == await all_rows(
            fleet, singles[case].thread_id
        ), case


# Who is left out


async def test_of_ten_ends_those_that_are_not_simple_are_left_as_they_were(fleet: Fleet) -> None:
    runs = [await claimed(fleet) for _ in range(10)]
    taken, waited_for, locked = runs[2], runs[5], runs[7]
    await fleet.database.execute(
        "update slackwater.runs set worker = 'x', fence = 2 where run_id = %s", [taken.run_id]
    )
    await waits(fleet, waited_for.thread_id)
    left = (taken, waited_for, locked)
    before = [await all_rows(fleet, run.thread_id) for run in left]
    async with fleet.database.connection() as elsewhere, elsewhere.transaction():
        await elsewhere.execute("select 1 from slackwater.runs where run_id = %s for share", [locked.run_id])
        done = await together(fleet, settlements.ENDS.statement([end_of(run) for run in runs]))
    assert done == [1, 2, 4, 5, 7, 9, 10]
    assert [await all_rows(fleet, run.thread_id) for run in left] == before
    ended = await fleet.database.fetch("select run_id from slackwater.runs where status = 'success'")
    assert {row["run_id"] for row in ended} == {runs[n - 1].run_id for n in done}
    # WHEN those are said again alone
    settled = [await settlement.end(fleet.database, end_of(run)) for run in left]
    assert settled == [Settled(False), Settled(True, True, "success"), Settled(True, False, "success")]


@pytest.mark.parametrize("whose", ["threads", "runs"])
@pytest.mark.parametrize("what", ["end", "hand over"])
async def test_it_waits_for_no_row_that_somebody_else_has(fleet: Fleet, what: str, whose: str) -> None:
    first, second = await claimed(fleet), await claimed(fleet)
    statement = {
        "end": settlements.ENDS.statement([end_of(first), end_of(second)]),
        "hand over": settlements.HAND_OVERS.statement([hand_over_of(first), hand_over_of(second)]),
    }[what]
    async with fleet.database.connection() as elsewhere, elsewhere.transaction():
        await elsewhere.execute(
            f"select 1 from slackwater.{whose} where thread_id = %s for update",  # type: ignore[arg-type]
            [first.thread_id],
        )
        async with asyncio.timeout(5):
            assert await together(fleet, statement) == [2]


TAKEN = {
    "fence": "update slackwater.runs set fence = fence + 1",
    "worker": "update slackwater.runs set worker = 'x'",
    "epoch": "create or replace function slackwater.epoch() returns integer language sql as 'select 1'",
    "owner": "update slackwater.threads set owner = 'bob'",
    "settled": "update slackwater.runs set status = 'pending', worker = null",
}


@pytest.mark.parametrize("change", TAKEN)
async def test_whose_run_it_is_not_changes_nothing_together(fleet: Fleet, change: str) -> None:
    run = await claimed(fleet)
    await has_kept_writes(fleet, run)
    await fleet.database.execute(TAKEN[change])
    before = await everything(fleet)
    assert await together(fleet, settlements.ENDS.statement([end_of(run)])) == []
    assert await together(fleet, settlements.HAND_OVERS.statement([hand_over_of(run)])) == []
    assert await everything(fleet) == before


@pytest.mark.parametrize(
    "guard", ["handovers = 4", f"stalls = {claims.MAX_STALLS}"], ids=["handovers", "stalls"]
)
async def test_a_hand_over_that_a_guard_may_end_is_left_to_it(fleet: Fleet, guard: str) -> None:
    run, other = await claimed(fleet), await claimed(fleet)
    await fleet.database.execute(f"update slackwater.runs set {guard} where run_id = %s", [run.run_id])
    items = [hand_over_of(run, max_handovers=4), hand_over_of(other, max_handovers=4)]
    assert await together(fleet, settlements.HAND_OVERS.statement(items)) == [2]
    settled = await settlement.hand_over(fleet.database, items[0])
    assert settled.status == "error"


# Races


async def paused(fleet: Fleet, statement: Any, meanwhile: Callable[[], Any]) -> list[int]:
    """Send it, and do something between its snapshot and its first lock; which items were done."""
    sql, params = statement
    waits = "select a.* from unnest"
    assert waits in sql
    held = sql.replace(waits, "select a.* from (select pg_advisory_xact_lock(7) offset 0) as held, unnest")
    async with fleet.database.connection() as elsewhere, elsewhere.transaction():
        await elsewhere.execute("select pg_advisory_xact_lock(7)")
        sending = asyncio.create_task(together(fleet, (held, params)))
        await until_waiting(fleet.uri)
        await meanwhile()
    return await sending


async def test_a_run_that_comes_while_another_one_ends_is_not_forgotten(fleet: Fleet) -> None:
    run, other = await claimed(fleet), await claimed(fleet)
    items = [end_of(run), end_of(other)]
    # WHEN it is admitted after the statement has looked, and before it has the thread's row
    done = await paused(fleet, settlements.ENDS.statement(items), lambda: waits(fleet, run.thread_id))
    # THEN the end is left to the single way, which makes it ready
    assert done == [2]
    assert (await settlement.end(fleet.database, items[0])).next_ready
    (ready,) = await fleet.database.fetch(
        "select status, ready from slackwater.runs where thread_id = %s and run_id <> %s",
        [run.thread_id, run.run_id],
    )
    assert ready == {"status": "pending", "ready": True}


@pytest.mark.parametrize("what", ["end", "hand over"])
async def test_a_run_that_is_taken_over_meanwhile_is_left_alone(fleet: Fleet, what: str) -> None:
    run, other = await claimed(fleet), await claimed(fleet)
    statement = {
        "end": settlements.ENDS.statement([end_of(run), end_of(other)]),
        "hand over": settlements.HAND_OVERS.statement([hand_over_of(run), hand_over_of(other)]),
    }[what]

    async def take_over() -> None:
        await fleet.expire(run.run_id)
        lost = hand_over_of(run, said=0, stopped=Stopped.LOST)
        assert (await settlement.hand_over(fleet.database, lost, expired=True)).owned

    assert await paused(fleet, statement, take_over) == [2]
    row = await fleet.row(run.run_id)
    assert (row["status"], row["stopped"]) == ("pending", "lost")
    assert await fleet.events(run.run_id) == []


async def test_a_run_that_comes_while_another_one_is_handed_over_waits_behind_it(fleet: Fleet) -> None:
    run = await claimed(fleet)
    done = await paused(
        fleet, settlements.HAND_OVERS.statement([hand_over_of(run)]), lambda: waits(fleet, run.thread_id)
    )
    assert done == [1]
    ready = await fleet.database.fetch("select run_id from slackwater.runs where ready")
    assert [row["run_id"] for row in ready] == [run.run_id]


# Lost answers


def counted(*which: Metric) -> list[int]:
    return [metrics.recorder.totals[metric] for metric in which]


async def test_an_end_whose_answer_was_lost_changes_nothing_said_again_alone(fleet: Fleet) -> None:
    run = await claimed(fleet)
    how = end_of(run, BOOM, RunStatus.ERROR)
    assert await together(fleet, settlements.ENDS.statement([how])) == [1]
    later = await claimed(fleet, thread_id=run.thread_id)
    assert await together(fleet, settlements.ENDS.statement([end_of(later)])) == [1]
    before, figures = await everything(fleet), counted(Metric.RUNS_FINISHED, Metric.RUNS_FAILED)
    settled = await settlement.end(fleet.database, how)
    assert (settled.owned, settled.status) == (True, "error")
    assert await together(fleet, settlements.ENDS.statement([how])) == []
    assert await everything(fleet) == before
    assert counted(Metric.RUNS_FINISHED, Metric.RUNS_FAILED) == [figure + 1 for figure in figures]


async def test_a_hand_over_whose_answer_was_lost_changes_nothing_said_again_alone(fleet: Fleet) -> None:
    run = await claimed(fleet)
    how = hand_over_of(run)
    assert await together(fleet, settlements.HAND_OVERS.statement([how])) == [1]
    taken = await claims.claim(fleet.database, worker="x", graphs=["line"], limit=1, lease_seconds=60)
    assert [claim.run_id for claim in taken] == [run.run_id]
    before, figures = await everything(fleet), counted(Metric.RUNS_HANDED_OVER, Metric.RUNS_DRAINED)
    settled = await settlement.hand_over(fleet.database, how)
    assert (settled.owned, settled.status) == (True, "pending")
    assert await together(fleet, settlements.HAND_OVERS.statement([how])) == []
    assert await everything(fleet) == before
    assert counted(Metric.RUNS_HANDED_OVER, Metric.RUNS_DRAINED) == [figure + 1 for figure in figures]


@pytest.mark.parametrize("lost", ["its answer", "it"])
@pytest.mark.parametrize("what", ["end", "hand over"])
async def test_a_process_says_again_what_got_lost_of_a_settlement(
    database_uri: str, database: Database, fleet: Fleet, helm: Helm, what: str, lost: str
) -> None:
    with proxied(database_uri) as proxy:
        async with fleet_on(proxy.uri, database) as far:
            process = await far.start()
            hold = helm.hold("d" if what == "end" else "b")
            run_id = (await process.admit("line")).row["run_id"]
            await asyncio.wait_for(hold.reached.wait(), 15)
            figures = counted(Metric.RUNS_FINISHED, Metric.RUNS_HANDED_OVER)
            lose = proxy.lose_answers if lost == "its answer" else proxy.lose_requests
            # Alone neither is said like this: the lost one is that of many.
            lose("ended as (" if what == "end" else "given_back as (")
            if what == "hand over":
                (attempt,) = process.runtime.worker.attempts
                attempt.ask_to_drain("a stop")
            hold.let_go()
            row = await fleet.ended(run_id)
            await far.until(lambda: proxy.lost == 1, what="a loss")
            assert (row["status"], row["handovers"]) == ("success", int(what == "hand over"))
            assert helm.done_by(run_id) == list("abcd")
            await far.idle(process)
            assert counted(Metric.RUNS_FINISHED, Metric.RUNS_HANDED_OVER) == [
                figures[0] + 1,
                figures[1] + row["handovers"],
            ]
