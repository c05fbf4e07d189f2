"""What a run has is freed when it ends, and not only when the garbage collector looks through its oldest generation."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from helm import Helm
from rig import Fleet

from slackwater.runtime.events.journal import Event, Journal
from slackwater.runtime.execution.attempt import Attempt
from slackwater.runtime.execution.checkpointer import RunSaver
from slackwater.runtime.execution.node_threads import NodeThreads
from slackwater.runtime.fenced.writer import Writer
from slackwater.runtime.queue.claims import ClaimedRun

OF_A_RUN = (Attempt, ClaimedRun, Event, Journal, RunSaver, Writer)
TURNS = 100


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> Counter[str]:
    return Counter(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, OF_A_RUN))


@pytest.mark.usefixtures("no_collector")
async def test_the_collector_finds_nothing_that_a_run_had(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start()
    for _ in range(3):
        run = (await process.admit("line")).row
        assert (await fleet.ended(run["run_id"]))["status"] == "success"
    for _ in range(TURNS):  # its task ends after its row
        if not process.runtime.worker.attempts:
            break
        await asyncio.sleep(0.05)
    assert not process.runtime.worker.attempts
    await asyncio.sleep(0)
    before = alive()
    gc.collect()
    assert alive() == before


class Result:
    pass


def returns(given: Result) -> Result:
    return given


def raises(given: Result) -> Result:
    raise ValueError(given)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("node", [returns, raises])
async def test_what_a_sync_node_was_given_is_gone_with_its_last_user(
    node: Callable[[Result], Result],
) -> None:
    threads = NodeThreads()
    result = Result()
    call = threads.submit(node, result)
    answer = asyncio.wrap_future(call)
    await asyncio.wait({answer})
    assert (answer.exception() is None) == (node is returns)
    del call, result, answer
    for _ in range(TURNS):  # the thread lets go of it after the answer
        if not any(isinstance(thing, Result) for thing in gc.get_objects()):
            break
        await asyncio.sleep(0.01)
    threads.shutdown()
    assert not any(isinstance(thing, Result) for thing in gc.get_objects())
