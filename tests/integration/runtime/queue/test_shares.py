"""Whose run is next: claims are shared out per owner, and what an owner may have has limits, in all processes together."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from helm import Helm
from rig import BRISK, CUT, Fleet, Process, new_run

from slackwater.errors import TooManyRuns
from slackwater.identity.limits import service
from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database
from slackwater.postgres.shares import OWNERS, Shares
from slackwater.runtime.queue import admission, claims
from slackwater.runtime.queue.claims import ClaimedRun
from slackwater.runtime.queue.limits import Limits

OPTIONS: dict[str, Any] = {"worker": "w", "graphs": ["line"], "lease_seconds": 60.0}


async def waiting(database: Database, owner: str, count: int, *, due_in: float = 0.0) -> list[UUID]:
    """So many runs of an owner that wait, each on a thread of its own."""
    news = [new_run("line", owner=owner, after_seconds=due_in) for _ in range(count)]
    await admission.admit_batch(database, news, worker="none", claims=0, lease_seconds=60)
    return [new.run_id for new in news]


async def crowd(database: Database, owners: Sequence[str], count: int, *, due_in: float = 0.0) -> None:
    """The same for many, as rows."""
    await database.execute(
        """
        with t as (
          insert into slackwater.threads (thread_id, owner)
          select gen_random_uuid(), o from unnest(%(owners)s::text[]) o, generate_series(1, %(count)s)
          returning thread_id, owner
        )
        insert into slackwater.runs (run_id, thread_id, owner, assistant_id, graph_id, kwargs, ready, available_at)
        select gen_random_uuid(), thread_id, owner, gen_random_uuid(), 'line', '{"input": {"log": []}}', true,
          clock_timestamp() + make_interval(secs => %(due_in)s) from t
        """,
        {"owners": list(owners), "count": count, "due_in": due_in},
    )


def owners_of(runs: Sequence[ClaimedRun]) -> Counter[str]:
    return Counter(run.owner for run in runs)


async def take(
    database: Database, limit: int, share: Shares, in_hand: Sequence[str] = ()
) -> list[ClaimedRun]:
    taken = await claims.claim(database, limit=limit, share=share, in_hand=in_hand, **OPTIONS)
    for run in taken:
        share.served(run.owner)
    return taken


# Shares


async def test_a_claim_is_shared_out_between_owners(database: Database) -> None:
    hers = await waiting(database, "alice", 60)
    his = await waiting(database, "bob", 12)

    taken = await take(database, 16, Shares())

    assert owners_of(taken) == {"alice": 8, "bob": 8}
    # AND of each owner the oldest
    assert {run.run_id for run in taken} == {*hers[:8], *his[:8]}


async def test_owners_take_turns_where_one_run_at_a_time_is_taken(database: Database) -> None:
    await waiting(database, "alice", 60)
    await waiting(database, "bob", 3)
    await waiting(database, "carol", 3)
    share = Shares()

    turns = [run.owner for _ in range(9) for run in await take(database, 1, share)]

    assert turns == ["alice", "bob", "carol"] * 3


async def test_who_has_the_most_in_hand_comes_last(database: Database) -> None:
    await waiting(database, "alice", 60)
    await waiting(database, "bob", 3)

    taken = await take(database, 3, Shares(), in_hand=["alice"] * 5 + ["bob"])

    assert owners_of(taken) == {"bob": 3}


async def test_what_nobody_else_wants_one_owner_gets(database: Database) -> None:
    await waiting(database, "alice", 20)

    assert owners_of(await take(database, 16, Shares(), in_hand=["alice"] * 9)) == {"alice": 16}


async def test_who_waits_alone_is_not_shared_out_until_somebody_else_comes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = Shares()
    with monkeypatch.context() as broken:
        # Sharing costs as much as the claim itself: where there is nothing to share nothing is asked for it.
        broken.setattr(claims, "_CLAIM", "this is not asked")
        assert await take(database, 1, share) == []
        await waiting(database, "alice", 20)
        assert owners_of(await take(database, 16, share, in_hand=["alice"])) == {"alice": 16}

    await waiting(database, "bob", 2)
    assert owners_of(await take(database, 2, share)) == {"alice": 1, "bob": 1}
    assert owners_of(await take(database, 2, share)) == {"alice": 1, "bob": 1}
    assert owners_of(await take(database, 1, share)) == {"alice": 1}

    monkeypatch.setattr(claims, "_CLAIM", "this is not asked")
    assert owners_of(await take(database, 5, share)) == {"alice": 1}


async def test_behind_many_owners_who_have_nothing_due_each_is_found(database: Database) -> None:
    """Those who are looked up at once are few; the next claim goes on after them."""
    await crowd(database, ["alice"], 200)
    await crowd(database, [f"later-{number:04}" for number in range(3 * OWNERS)], 1, due_in=3600)
    await waiting(database, "zoe", 1)
    share = Shares()

    turns = [run.owner for _ in range(5) for run in await take(database, 1, share)]

    assert "zoe" in turns


async def test_a_process_with_one_place_serves_who_comes_after_hundreds(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(**{**BRISK, "max_concurrent_runs": 1})
    await crowd(fleet.database, ["alice"], 300)
    hold = helm.hold("b")
    process.runtime.worker.wake()
    await asyncio.wait_for(hold.reached.wait(), 15)
    # GIVEN a place that is taken, and others who wait for it
    run = (await process.admit("line", owner="bob")).row
    assert run["status"] == "pending"

    hold.let_go()

    row = await fleet.ended(run["run_id"])
    ended = await fleet.database.fetch(
        "select owner from slackwater.runs where ended_at < %s", [row["ended_at"]]
    )
    assert len(ended) <= 2


async def test_a_new_run_does_not_go_before_those_that_wait(fleet: Fleet, helm: Helm) -> None:
    """There may be a place for it in the moment in which it comes: it is not its own."""
    process = await fleet.start(**{**BRISK, "max_concurrent_runs": 1})
    hold = helm.hold("b")
    await process.admit("line", owner="alice")
    await asyncio.wait_for(hold.reached.wait(), 15)
    waits = (await process.admit("line", owner="bob")).row["run_id"]
    worker = process.runtime.worker
    await fleet.until(lambda: worker._crowded)

    assert worker.room_for_new == 0
    hold.let_go()
    later = [(await process.admit("line", owner="alice")).row["run_id"] for _ in range(5)]

    first = await fleet.ended(waits)
    for run in later:
        assert (await fleet.ended(run))["ended_at"] > first["ended_at"]
    await fleet.until(lambda: worker.room_for_new)


@pytest.mark.parametrize("limit", [1, 16])
@pytest.mark.parametrize("others", [20, 0])
async def test_a_claim_reads_no_more_however_long_the_queue_is(
    database: Database, limit: int, others: int
) -> None:
    read = []
    for more in (1_000, 19_000):
        await crowd(database, ["alice"], more)
        await crowd(database, [f"owner-{number}" for number in range(others)], 2)
        async with database.connection() as connection:
            await connection.execute("analyze slackwater.runs, slackwater.threads")
            params = {"worker": "w", "graphs": ["line"], "limit": limit, "lease": 60.0, "occupied": []}
            params |= {"max_running": None, **Shares().parameters(["alice"])}
            statement = claims._CLAIM if others else claims._CLAIM_ALONE
            cursor = await connection.execute(f"explain (analyze, buffers, format json) {statement}", params)
            row = await cursor.fetchone()
            assert row is not None
            plan = row["QUERY PLAN"][0]["Plan"]
            await connection.rollback()
        assert "Seq Scan" not in [node["Node Type"] for node in nodes_of(plan)], json.dumps(plan)
        read.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    assert read[1] < 1.5 * read[0] + 50, read


def nodes_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes_of(child))]


# Limits on running


async def running(database: Database) -> Counter[str]:
    rows = await database.fetch("select owner from slackwater.runs where status = 'running'")
    return Counter(row["owner"] for row in rows)


async def test_no_owner_has_more_runs_than_may_be_worked_on(fleet: Fleet, helm: Helm) -> None:
    hold = helm.hold("b")
    settings = {**BRISK, "max_running_per_owner": 2}
    one, other = await fleet.start(**settings), await fleet.start(**settings)
    runs = [(await p.admit("line", owner="alice")).row["run_id"] for p in (one, other) for _ in range(4)]
    his = (await one.admit("line", owner="bob")).row["run_id"]

    # WHILE the others wait, THEN another owner does not
    await fleet.reaches(his, "running")
    assert await running(fleet.database) == {"alice": 2, "bob": 1}
    hold.let_go()
    # AND each goes on when one has ended
    for run in runs:
        await fleet.ended(run)


async def limit(database: Database, owner: str, **values: int) -> None:
    await service.set_(database, owner, values)


async def test_an_owners_own_limit_holds_without_one_of_the_settings_and_takes_precedence(
    fleet: Fleet, helm: Helm
) -> None:
    await limit(fleet.database, "alice", running=2)
    await limit(fleet.database, "bob", running=0)
    hold = helm.hold("b")
    one, other = await fleet.start(**BRISK), await fleet.start(**BRISK, max_running_per_owner=1)
    runs = [(await p.admit("line", owner="alice")).row["run_id"] for p in (one, other) for _ in range(3)]
    his = [(await other.admit("line", owner="bob")).row["run_id"] for _ in range(3)]
    for run in his:
        await fleet.reaches(run, "running")
    assert await running(fleet.database) == {"alice": 2, "bob": 3}
    # WHEN it is lowered while the others wait, what runs goes on
    await limit(fleet.database, "alice", running=1)
    hold.let_go()
    for run in runs:
        await fleet.ended(run)


async def test_a_limit_that_is_lowered_holds_for_what_waits(fleet: Fleet) -> None:
    await waiting(fleet.database, "alice", 10)
    await limit(fleet.database, "alice", running=4)
    share = Shares()
    assert len(await take(fleet.database, 2, share)) == 2
    await limit(fleet.database, "alice", running=3)
    assert len(await take(fleet.database, 8, share)) == 1
    assert len(await take(fleet.database, 8, share)) == 0
    await service.unset(fleet.database, "alice")
    assert len(await take(fleet.database, 8, share)) == 7


async def test_the_end_of_a_run_offers_what_its_owners_own_limit_has_kept_waiting(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On AWS Lambda nobody would look otherwise."""
    await limit(fleet.database, "alice", running=1)
    process = await fleet.start(poll_seconds=3.0, lease_seconds=30.0)
    hold = helm.hold("b")
    first = (await process.admit("line", owner="alice")).row["run_id"]
    await asyncio.wait_for(hold.reached.wait(), 10)
    second = await process.admit("line", owner="alice")
    assert second.row["status"] == "pending"
    offered = process.runtime.worker.offer
    offers: list[int] = []

    def offer(runs: int = 1) -> None:
        offers.append(runs)
        offered(runs)

    monkeypatch.setattr(process.runtime.worker, "offer", offer)
    hold.let_go()
    await fleet.ended(first)
    await fleet.ended(second.row["run_id"])
    assert offers


async def test_claims_at_once_do_not_go_beyond_the_limit(fleet: Fleet) -> None:
    await waiting(fleet.database, "alice", 40)
    await waiting(fleet.database, "bob", 2)
    claimers = [await fleet.start(begin=False) for _ in range(4)]

    async def claim(process: Process) -> list[ClaimedRun]:
        return await claims.claim(
            process.database, limit=8, max_running=5, **{**OPTIONS, "worker": process.name}
        )

    taken = [run for runs in await asyncio.gather(*map(claim, claimers)) for run in runs]

    assert owners_of(taken)["alice"] <= 5
    assert await running(fleet.database) == owners_of(taken)
    for process in claimers:
        await claim(process)
    assert await running(fleet.database) == {"alice": 5, "bob": 2}


async def test_admissions_and_claims_at_once_do_not_either(fleet: Fleet) -> None:
    await waiting(fleet.database, "alice", 10)
    processes = [await fleet.start(begin=False) for _ in range(4)]
    limits = Limits(running=3)

    async def start(process: Process) -> None:
        for _ in range(3):
            await admission.admit(
                process.database,
                new_run("line", owner="alice"),
                worker=process.name,
                claim=True,
                lease_seconds=60,
                limits=limits,
            )
            await claims.claim(
                process.database, limit=2, max_running=3, **{**OPTIONS, "worker": process.name}
            )

    await asyncio.gather(*map(start, processes))

    assert await running(fleet.database) == {"alice": 3}


# Limits on waiting


async def test_one_more_than_may_wait_is_refused_and_leaves_nothing(database: Database) -> None:
    limits = Limits(pending=2)
    options: dict[str, Any] = {"worker": "w", "lease_seconds": 60.0, "limits": limits}
    await admission.admit(database, new_run("line", owner="alice"), claim=False, **options)
    await admission.admit(database, new_run("line", owner="alice", after_seconds=60), claim=False, **options)
    before = await everything(database)

    for new in (
        new_run("line", owner="alice"),
        new_run("line", owner="alice", idempotency_key="k"),
        new_run("line", owner="alice", on_completion="delete"),
    ):
        with pytest.raises(TooManyRuns):
            await admission.admit(database, new, claim=False, **options)
    assert await everything(database) == before
    # One that need not wait, and another owner's, are taken
    begun = await admission.admit(database, new_run("line", owner="alice"), claim=True, **options)
    assert begun.claimed is not None
    await admission.admit(database, new_run("line", owner="bob"), claim=False, **options)


async def test_of_a_batch_all_are_taken_or_none(database: Database) -> None:
    limits = Limits(pending=3)
    options: dict[str, Any] = {"worker": "w", "lease_seconds": 60.0, "limits": limits}
    batch = [new_run("line", owner="alice", on_completion="delete") for _ in range(5)]
    before = await everything(database)

    with pytest.raises(TooManyRuns):
        await admission.admit_batch(database, batch, claims=1, **options)

    assert await everything(database) == before
    # With two that begin at once only three wait
    admitted = await admission.admit_batch(database, batch, claims=2, **options)
    assert [one.claimed is not None for one in admitted] == [True, True, False, False, False]


async def test_runs_that_a_new_one_displaces_make_room_for_it(database: Database) -> None:
    options: dict[str, Any] = {
        "worker": "w",
        "claim": False,
        "lease_seconds": 60.0,
        "limits": Limits(pending=1),
    }
    thread = uuid7()
    await admission.admit(database, new_run("line", owner="alice", thread_id=thread), **options)

    later = new_run("line", owner="alice", thread_id=thread, strategy="rollback")
    await admission.admit(database, later, **options)

    rows = await database.fetch("select run_id from slackwater.runs where status = 'pending'")
    assert [row["run_id"] for row in rows] == [later.run_id]


async def test_admissions_at_once_do_not_go_beyond_the_limit(fleet: Fleet) -> None:
    processes = [await fleet.start(begin=False) for _ in range(4)]
    refused = 0

    async def admit(process: Process) -> None:
        nonlocal refused
        for _ in range(5):
            try:
                await admission.admit(
                    process.database,
                    new_run("line", owner="alice"),
                    worker="w",
                    claim=False,
                    lease_seconds=60,
                    limits=Limits(pending=7, running=1),
                )
            except TooManyRuns:
                refused += 1

    await asyncio.gather(*map(admit, processes))

    (row,) = await fleet.database.fetch("select count(*) as waiting from slackwater.runs")
    assert (row["waiting"], refused) == (7, 13)


async def test_a_run_that_is_handed_over_is_never_refused(fleet: Fleet, helm: Helm) -> None:
    hold = helm.hold("b")
    settings = {**BRISK, "max_pending_per_owner": 1}
    leaving = await fleet.start(**settings)
    runs = [(await leaving.admit("line", owner="alice")).row["run_id"] for _ in range(3)]
    await asyncio.wait_for(hold.reached.wait(), 15)

    await leaving.stop(**CUT)

    assert {(await fleet.row(run))["status"] for run in runs} == {"pending"}
    hold.let_go()
    await fleet.start(**settings)
    for run in runs:
        assert (await fleet.ended(run))["status"] == "success"


async def everything(database: Database) -> list[list[dict[str, Any]]]:
    tables = ("threads", "runs", "idempotency_keys")
    return [await database.fetch(f"select * from slackwater.{table} order by 1, 2") for table in tables]  # type: ignore[arg-type]
