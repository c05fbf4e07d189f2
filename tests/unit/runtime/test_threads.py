"""The threads of sync nodes: shared out, counted, never waited for; names are resolved beside them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from slackwater.kit import threads as module
from slackwater.kit.threads import MAX_LEFT
from slackwater.runtime.execution import node_threads
from slackwater.runtime.execution.node_threads import (
    MAX_LOOKUPS,
    MAX_THREADS,
    MAX_THREADS_PER_RUN,
    NodeThreads,
    current_run,
)


@pytest.fixture
def threads() -> Iterator[NodeThreads]:
    executor = NodeThreads()
    yield executor
    executor.shutdown()


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """What nodes wait for."""
    event = threading.Event()
    yield event
    event.set()


def submit(threads: NodeThreads, run_id: UUID | None, work: Callable[..., Any], *args: Any) -> Future[Any]:
    token = current_run.set(run_id)
    try:
        return threads.submit(work, *args)
    finally:
        current_run.reset(token)


def occupy(threads: NodeThreads, go: threading.Event, run_id: UUID, number: int) -> None:
    for _ in range(number):
        submit(threads, run_id, go.wait)


def fill(threads: NodeThreads, go: threading.Event) -> list[UUID]:
    runs = [uuid4() for _ in range(MAX_THREADS // MAX_THREADS_PER_RUN)]
    for run_id in runs:
        occupy(threads, go, run_id, MAX_THREADS_PER_RUN)
    until(lambda: threads._nodes.working == MAX_THREADS)
    return runs


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def connect() -> None:
    with pytest.raises(psycopg.OperationalError):
        async with asyncio.timeout(5):
            await psycopg.AsyncConnection.connect("host=localhost port=1 connect_timeout=2 dbname=x")


@pytest.mark.parametrize("debug", [False, True])
async def test_a_connection_is_made_while_every_thread_is_taken(
    threads: NodeThreads, go: threading.Event, debug: bool
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(debug)
    loop.set_default_executor(threads)
    fill(threads, go)
    await connect()
    # THEN also from a node's own context
    current_run.set(uuid4())
    await connect()


async def test_names_that_nodes_ask_for_hold_up_nobody_else(
    threads: NodeThreads, go: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.get_running_loop().set_default_executor(threads)
    monkeypatch.setattr(node_threads, "_resolves", lambda function: True)
    for _ in range(3 * MAX_LOOKUPS):
        submit(threads, uuid4(), go.wait)
    await asyncio.wait_for(asyncio.to_thread(lambda: None), 5)


def test_a_run_never_has_all_threads(threads: NodeThreads, go: threading.Event) -> None:
    occupy(threads, go, uuid4(), 3 * MAX_THREADS)
    assert submit(threads, uuid4(), lambda: "free").result(5) == "free"


def test_those_who_wait_are_served_in_turns(threads: NodeThreads, go: threading.Event) -> None:
    # Only one of them becomes free: what several do at a time is in no order.
    free = threading.Event()
    occupy(threads, free, uuid4(), 1)
    for _ in range(MAX_THREADS - 1):
        occupy(threads, go, uuid4(), 1)
    until(lambda: threads._nodes.working == MAX_THREADS)
    order: list[str] = []
    first, second = uuid4(), uuid4()
    waiting = [submit(threads, first, order.append, "first") for _ in range(5)]
    waiting.append(submit(threads, second, order.append, "second"))
    free.set()
    for future in waiting:
        future.result(5)
    assert "second" in order[:3]


def test_what_runs_leave_behind_is_counted_and_replaced(threads: NodeThreads, go: threading.Event) -> None:
    runs = fill(threads, go)
    late = submit(threads, runs[0], lambda: None)
    assert threads.left == 0
    # WHEN the runs are over, and their nodes are not
    assert [threads.leave(run_id) for run_id in runs] == [MAX_THREADS_PER_RUN] * len(runs)
    # THEN what has not begun never does, and others have all threads
    assert late.cancelled()
    assert threads.left == MAX_THREADS
    barrier = threading.Barrier(MAX_THREADS)
    others = [
        submit(threads, run_id, barrier.wait, 10)
        for run_id in (uuid4(), uuid4())
        for _ in range(MAX_THREADS_PER_RUN)
    ]
    for other in others:
        other.result(10)
    # AND they are given back when they return after all
    go.set()
    until(lambda: threads.left == 0)
    until(lambda: not any(threads.busy(run_id) for run_id in runs))


def test_when_nothing_moves_any_more_it_says_so(
    threads: NodeThreads, go: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STUCK_SECONDS", 0.05)
    began = MAX_THREADS + MAX_LEFT
    while began:
        run_id = uuid4()
        occupy(threads, go, run_id, MAX_THREADS_PER_RUN)
        began -= MAX_THREADS_PER_RUN
        assert not threads.stuck
        if began >= MAX_THREADS:
            until(lambda: threads._nodes.working == MAX_THREADS_PER_RUN)
            threads.leave(run_id)
    until(lambda: threads.stuck)
    go.set()
    assert submit(threads, uuid4(), lambda: 1).result(5) == 1
    assert not threads.stuck


async def test_the_end_of_the_loop_and_of_the_process_waits_for_none(
    threads: NodeThreads, go: threading.Event
) -> None:
    occupy(threads, go, uuid4(), 2)
    waiting = [submit(threads, None, go.wait) for _ in range(MAX_THREADS)]
    loop = asyncio.get_running_loop()
    loop.set_default_executor(threads)
    await asyncio.wait_for(loop.shutdown_default_executor(), 5)
    until(lambda: any(thread.name.startswith("node-") for thread in threading.enumerate()))
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("node-"))
    assert sum(future.cancelled() for future in waiting) >= MAX_THREADS - MAX_THREADS_PER_RUN


def test_what_a_call_raises_and_returns_comes_out(threads: NodeThreads) -> None:
    def fails() -> None:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        submit(threads, None, fails).result(5)
    assert submit(threads, None, lambda a, b: a + b, 1, 2).result(5) == 3


def test_a_call_that_is_cancelled_before_its_turn_is_forgotten(
    threads: NodeThreads, go: threading.Event
) -> None:
    runs = fill(threads, go)
    waiting = submit(threads, runs[0], lambda: None)
    assert waiting.cancel()
    go.set()
    until(lambda: not threads.busy(runs[0]))
    assert threads._nodes._queued == 0
