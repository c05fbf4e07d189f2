"""Whether a long queue stays fast: the statements themselves, on a real database.

A database with a short queue and one with a long one take turns, operation by operation.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from bench.lab import Lab
from bench.tables import Finding, Goal, percentile, spread
from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database
from slackwater.runtime.fenced import settlement
from slackwater.runtime.fenced.settlement import End, ThreadFacts, Whose
from slackwater.runtime.queue import admission, claims
from slackwater.runtime.queue.admission import NewRun
from slackwater.runtime.queue.claims import ClaimedRun
from slackwater.runtime.queue.states import RunStatus

FEW, MANY = 100, 10_000
GOAL = 2.0
WORKER, GRAPH, OWNER = "bench", "one", "local"
"""The owner that a server on the loopback has without keys."""
ASSISTANT = UUID(int=0)
LEASE_SECONDS = 30.0

_THREADS = """
insert into slackwater.threads (thread_id, owner, status)
select ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid, %(owner)s, 'busy'
from generate_series(1, %(threads)s) as n"""
_RUNS = """
insert into slackwater.runs (run_id, thread_id, owner, assistant_id, graph_id, kwargs, ready)
select gen_random_uuid(), ('00000000-0000-0000-0000-' || lpad(to_hex(least(n, %(threads)s)), 12, '0'))::uuid, %(owner)s,
  %(assistant)s, %(graph)s, '{"config": {}}', n <= %(threads)s
from generate_series(1, %(runs)s) as n"""


@dataclass(frozen=True)
class Queue:
    """Pending runs: all on one thread, or each on its own."""

    name: str
    busy_thread: bool
    analyzed: bool = True
    """The table is analyzed after the insert, as autovacuum does within a minute."""


QUEUES = (
    Queue("on one busy thread", True),
    Queue("on as many threads", False),
    Queue("on as many, just arrived", False, analyzed=False),
)


def run(lab: Lab) -> list[Finding]:
    operations, many = lab.few(90, quick=5), lab.few(MANY, quick=500)
    finding = Finding(
        f"The queue: {many} pending runs against {FEW}, ms",
        ("", f"{FEW}: p50 / p95", f"{many}: p50 / p95", "p95 ratio"),
        notes=[
            f"{operations} of each, the two databases by turns. On the busy thread a claim takes the next run when the one "
            "before has ended, and an admission joins the queue; else it starts a new thread.",
        ],
    )
    for queue in QUEUES:
        times = asyncio.run(_measure(lab, queue, (FEW, many), operations))
        for operation in ("claim", "end", "admission"):
            short, long = times[FEW][operation], times[many][operation]
            ratio = percentile(long, 0.95) / percentile(short, 0.95)
            finding.rows.append(
                (
                    f"{operation}, {queue.name}",
                    f"{percentile(short, 0.5):.2f} / {percentile(short, 0.95):.2f}",
                    f"{percentile(long, 0.5):.2f} / {percentile(long, 0.95):.2f}",
                    f"{ratio:.2f}",
                )
            )
            finding.data[f"{operation}, {queue.name}"] = {
                str(FEW): spread(short),
                str(many): spread(long),
                "ratio_p95": round(ratio, 3),
            }
            if operation == "claim":
                what = f"claims with {many} pending runs {queue.name} against {FEW}, p95"
                finding.goals.append(Goal(what, ratio, GOAL, unit=" times"))
    return [finding]


async def _measure(
    lab: Lab, queue: Queue, sizes: tuple[int, int], operations: int
) -> dict[int, dict[str, list[float]]]:
    times: dict[int, dict[str, list[float]]] = {size: defaultdict(list) for size in sizes}
    async with AsyncExitStack() as stack:
        databases = {
            size: await stack.enter_async_context(_queued(await asyncio.to_thread(lab.database), queue, size))
            for size in times
        }
        for database in databases.values():
            await _operate(database, queue, defaultdict(list))  # connects
        for _ in lab.rounds(f"claim: {queue.name}", range(operations)):
            for size, database in databases.items():
                await _operate(database, queue, times[size])
    return times


@asynccontextmanager
async def _queued(uri: str, queue: Queue, size: int) -> AsyncIterator[Database]:
    database = Database(uri, max_size=4, statement_seconds=30, name="bench")
    await database.open()
    try:
        params = {
            "threads": 1 if queue.busy_thread else size,
            "runs": size,
            "owner": OWNER,
            "graph": GRAPH,
            "assistant": ASSISTANT,
        }
        await database.execute(_THREADS, params)
        await database.execute(_RUNS, params)
        if queue.analyzed:
            await database.execute("analyze slackwater.threads, slackwater.runs")
        yield database
    finally:
        await database.close(1)


async def _operate(database: Database, queue: Queue, times: dict[str, list[float]]) -> None:
    run = await claim(database, times["claim"])
    admitted = await admit(database, run.thread_id if queue.busy_thread else None, times["admission"])
    await end(database, run, times["end"])
    if admitted is not None:
        await end(database, admitted, [])


async def claim(database: Database, times: list[float]) -> ClaimedRun:
    """Claim the next run of the queue. Appends the time that it takes to `times`, in milliseconds."""
    with timed(times):
        run, *_ = await claims.claim(
            database, worker=WORKER, graphs=[GRAPH], limit=1, lease_seconds=LEASE_SECONDS
        )
    return run


async def admit(
    database: Database, thread_id: UUID | None, times: list[float], *, claim: bool = True
) -> ClaimedRun | None:
    """Admit a new run on the thread, or on a new one; with `claim` it starts at once if the thread is free."""
    new = _new_run(thread_id or uuid4())
    with timed(times):
        admitted = await admission.admit(
            database, new, worker=WORKER, claim=claim, lease_seconds=LEASE_SECONDS
        )
    return admitted.claimed


async def end(database: Database, run: ClaimedRun, times: list[float]) -> None:
    with timed(times):
        whose = Whose(run.run_id, run.thread_id, OWNER, run.fence, run.lease.worker)
        facts = ThreadFacts("idle", b"{}")
        await settlement.end(database, End(whose, RunStatus.SUCCESS, facts, last_event=f"{run.fence}-0"))


@contextmanager
def timed(times: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    times.append((time.perf_counter() - started) * 1000)


def _new_run(thread_id: UUID) -> NewRun:
    kwargs: dict[str, Any] = {"input": {}, "config": {"configurable": {}}}
    return NewRun(
        run_id=uuid7(),
        thread_id=thread_id,
        owner=OWNER,
        assistant_id=ASSISTANT,
        graph_id=GRAPH,
        kwargs=kwargs,
        metadata={},
        assistant_metadata={},
        assistant_configurable={},
        create_thread=True,
    )
