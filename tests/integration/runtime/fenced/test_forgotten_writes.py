"""An asynchronous failover may forget what a claim has stored last, and not the claim: its owner leaves no hole."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from helm import Helm
from rig import ASSISTANT, BRISK, OWNER, Fleet, Process, Told, fleet_on, settle_alone

from slackwater.errors import RunOver
from slackwater.postgres.pool import Database
from slackwater.postgres.schema import migrate
from slackwater.project.gateway import GatewaySpec
from slackwater.runtime.execution.owning_loop import OwningLoop
from slackwater.runtime.fenced.writer import Forgotten
from slackwater.workspace.memory import document, queries
from slackwater.workspace.memory.of_runs import MemoryOfRuns
from tests.support.replication import Replication, replicated

SETTINGS = {**BRISK, "lease_seconds": 60.0}
"""Whoever waits for the lease waits in vain here."""

_names = (f"forgotten{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def servers() -> Iterator[Replication]:
    with replicated() as pair:
        yield pair


@dataclass
class Pair:
    """One process on two servers, and what becomes of them."""

    servers: Replication
    fleet: Fleet
    process: Process

    async def caught_up(self) -> None:
        await asyncio.to_thread(self.servers.until_caught_up)

    async def cut(self) -> None:
        """What is acknowledged from now on will have been forgotten."""
        await asyncio.to_thread(self.servers.until_caught_up)
        await asyncio.to_thread(self.servers.cut)

    async def fail_over(self) -> None:
        await asyncio.to_thread(self.servers.promote)
        await asyncio.to_thread(self.servers.demote)

    async def stored(self) -> None:
        """Everything that the run has said and put is acknowledged."""
        (attempt,) = self.process.runtime.worker.attempts
        await attempt.writer.flush()

    async def whole(self, told: Told) -> None:
        """The thread's history has no hole, and its log says what has happened."""
        rows = await self.fleet.database.fetch(
            """select checkpoint_id, parent_checkpoint_id as parent, checkpoint, metadata -> 'step' as step
               from checkpoints where checkpoint_ns = '' order by checkpoint_id"""
        )
        ids = {row["checkpoint_id"] for row in rows}
        assert [row["step"] for row in rows] == [-1, 0, 1, 2, 3, 4]
        assert [row["parent"] for row in rows[1:]] == [row["checkpoint_id"] for row in rows[:-1]]
        blobs = await self.fleet.database.fetch(
            "select version from checkpoint_blobs where channel = 'log' and type <> 'empty'"
        )
        versions = [row["checkpoint"]["channel_versions"].get("log") for row in rows]
        assert {version for version in versions if version} <= {row["version"] for row in blobs}
        assert len(set(versions)) >= 5
        assert told.thread["values"]["log"] == list("abcd")
        assert told.row["last_checkpoint_id"] == max(ids)
        # and no number is missing in what each attempt has said
        of_fence: dict[int, list[int]] = {}
        for event in await self.fleet.events(told.row["run_id"]):
            of_fence.setdefault(event["fence"], []).append(event["seq"])
        for seqs in of_fence.values():
            assert seqs == list(range(1, len(seqs) + 1))


@pytest.fixture
async def pair(servers: Replication) -> AsyncIterator[Pair]:
    name = next(_names)
    servers.primary.execute(f"create database {name}")
    uri = servers.uri(name)
    await migrate(f"{uri}?target_session_attrs=read-write")
    servers.until_caught_up()
    database = Database(uri, max_size=3, statement_seconds=10, name="test")
    await database.open()
    try:
        async with fleet_on(uri, database) as fleet:
            yield Pair(servers, fleet, await fleet.start(**SETTINGS))
    finally:
        await database.close(1)


async def begun(pair: Pair, **options: Any) -> tuple[UUID, UUID]:
    row = (await pair.process.admit("line", **options)).row
    return row["run_id"], row["thread_id"]


def begun_in(helm: Helm, attempt: int) -> list[str]:
    return [step.node for step in helm.steps if (step.phase, step.attempt) == ("begin", attempt)]


async def reached(hold: Any) -> None:
    await asyncio.wait_for(hold.reached.wait(), 10)


@pytest.mark.parametrize("modes", [["values", "updates"], ["custom"]])
async def test_a_run_whose_last_superstep_is_forgotten_repeats_it(
    pair: Pair, helm: Helm, modes: list[str]
) -> None:
    b, c = helm.hold("b"), helm.hold("c")
    run_id, thread_id = await begun(pair, stream_mode=modes)
    await reached(b)
    await pair.stored()
    # GIVEN a superstep of which the standby has heard nothing
    await pair.cut()
    del helm.hooks["b"]
    b.let_go()
    await reached(c)
    await pair.stored()
    # WHEN the standby takes over, and the node that runs meanwhile goes on
    await pair.fail_over()
    del helm.hooks["c"]
    c.let_go()
    told = await pair.fleet.told(pair.process, run_id, thread_id)
    # THEN the run goes on from the last superstep that is known, and its readers are told
    assert (told.row["status"], told.row["attempt"]) == ("success", 2)
    assert begun_in(helm, 2) == ["b", "c", "d"]
    said = [event["event"] for event in await pair.fleet.events(run_id)]
    assert said.count("metadata") == 2
    await pair.whole(told)


async def test_a_run_of_which_nothing_is_forgotten_goes_on(pair: Pair, helm: Helm) -> None:
    c = helm.hold("c")
    run_id, thread_id = await begun(pair)
    await reached(c)
    await pair.stored()
    await pair.caught_up()
    await pair.fail_over()
    c.let_go()
    told = await pair.fleet.told(pair.process, run_id, thread_id)
    assert (told.row["status"], told.row["attempt"], told.row["fence"]) == ("success", 1, 1)
    assert helm.begun_by(run_id) == list("abcd")
    assert [event.name for event in told.events].count("metadata") == 1
    await pair.whole(told)


SAID = [{"role": "user", "content": "I am Ann"}]
REMEMBERS = GatewaySpec.model_validate({"models": [{"name": "fast", "model": "perplexity:stub"}]})


@pytest.mark.parametrize("forgotten", [None, "item", "fact", "update"])
async def test_a_node_stores_after_a_failover_unless_what_it_has_stored_is_forgotten(
    pair: Pair, helm: Helm, forgotten: str | None
) -> None:
    c = helm.hold("c")
    run_id, thread_id = await begun(pair)
    await reached(c)
    await pair.stored()
    (attempt,) = pair.process.runtime.worker.attempts
    database, store = (
        pair.process.runtime.database,
        pair.process.runtime.store_of(OWNER, attempt.lease),
    )
    memory = MemoryOfRuns(database, lambda: REMEMBERS).of(OWNER, thread_id, attempt.lease, OwningLoop())

    async def put(name: str, what: str | None = None) -> None:
        if what in (None, "item"):
            await store.aput(("shelf",), name, {"n": 1})
        if what in (None, "fact"):
            await memory.remember(name, "context", 1.0)
        if what in (None, "update"):
            await memory.update(SAID)

    # GIVEN an item, a fact, or an update of the memory, of which the standby has heard, or has not
    if forgotten is not None:
        await pair.cut()
    await put("first", forgotten)
    if forgotten is None:
        await pair.caught_up()
    await pair.fail_over()
    # WHEN the node stores another one
    if forgotten is not None:
        with pytest.raises(RunOver):
            await put("second", forgotten)
    else:
        await put("second")
    # THEN there is never the later one without the earlier one, and the run that lost one repeats its superstep
    both = [] if forgotten is not None else ["first", "second"]
    items = await pair.process.runtime.store_of(OWNER).asearch(("shelf",))
    assert sorted(item.key for item in items) == both
    kept = await queries.read(database, OWNER)
    assert [fact["content"] for fact in document.read(kept.value)["facts"]] == both
    waiting = await pair.fleet.database.fetch("select messages from slackwater.memory_updates")
    assert [row["messages"] for row in waiting] == ([] if forgotten is not None else [SAID])
    del helm.hooks["c"]
    c.let_go()
    told = await pair.fleet.told(pair.process, run_id, thread_id)
    assert (told.row["status"], told.row["attempt"]) == ("success", 2 if forgotten else 1)
    await pair.whole(told)


async def test_what_others_change_is_not_forgotten_once_the_run_has_stored_more(
    pair: Pair, helm: Helm
) -> None:
    """An update of the memory that was made, an item that somebody else has put: the run goes on all the same."""
    b, c = helm.hold("b"), helm.hold("c")
    run_id, thread_id = await begun(pair)
    await reached(b)
    (attempt,) = pair.process.runtime.worker.attempts
    store = pair.process.runtime.store_of(OWNER, attempt.lease)
    await store.aput(("shelf",), "first", {"n": 1})
    del helm.hooks["b"]
    b.let_go()
    await reached(c)
    await pair.stored()
    await pair.process.runtime.store_of(OWNER).aput(("shelf",), "first", {"n": 2})
    await pair.caught_up()
    await pair.fail_over()
    await store.aput(("shelf",), "second", {"n": 3})
    del helm.hooks["c"]
    c.let_go()
    told = await pair.fleet.told(pair.process, run_id, thread_id)
    assert (told.row["status"], told.row["attempt"]) == ("success", 1)


async def test_a_run_does_not_end_over_a_head_that_is_forgotten(
    pair: Pair, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle_alone(monkeypatch)
    d = helm.hold("d")
    run_id, thread_id = await begun(pair)
    await reached(d)
    await pair.stored()
    settling = pair.process.runtime.settling
    turns = settling._value
    for _ in range(turns):
        await settling.acquire()
    # GIVEN a run that has stored its last checkpoint, and not said yet that it is over
    await pair.cut()
    del helm.hooks["d"]
    d.let_go()
    (attempt,) = pair.process.runtime.worker.attempts

    async def finished() -> bool:
        return attempt.ended is not None

    await pair.fleet.until(finished, what="the graph has ended")
    await pair.stored()
    # WHEN the server that it tells knows nothing of that
    await pair.fail_over()
    for _ in range(turns):
        settling.release()
    # THEN it says so only when it is true
    told = await pair.fleet.told(pair.process, run_id, thread_id)
    assert (told.row["status"], told.row["attempt"]) == ("success", 2)
    assert begun_in(helm, 2) == ["d"]
    await pair.whole(told)


async def test_a_state_update_whose_beginning_is_forgotten_is_refused(pair: Pair) -> None:
    run_id, thread_id = await begun(pair)
    await pair.fleet.ended(run_id)
    await pair.caught_up()
    hold = pair.process.runtime.hold(thread_id, owner=OWNER, graph_id="line", assistant_id=ASSISTANT)
    async with hold as held:
        await pair.cut()
        held.writer.publish("custom", b"1")
        await held.writer.flush()
        await pair.fail_over()
        held.writer.publish("custom", b"2")
        with pytest.raises(Forgotten):
            await held.writer.flush()
