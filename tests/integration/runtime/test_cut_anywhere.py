"""A run that is stopped at any point of its life ends as one that nobody stops, and its readers hear the same."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from helm import Helm
from rig import Fleet, Process, Told

from slackwater.kit.ids import uuid7
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE

CUTS = int(os.environ.get("SLACKWATER_CUTS", "1"))
"""At how many points, of all where a process says something to its database, each run is stopped; 0: at all."""


@dataclass(frozen=True)
class Case:
    """A run, and the runs that came before it on its thread."""

    name: str
    graph: str
    options: dict[str, Any] = field(default_factory=dict)
    before: tuple[dict[str, Any], ...] = ()
    width: int = 1
    """How many nodes there are beside each other: their events have no order."""


CASES = [
    Case("line", "line"),
    Case("line again", "line", before=({},)),
    Case("subgraph", "nest", {"subgraphs": True}),
    Case("subgraph that remembers", "keeps", before=({},)),
    Case("fan out", "fan", width=3),
    Case("join", "joined", width=2),
    Case("held before", "gated", {"interrupt_before": ["c"]}),
    Case("held after", "gated", {"interrupt_after": ["b"]}),
    Case("let go", "gated", {"command": {"resume": "go"}}, before=({"interrupt_before": ["c"]},)),
    Case("asks", "ask"),
    Case("answered", "ask", {"command": {"resume": "yes"}}, before=({},)),
    Case("answered once of two", "ask_twice", {"command": {"resume": "one"}}, before=({},)),
    Case(
        "answered in a subgraph",
        "ask_nested",
        {"command": {"resume": "yes"}, "subgraphs": True},
        before=({},),
    ),
    Case("jumps", "jump", {"command": {"update": {"log": ["told"]}, "goto": "b"}}, before=({},)),
    Case("out of steps", "loop", {"given": {"n": 9}, "config": {"recursion_limit": 3}}),
    Case("in its last step", "loop", {"given": {"n": 4}, "config": {"recursion_limit": 4}}),
    Case("fails", "boom"),
]
DURABILITIES = ["sync", "async", "exit"]


@dataclass
class Trial:
    """One case with one durability: how it goes when nobody stops it."""

    fleet: Fleet
    helm: Helm
    case: Case
    durability: str
    home: Process
    reference: Told
    wanted: Counter[str]
    points: list[int]

    async def thread(self) -> UUID:
        """A thread on which everything that comes before the case has happened."""
        thread_id = uuid7()
        for options in self.case.before:
            await self.fleet.reference(self.home, self.case.graph, thread_id=thread_id, **options)
        return thread_id

    async def begin(self, process: Process, thread_id: UUID, run_id: UUID) -> None:
        options = {
            **self.case.options,
            "durability": self.durability,
            "thread_id": thread_id,
            "run_id": run_id,
        }
        await process.admit(self.case.graph, options.pop("given", None), **options)

    def check(self, told: Told, where: str) -> None:
        assert told.state == self.reference.state, where
        assert told.body == self.reference.body, "\n".join([where, *told.sequence])


async def trial_of(fleet: Fleet, helm: Helm, home: Process, case: Case, durability: str) -> Trial:
    first = await fleet.start("first", linked=True)
    assert first.link is not None
    trial = Trial(fleet, helm, case, durability, home, None, Counter(), [])  # type: ignore[arg-type]
    thread_id, run_id = await trial.thread(), uuid7()
    before = first.link.sent
    await trial.begin(first, thread_id, run_id)
    await fleet.ended(run_id)
    said = first.link.sent - before
    trial.reference = await fleet.told(home, run_id, thread_id)
    trial.wanted = Counter(helm.done_by(run_id))
    trial.points = list(range(1, said + 1))
    if CUTS:
        trial.points = sorted(random.sample(trial.points, min(CUTS, said)))
    await first.release()
    return trial


@pytest.mark.parametrize("durability", DURABILITIES)
async def test_a_run_that_is_drained_anywhere_does_every_node_once_and_says_everything_once(
    fleet: Fleet, helm: Helm, durability: str, subtests: pytest.Subtests
) -> None:
    home = await fleet.start("home")
    for case in CASES:
        with subtests.test(case.name):
            trial = await trial_of(fleet, helm, home, case, durability)
            for point in trial.points:
                await drained(trial, point)


async def drained(trial: Trial, point: int) -> None:
    fleet, case = trial.fleet, trial.case
    thread_id, run_id = await trial.thread(), uuid7()
    process = await fleet.start(linked=True)
    drain = drain_at(process, point)
    await trial.begin(process, thread_id, run_id)
    reader = asyncio.create_task(trial.home.read(run_id))
    await fleet.until(lambda: rests(fleet, run_id), what="its rest")
    await drain
    await process.release()
    row = await fleet.row(run_id)
    if row["status"] == "pending":
        await trial.home.claim()
    told = await fleet.told(trial.home, run_id, thread_id)
    where = f"drained at {point}: {row['status']} {row['stopped']}"
    trial.check(told, where)
    assert await reader == told.events, where
    assert Counter(trial.helm.done_by(run_id)) == trial.wanted, where
    if case.width == 1:
        assert told.sequence == trial.reference.sequence, where
    else:
        assert sorted(told.sequence) == sorted(trial.reference.sequence), where


@pytest.mark.parametrize("durability", DURABILITIES)
async def test_a_run_whose_process_is_killed_anywhere_loses_no_more_than_promised_and_no_event(
    fleet: Fleet, helm: Helm, durability: str, subtests: pytest.Subtests
) -> None:
    home = await fleet.start("home")
    for case in CASES:
        with subtests.test(case.name):
            trial = await trial_of(fleet, helm, home, case, durability)
            for point in trial.points:
                for heard in (False, True) if not CUTS else (random.random() < 0.5,):
                    await killed(trial, point, heard)


async def killed(trial: Trial, point: int, heard: bool) -> None:
    fleet, case = trial.fleet, trial.case
    thread_id, run_id = await trial.thread(), uuid7()
    process = await fleet.start(linked=True, statement_seconds=0.3)
    assert process.link is not None
    process.link.cut_at(point, executed=heard)
    begun = False
    with suppress(*DATABASE_UNAVAILABLE):
        await trial.begin(process, thread_id, run_id)
        begun = True
    while begun and not process.link.is_cut and not await rests(fleet, run_id):
        await asyncio.sleep(0.005)
    await process.die()
    row = await fleet.find(run_id)
    if row is None:
        return  # the client was not told that there is one
    row = await fleet.bury(process, trial.home, run_id)
    where = f"killed at {point}, heard: {heard}: {row['status']} {row['stopped']} {row['input_applied']}"
    told = await fleet.told(trial.home, run_id, thread_id)
    trial.check(told, where)
    again = Counter(trial.helm.done_by(run_id)) - trial.wanted
    lost = {"sync": 1, "async": 2, "exit": 99}[trial.durability] * case.width
    assert again.total() <= lost, (where, again)
    missing = left_out(trial.reference.sequence, told.sequence, ordered=case.width == 1)
    # A node may have been stored before LangGraph let us hear of it: one superstep's `updates` at most.
    assert all(line.startswith("updates") for line in missing), (where, missing, told.sequence)
    assert len(missing) <= case.width, (where, missing, told.sequence)


def drain_at(process: Process, point: int) -> asyncio.Future[Any]:
    """Drain the process when it says something to its database for the `point`th time from now, or else at the end."""
    assert process.link is not None
    begin = asyncio.Event()
    last = process.link.sent + point

    def said(sent: int) -> None:
        if sent >= last:
            begin.set()

    async def drain() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await begin.wait()
        await process.drain()

    process.link.on_sent = said
    return asyncio.create_task(drain())


async def rests(fleet: Fleet, run_id: UUID) -> bool:
    row = await fleet.find(run_id)
    return row is not None and row["status"] != "running"


def left_out(wanted: Iterable[str], heard: list[str], *, ordered: bool) -> list[str]:
    """What of `wanted` is not in `heard`, in this order."""
    wanted = [line for line in wanted if not line.startswith("metadata")]
    # An update that was stored but not heard of is told by the next attempt, which knows it from the checkpoint.
    heard = [line.replace(',"__metadata__":{"cached":true}', "") for line in heard]
    if not ordered:
        return list((Counter(wanted) - Counter(heard)).elements())
    position, missing = 0, []
    for line in wanted:
        try:
            position = heard.index(line, position) + 1
        except ValueError:
            missing.append(line)
    return missing
