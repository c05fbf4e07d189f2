"""Runs that are admitted together, on threads that are new or idle: as if each were admitted alone, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from helm import Helm
from psycopg.types.json import Jsonb
from rig import Fleet, Process, fleet_on, new_run
from thread_rows import all_rows, everything

from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database, Row
from slackwater.runtime.queue import admission, admissions, claims
from slackwater.runtime.queue.admission import NewRun
from slackwater.runtime.queue.limits import UNLIMITED
from slackwater.runtime.queue.many import dumped
from tests.support.proxy import proxied
from tests.support.sessions import until_waiting

SAID: dict[str, Any] = {
    "metadata": {"of": "run", "n": 1},
    "assistant_metadata": {"of": "assistant", "a": "\u00fc"},
    "assistant_configurable": {"model": "x", "both": 1},
}

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "said": SAID,
    "configured": {**SAID, "config": {"configurable": {"both": 2, "checkpoint_id": "c", "__own": 1}}},
    "of the request": {"of_the_request": frozenset({"secret"}), "config": {"configurable": {"secret": 1}}},
    "stateless": {"on_completion": "delete"},
    "kept": {"on_completion": "keep"},
    "ttl": {"ttl": (12.5, "delete")},
    "ttl of a stateless run": {"ttl": (12.5, "delete"), "on_completion": "delete"},
    "interrupt": {"strategy": "interrupt"},
    "rollback": {"strategy": "rollback"},
    "reject": {"strategy": "reject"},
    "webhook": {"webhook": "https://example.org"},
}
_OF_RUN = ("metadata", "assistant_metadata", "assistant_configurable", "of_the_request", "ttl")


def new_of(case: str, thread_id: UUID | None = None, **options: Any) -> NewRun:
    options |= CASES[case]
    fields = {name: options.pop(name) for name in _OF_RUN if name in options}
    return replace(new_run("line", thread_id=thread_id, **options), **fields)


async def together(
    fleet: Fleet, news: Sequence[NewRun], claim: bool = True, worker: str = "w"
) -> dict[int, Row]:
    """Admit them with one statement; the rows of those that were admitted."""
    asked = [
        dumped(admission.parameters(new, worker=worker, claim=claim, lease_seconds=60, limits=UNLIMITED))
        for new in news
    ]
    (rows,) = await fleet.database.write(admissions.ADMISSIONS.statement(asked))
    return {row.pop("n"): row for row in rows}


async def alone(fleet: Fleet, new: NewRun, claim: bool = True) -> admission.Admitted:
    return await admission.admit(fleet.database, new, worker="w", claim=claim, lease_seconds=60)


async def idle_thread(fleet: Fleet, *heads: str, **options: Any) -> UUID:
    """A thread that is there, with these checkpoints."""
    thread_id = uuid7()
    row: dict[str, Any] = {
        "metadata": Jsonb({"of": "thread", "own": True}),
        "config": Jsonb({"configurable": {"old": 1}}),
        "values": Jsonb({"log": []}),
        "fence": 7,
        **options,
    }
    names = ", ".join(f'"{name}"' for name in row)
    await fleet.database.execute(
        f"insert into slackwater.threads (thread_id, owner, {names}) values (%s, 'alice', {', '.join(['%s'] * len(row))})",
        [thread_id, *row.values()],
    )
    for head in heads:
        await fleet.database.execute(
            "insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata) values (%s, '', %s, '{}', '{}')",
            [str(thread_id), head],
        )
    return thread_id


def told(row: Any) -> dict[str, Any]:
    """What callers are told of it, but for ids and times."""
    hidden = ("run_id", "thread_id", "created_at", "updated_at", "available_at", "claimed_at", "worker")
    return {name: value for name, value in row.items() if name not in hidden}


@pytest.mark.parametrize("claim", [True, False], ids=["begins here", "waits"])
async def test_a_run_on_a_new_thread_is_the_same_alone_and_together(fleet: Fleet, claim: bool) -> None:
    singles = {case: new_of(case) for case in CASES}
    admitted = {case: await alone(fleet, new, claim) for case, new in singles.items()}
    news = {case: new_of(case) for case in CASES}
    rows = await together(fleet, list(news.values()), claim)
    for n, (case, new) in enumerate(news.items(), 1):
        assert told(rows[n]) == told(admitted[case].row), case
        assert await all_rows(fleet, new.thread_id) == await all_rows(fleet, singles[case].thread_id), case


@pytest.mark.parametrize("claim", [True, False], ids=["begins here", "waits"])
@pytest.mark.parametrize("graph", [{}, {"graph_id": "old", "assistant_id": "a"}], ids=["none", "another"])
async def test_a_run_on_an_idle_thread_is_the_same_alone_and_together(
    fleet: Fleet, claim: bool, graph: dict[str, str]
) -> None:
    async def new(case: str) -> NewRun:
        thread_id = await idle_thread(fleet, "c1", "c2", metadata=Jsonb({"of": "thread", **graph}))
        return new_of(case, thread_id, create_thread=case == "ttl")

    singles = {case: await new(case) for case in CASES}
    admitted = {case: await alone(fleet, single, claim) for case, single in singles.items()}
    news = {case: await new(case) for case in CASES}
    rows = await together(fleet, list(news.values()), claim)
    for n, case in enumerate(news, 1):
        assert told(rows[n]) == told(admitted[case].row), case
        assert await all_rows(fleet, news[case].thread_id) == await all_rows(
            fleet, singles[case].thread_id
        ), case


# Who is left out


async def test_of_several_runs_on_one_thread_one_is_admitted(fleet: Fleet) -> None:
    new, idle = uuid7(), await idle_thread(fleet)
    news = [new_of("plain", thread_id) for thread_id in (idle, new, idle, new, new)]
    assert sorted(await together(fleet, news)) == [1, 2]
    runs = await fleet.database.fetch("select run_id from slackwater.runs")
    assert {row["run_id"] for row in runs} == {news[0].run_id, news[1].run_id}


@pytest.mark.parametrize("status", ["pending", "running"])
async def test_a_thread_on_which_something_runs_or_waits_is_left_alone(fleet: Fleet, status: str) -> None:
    first = new_of("plain")
    await alone(fleet, first, status == "running")
    before = await everything(fleet)
    assert await together(fleet, [new_of("plain", first.thread_id)]) == {}
    assert await everything(fleet) == before


async def test_a_thread_of_somebody_else_or_of_nobody_is_left_alone(fleet: Fleet) -> None:
    foreign = await idle_thread(fleet)
    await fleet.database.execute("update slackwater.threads set owner = 'bob'")
    before = await everything(fleet)
    news = [new_of("plain", foreign), new_of("plain", create_thread=False)]
    assert await together(fleet, news) == {}
    assert await everything(fleet) == before


async def test_an_admission_waits_for_no_thread_that_somebody_has(fleet: Fleet) -> None:
    idle, other = await idle_thread(fleet), await idle_thread(fleet)
    async with fleet.database.connection() as elsewhere, elsewhere.transaction():
        await elsewhere.execute("select 1 from slackwater.threads where thread_id = %s for update", [idle])
        async with asyncio.timeout(5):
            assert sorted(await together(fleet, [new_of("plain", idle), new_of("plain", other)])) == [2]


# Lost answers

LOST = {
    "its answer": lambda proxy: proxy.lose_answers("with asked as"),
    "it": lambda proxy: proxy.lose_requests("with asked as"),
    "its answer, and the next two": lambda proxy: proxy.lose_answers("slackwater.runs", times=3),
}


@pytest.mark.parametrize("lost", LOST)
async def test_an_admission_that_got_lost_is_admitted_once(
    database_uri: str, database: Database, fleet: Fleet, helm: Helm, lost: str
) -> None:
    with proxied(database_uri) as proxy:
        for create_thread in (True, False):
            async with fleet_on(proxy.uri, database) as far:
                process = await far.start()
                thread_id = uuid7() if create_thread else await idle_thread(fleet)
                LOST[lost](proxy)
                before = proxy.lost
                new = new_of("plain", thread_id, create_thread=create_thread, strategy="reject")
                admitted = await process.runtime.admit(new)
                assert proxy.lost > before
                assert admitted.row["run_id"] == new.run_id
                row = await fleet.ended(new.run_id)
                assert (row["status"], row["attempt"]) == ("success", 1)
                assert helm.begun_by(new.run_id) == list("abcd")
                runs = await fleet.database.fetch(
                    "select run_id from slackwater.runs where thread_id = %s", [thread_id]
                )
                assert runs == [{"run_id": new.run_id}]


@pytest.mark.parametrize("strategy", ["enqueue", "reject", "interrupt", "rollback"])
async def test_an_admission_that_arrives_after_it_was_said_again_is_admitted_once(
    database_uri: str, database: Database, fleet: Fleet, helm: Helm, strategy: str
) -> None:
    with proxied(database_uri) as proxy:
        async with fleet_on(proxy.uri, database) as far:
            process = await far.start()
            thread_id = uuid7()
            async with fleet.database.connection() as connection:
                # GIVEN an admission that waits for somebody who is making its thread when its connection breaks
                await connection.execute("begin")
                await connection.execute(
                    "insert into slackwater.threads (thread_id, owner) values (%s, 'alice')", [thread_id]
                )
                new = new_of("plain", thread_id, strategy=strategy)
                admitting = asyncio.create_task(process.runtime.admit(new))
                await until_waiting(fleet.uri)
                proxy.cut()
                # WHEN it is said again, and then the other one makes no thread after all
                await until_waiting(fleet.uri, 2)
                await connection.execute("rollback")
            assert (await admitting).row["run_id"] == new.run_id
            assert (await fleet.ended(new.run_id))["attempt"] == 1
            assert helm.begun_by(new.run_id) == list("abcd")
            assert len(await fleet.database.fetch("select 1 from slackwater.runs")) == 1


async def test_a_run_is_admitted_while_another_one_ends_on_its_thread(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    thread_id = uuid7()
    hold = helm.hold("d")
    runs = [new_of("plain", thread_id) for _ in range(6)]
    first = asyncio.create_task(process.runtime.admit(runs[0]))
    await asyncio.wait_for(hold.reached.wait(), 15)
    await first
    # WHEN the others come just when the end of the first one is on its way
    hold.let_go()
    await asyncio.gather(*(process.runtime.admit(new) for new in runs[1:]))
    # THEN they run, one after the other
    for new in runs:
        row = await fleet.ended(new.run_id)
        assert (row["status"], row["attempt"]) == ("success", 1)
        assert helm.begun_by(new.run_id) == list("abcd")


async def test_a_ready_run_whose_thread_somebody_holds_is_claimed_soon_after(
    fleet: Fleet, process: Process, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim passes over it, and nobody tells of it again: the next poll would be 20 seconds away."""
    passed_over, claim = asyncio.Event(), claims.claim

    async def watched(*args: Any, **options: Any) -> list[claims.ClaimedRun]:
        claimed = await claim(*args, **options)
        passed_over.set()
        return claimed

    thread_id = await idle_thread(fleet)
    new = new_of("plain", thread_id)
    await alone(fleet, new, claim=False)
    monkeypatch.setattr(claims, "claim", watched)
    # WHEN somebody holds the thread's row while it is claimed
    async with fleet.database.connection() as connection, connection.transaction():
        await connection.execute(
            "select 1 from slackwater.threads where thread_id = %s for update", [thread_id]
        )
        process.runtime.worker.offer()
        await asyncio.wait_for(passed_over.wait(), 5)
    # THEN
    assert (await fleet.ended(new.run_id))["status"] == "success"
