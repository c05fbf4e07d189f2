"""A lease that nobody has taken is not lost: not by a blocked event loop, a busy pool, a lock, or a process that stood
still. And who holds up a process answers for it alone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from helm import Helm
from psycopg.rows import dict_row
from rig import BRISK, CUT, Fleet, Process

from slackwater.runtime.process import blocked_loop
from slackwater.runtime.queue.states import Outcome

SHORT = {**BRISK, "lease_seconds": 1.6}
HELD_UP_SECONDS = 3.3
"""Longer than two leases."""


@asynccontextmanager
async def locked(fleet: Fleet, statement: str, *parameters: Any) -> AsyncIterator[None]:
    """Somebody's transaction that has carried out the statement, and takes its time."""
    async with await psycopg.AsyncConnection.connect(fleet.uri) as somebody:
        await somebody.execute(statement, parameters)  # type: ignore[arg-type]
        yield
        await somebody.rollback()


async def held(process: Process, helm: Helm, number: int) -> list[UUID]:
    """Runs that wait in their second node."""
    hold = helm.hold("b")
    runs = [(await process.admit("line")).row["run_id"] for _ in range(number)]
    async with asyncio.timeout(15):
        while any("b" not in helm.begun_by(run) for run in runs):
            await asyncio.sleep(0.01)
    assert hold.reached.is_set()
    return runs


async def go_on(fleet: Fleet, helm: Helm, runs: list[UUID]) -> None:
    """Let the runs go on; all of them end as if nothing had been."""
    helm.hooks["b"].let_go()  # type: ignore[attr-defined]
    for run in runs:
        row = await fleet.ended(run)
        assert (row["status"], row["attempt"], row["fence"], row["stalls"]) == ("success", 1, 1, 0)
        assert helm.done_by(run) == list("abcd")


async def test_a_node_that_blocks_the_event_loop_costs_no_lease_and_is_named(
    fleet: Fleet, helm: Helm, caplog: pytest.LogCaptureFixture
) -> None:
    process = await fleet.start(**SHORT)
    neighbours = await held(process, helm, 2)
    seen: list[dict[str, Any]] = []

    async def block(config: object) -> None:
        time.sleep(HELD_UP_SECONDS)  # noqa: ASYNC251
        with psycopg.connect(fleet.uri, row_factory=dict_row, autocommit=True) as connection:
            # All of the process may have stood still for a moment: then they are renewed now.
            for _ in range(80):
                seen[:] = connection.execute(
                    "select run_id, lease_until > clock_timestamp() as kept, stalled_by from slackwater.runs"
                )
                if all(found["kept"] for found in seen):
                    break
                time.sleep(0.01)  # noqa: ASYNC251

    helm.hooks["c"] = block
    helm.hooks["work_0"] = block
    # WHEN a node does not give the event loop back for two leases
    blocker = (await process.admit("fan", {"n": 1})).row["run_id"]
    row = await fleet.ended(blocker)
    del helm.hooks["c"]
    # THEN its lease, and those of its neighbours, are still their own
    assert len(seen) == 3
    assert all(found["kept"] for found in seen)
    assert (row["status"], row["attempt"]) == ("success", 1)
    # AND it is known who it was
    assert {found["stalled_by"] for found in seen} == {blocker}
    told = [r.__dict__ for r in caplog.records if getattr(r, "event", "") == "worker.loop.blocked"]
    assert [r["node"] for r in told if r["run_id"] == str(blocker)] == ["work"]

    async def forgiven() -> bool:
        return all([(await fleet.row(run))["stalled_by"] is None for run in neighbours])

    await fleet.until(forgiven)
    await go_on(fleet, helm, neighbours)


async def test_an_event_loop_that_stays_dead_does_not_keep_its_runs(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(blocked_loop, "LOOP_LEASES", 1)
    process = await fleet.start(**SHORT)
    seen: list[dict[str, Any]] = []

    async def block(config: object) -> None:
        time.sleep(4.4)  # noqa: ASYNC251
        with psycopg.connect(fleet.uri, row_factory=dict_row, autocommit=True) as connection:
            seen.extend(
                connection.execute("select lease_until < clock_timestamp() as over from slackwater.runs")
            )
            # Somebody takes it over while the loop is dead.
            connection.execute(
                "update slackwater.runs set status = 'pending', worker = null, fence = fence + 1, ready = true, "
                "available_at = clock_timestamp() + interval '1 hour'"
            )

    helm.hooks["b"] = block
    run = (await process.admit("line")).row["run_id"]
    await fleet.idle(process)
    assert seen == [{"over": True}]
    assert "worker.loop.dead" in {getattr(r, "event", "") for r in caplog.records}
    assert "c" not in helm.begun_by(run)
    assert (await fleet.row(run))["status"] == "pending"


async def test_only_the_run_that_blocked_its_process_has_stalled(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(linked=True)
    heir = await fleet.start(max_concurrent_runs=0)
    blocker, *neighbours = await held(process, helm, 3)
    await fleet.database.execute("update slackwater.runs set stalled_by = %s", [blocker])
    await process.die()
    await fleet.expire(blocker, *neighbours)
    assert await heir.runtime.sweep() == 3
    found = {run: await fleet.row(run) for run in (blocker, *neighbours)}
    assert [row["stalls"] for row in found.values()] == [1, 0, 0]
    assert {row["stopped"] for row in found.values()} == {"lost"}
    # What is lost later is judged anew.
    assert {row["stalled_by"] for row in found.values()} == {None}


async def test_a_busy_pool_holds_no_renewal_up(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(pool_size=2, **SHORT)
    runs = await held(process, helm, 3)
    statements = [
        asyncio.create_task(process.database.fetch("select pg_sleep(%s)", [HELD_UP_SECONDS]))
        for _ in range(4)
    ]
    await asyncio.sleep(HELD_UP_SECONDS)
    await go_on(fleet, helm, runs)
    await asyncio.gather(*statements)


@pytest.mark.parametrize("mode", ["for update", "for share"])
async def test_a_locked_row_costs_neither_its_own_lease_nor_others(
    fleet: Fleet, helm: Helm, mode: str
) -> None:
    process = await fleet.start(**SHORT)
    runs = await held(process, helm, 3)
    async with locked(fleet, f"select 1 from slackwater.runs where run_id = %s {mode}", runs[0]):
        await asyncio.sleep(HELD_UP_SECONDS)

        async def others_are_kept() -> bool:
            kept = await fleet.database.fetch(
                "select run_id from slackwater.runs where lease_until > clock_timestamp()"
            )
            return {row["run_id"] for row in kept} == set(runs[1:])

        await fleet.until(others_are_kept, 1)
        assert not any(attempt.lease.lost for attempt in process.runtime.worker.attempts)
    await go_on(fleet, helm, runs)


async def test_a_locked_table_costs_no_lease(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(**SHORT)
    runs = await held(process, helm, 3)
    async with locked(fleet, "lock table slackwater.runs in access exclusive mode"):
        await asyncio.sleep(HELD_UP_SECONDS)
    await go_on(fleet, helm, runs)


async def test_a_row_that_was_locked_by_who_takes_it_over_is_lost_when_that_is_done(
    fleet: Fleet, helm: Helm
) -> None:
    process = await fleet.start(**SHORT)
    (run,) = await held(process, helm, 1)
    # Nothing is to be stored that would meet the lock, too: a renewal alone can notice.
    await process.runtime.worker.live[run].writer.flush()
    async with await psycopg.AsyncConnection.connect(fleet.uri) as somebody:
        await somebody.execute(
            "update slackwater.runs set worker = 'another', fence = fence + 1, "
            "lease_until = clock_timestamp() + interval '1 hour'"
        )
        await asyncio.sleep(HELD_UP_SECONDS)
        attempt = process.runtime.worker.live[run]
        assert not attempt.lease.lost
        await somebody.commit()
    assert attempt.task is not None
    await asyncio.wait_for(asyncio.shield(attempt.task), 10)
    assert attempt.outcome is Outcome.LOST
    assert helm.done_by(run) == ["a"]


async def test_a_process_that_stood_still_goes_on_if_nobody_has_taken_its_run(
    fleet: Fleet, helm: Helm
) -> None:
    process = await fleet.start()
    runs = await held(process, helm, 2)
    # GIVEN leases that are over, here and in the database, as after a SIGSTOP
    await fleet.expire(*runs)
    for attempt in process.runtime.worker.attempts:
        attempt.lease.deadline = time.monotonic() - 1
    await go_on(fleet, helm, runs)


async def test_what_ends_a_run_asks_once_more_when_its_lease_is_over(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(linked=True)
    (run,) = await held(process, helm, 1)
    await fleet.expire(run)
    process.runtime.worker.live[run].lease.deadline = time.monotonic() - 1
    assert process.link is not None
    # WHEN the first thing that it says afterwards meets a socket that has died meanwhile
    process.link.drop()
    await go_on(fleet, helm, [run])


async def test_there_is_no_thread_before_the_first_run_no_connection_without_one_and_neither_at_the_end(
    fleet: Fleet, helm: Helm
) -> None:
    before = {*threading.enumerate()}

    def threads() -> int:
        return sum(thread.name == "renewal" for thread in {*threading.enumerate()} - before)

    async def connections() -> int:
        rows = await fleet.database.fetch(
            "select 1 from pg_stat_activity where application_name = 'slackwater renewal' "
            "and datname = current_database()"
        )
        return len(rows)

    async def none() -> bool:
        return not await connections()

    async def over() -> bool:
        return threads() == 0

    process = await fleet.start()
    assert threads() == 0
    runs = await held(process, helm, 1)
    assert (threads(), await connections()) == (1, 0)
    await process.runtime.worker.renew_now()
    assert await connections() == 1
    await go_on(fleet, helm, runs)
    await fleet.until(none)
    # Before a freeze it goes at once.
    runs = await held(process, helm, 1)
    await process.runtime.worker.renew_now()
    helm.hooks["b"].let_go()  # type: ignore[attr-defined]
    await fleet.ended(runs[0])
    await process.runtime.worker.idle(time.monotonic() + 5)
    await process.runtime.worker.renewal.rest(5)
    assert process.runtime.worker.renewal._connection is None
    await fleet.until(none)
    # And so it does when the process ends.
    await held(process, helm, 1)
    await process.runtime.worker.renew_now()
    await process.stop(**CUT)
    await fleet.until(over)
    await fleet.until(none)


async def test_nothing_is_busy_about_an_event_loop_that_stays_dead(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node that blocks it may be computing: a thread that turns without a pause takes the interpreter from it."""
    monkeypatch.setattr(blocked_loop, "LOOP_LEASES", 0.3)
    process = await fleet.start(**{**BRISK, "lease_seconds": 4.5})
    kept, turns = process.runtime.worker.renewal, [0]
    turn = kept._turn

    def counted() -> None:
        turns[0] += 1
        turn()

    monkeypatch.setattr(kept, "_turn", counted)
    seen: list[tuple[bool, int]] = []

    async def block(config: object) -> None:
        time.sleep(2.5)  # noqa: ASYNC251
        turns[0] = 0
        time.sleep(0.5)  # noqa: ASYNC251
        for _ in range(80):  # all of the process may have stood still
            if not turns[0]:
                time.sleep(0.01)  # noqa: ASYNC251
        seen.append((kept._watch.dead, turns[0]))

    helm.hooks["b"] = block
    await fleet.ended((await process.admit("line")).row["run_id"])
    ((dead, number),) = seen
    assert dead
    assert 0 < number < 50
