"""A large state is stored once, and then what each superstep adds; it is read whole, by whoever reads it."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any
from uuid import UUID

import pytest
from helm import Helm
from rig import OWNER, Fleet, Process

from slackwater.api.runs import queries as runs
from slackwater.protocols.a2a import queries as tasks
from slackwater.runtime.events.deltas import DELTA_OF
from slackwater.runtime.events.journal import BEGINNING, Event, EventId, event_of
from slackwater.runtime.events.result import Collector
from slackwater.runtime.events.thread_reader import RUN_DONE

LINES = [f"{n:04} " + "slack water é" * 3 for n in range(400)]
GIVEN = {"log": LINES}
SIZE = len(json.dumps(LINES, ensure_ascii=False).encode())
STATES = {"stream_mode": ["values"]}
NESTED = {"stream_mode": ["values", "updates"], "subgraphs": True}


async def stored(fleet: Fleet, run_id: UUID) -> list[Event]:
    return [event_of(row) for row in await fleet.event_rows(run_id)]


async def of_thread(process: Process, thread_id: UUID, cursor: EventId) -> list[Event]:
    said: list[Event] = []
    log = process.runtime.thread_log.follow(OWNER, thread_id, cursor)
    async with asyncio.timeout(10), aclosing(log) as batches:
        async for batch in batches:
            said += [Event(*entry[:3]) for entry in batch if entry.name != RUN_DONE]
            if any(entry.name == RUN_DONE for entry in batch):
                return said
    raise AssertionError


def states(events: list[Event], name: str = "values") -> list[Any]:
    return [json.loads(event.data)["log"] for event in events if event.name == name]


@pytest.mark.parametrize(("graph", "options"), [("line", STATES), ("nest", NESTED)])
async def test_from_every_event_on_all_readers_get_the_same_states(
    fleet: Fleet, process: Process, graph: str, options: dict[str, Any]
) -> None:
    other = await fleet.start()
    run = (await process.admit(graph, GIVEN, **options)).row
    whole = await process.read(run["run_id"])

    for cursor in (BEGINNING, *(event.id for event in whole)):
        rest = [event for event in whole if event.id > cursor]
        assert await other.read(run["run_id"], cursor) == rest
        assert await of_thread(other, run["thread_id"], cursor) == rest

    in_the_table = await stored(fleet, run["run_id"])
    names = {event.name for event in whole if event.name.startswith("values")}
    assert [event.id for event in in_the_table] == [event.id for event in whole]
    for name in names:
        assert any(event.name == f"{DELTA_OF}{name}" for event in in_the_table)
    # and each state costs what is new in it; the root graph gets all of it once more from the graph inside
    of_states = sum(len(event.data) for event in in_the_table if "values" in event.name)
    assert of_states < (SIZE if graph == "line" else 4 * SIZE) + 2_000


async def test_what_a_run_has_come_to_is_read_from_the_table(fleet: Fleet, process: Process) -> None:
    run_id = (await process.admit("line", GIVEN, **STATES)).row["run_id"]
    whole = await process.read(run_id)
    assert states(whole)[-1] == [*LINES, "a", "b", "c", "d"]
    collector = Collector()
    async with aclosing(runs.result_events(fleet.database, run_id)) as events:
        async for event in events:
            collector.feed(event.name, event.data)
    assert collector.body(None) == whole[-1].data
    assert await tasks.last_values(fleet.database, [run_id]) == {run_id: whole[-1].data}


async def test_what_is_asked_stands_in_the_table_as_it_is(fleet: Fleet, process: Process) -> None:
    """Clients' commands look for it there."""
    run_id = (await process.admit("ask", GIVEN, **STATES)).row["run_id"]
    await process.read(run_id)
    asked = [event for event in await stored(fleet, run_id) if b'"__interrupt__":[{' in event.data]
    assert [event.name for event in asked] == ["values"]


async def test_a_run_goes_on_elsewhere_and_no_state_is_said_twice(fleet: Fleet, helm: Helm) -> None:
    process, other = await fleet.start(linked=True), await fleet.start()
    hold = helm.hold("d")
    run_id = (await process.admit("line", GIVEN, **STATES)).row["run_id"]
    await asyncio.wait_for(hold.reached.wait(), 15)
    journal = process.runtime.worker.live[run_id].journal

    async def written() -> bool:
        return not journal.unwritten

    await fleet.until(written)
    watched = asyncio.create_task(other.read(run_id))
    await process.die()
    helm.hooks.clear()
    await fleet.expire(run_id)
    await other.runtime.sweep()
    await other.claim()

    whole = await watched

    assert {event.id.fence for event in whole} == {1, 2}
    assert states(whole) == [[*LINES, *"abcd"[:n]] for n in range(5)]
    for cursor in (BEGINNING, *(event.id for event in whole)):
        assert await other.read(run_id, cursor) == [event for event in whole if event.id > cursor]
