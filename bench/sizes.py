"""Whether costs grow with the tables: the same operations on databases with few and with many rows.

A few real runs are made on a thread, and rows of theirs are multiplied: other threads with a run, an event and a checkpoint
each, or other runs of that thread with their events and checkpoints. Then claim, admission and end are called as they are, and
the API is asked over HTTP, each on one database after the other.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import psycopg

from bench.claim import admit, claim, end
from bench.companion import Companion
from bench.lab import ROUNDS, Lab
from bench.sides import Round, Served
from bench.tables import Finding, Goal, figure, percentile, spread
from slackwater.postgres.pool import Database

GOAL = 1.3
SECONDS, MOST = 2.0, 10
"""A round of a call. Few, as each run adds to the thread's, which shall be few where they are."""
OPERATIONS = 60
THREADS = (10, 10_000, 1_000_000)
RUNS = 5000
PAGE = 10
"""What is listed and searched at a time. The thread has had as many runs in each database: all answer with a whole page."""
CHUNK = 50_000
THREAD = "00000000-0000-0000-0000-000000000000"
"""With real runs; on it everything is done that is not done on a new one."""
RUN = {"assistant_id": "one", "input": {"lines": ["slack water"]}, "if_not_exists": "create"}
"""With a state of few bytes: it is the number of rows that grows."""

NUMBERED = "('00000000-0000-0000-{group}-' || lpad(to_hex(n), 12, '0'))"
_COPY = """
insert into {table} overriding user value
select copy.* from (select r from {table} as r {source}) as one, generate_series(%(first)s::int, %(last)s::int) as n,
  jsonb_populate_record(one.r, jsonb_build_object({changes})) as copy"""
"""Copies of one row, whatever columns a later migration gives it."""

_RUN_ID = NUMBERED.format(group="0001")
_THREAD_ID = NUMBERED.format(group="0000")
_OTHER_THREADS = (
    (
        "slackwater.threads",
        f"where thread_id = '{THREAD}'",
        f"'thread_id', {_THREAD_ID}, 'updated_at', now() - n * interval '1 millisecond'",
    ),
    (
        "slackwater.runs",
        f"where thread_id = '{THREAD}' order by seq limit 1",
        f"'thread_id', {_THREAD_ID}, 'run_id', {_RUN_ID}",
    ),
    (
        "slackwater.run_events",
        f"where thread_id = '{THREAD}' order by fence desc, seq desc limit 1",
        f"'thread_id', {_THREAD_ID}, 'run_id', {_RUN_ID}",
    ),
    (
        "checkpoints",
        f"where thread_id = '{THREAD}' order by checkpoint_id desc limit 1",
        f"'thread_id', {_THREAD_ID}",
    ),
)
_OTHER_RUNS = (
    (
        "slackwater.runs",
        f"where thread_id = '{THREAD}' order by seq limit 1",
        f"'run_id', {_RUN_ID}, 'created_at', now() - n * interval '1 millisecond'",
    ),
    (
        "slackwater.run_events",
        f"where thread_id = '{THREAD}' order by fence desc, seq desc limit 1",
        f"'run_id', {_RUN_ID}",
    ),
    *(
        (
            "checkpoints",
            f"where thread_id = '{THREAD}' order by checkpoint_id desc limit 1",
            f"'checkpoint_id', {NUMBERED.format(group=group)}",  # before the real ones, which begin with the time
        )
        for group in ("0000", "0001")
    ),
)


@dataclass(frozen=True)
class Size:
    name: str
    rows: int
    copies: Sequence[tuple[str, str, str]]
    """The table, which of its rows to copy, and what differs in copy number n."""


@dataclass(frozen=True)
class Call:
    """A request to the server."""

    name: str
    path: str
    body: Mapping[str, Any] | None = None


CALLS = (
    Call("list runs of the thread", f"/threads/{THREAD}/runs?limit={PAGE}"),
    Call("list runs of the thread that failed", f"/threads/{THREAD}/runs?limit={PAGE}&status=error"),
    Call("search threads", "/threads/search", {"limit": PAGE}),
    Call(
        "search threads that wait for an answer", "/threads/search", {"limit": PAGE, "status": "interrupted"}
    ),
    Call("wait, one node, on the thread", f"/threads/{THREAD}/runs/wait", RUN),
    Call("stream, one node, on the thread", f"/threads/{THREAD}/runs/stream", RUN),
    Call("stream, one node, on a new thread", "/threads/{thread}/runs/stream", RUN),
)


def run(lab: Lab) -> Finding:
    threads = (10, 1000) if lab.quick else THREADS
    sizes = [
        *(Size(f"{rows:,} threads".replace(",", " "), rows, _OTHER_THREADS) for rows in threads),
        Size(f"{lab.few(RUNS, quick=50)} runs on the thread", lab.few(RUNS, quick=50), _OTHER_RUNS),
    ]
    original = _original(lab)
    uris = {size.name: _filled(lab, original, size) for size in sizes}
    times = asyncio.run(_operations(lab, uris, on_the_thread=sizes[-1].name))
    times |= _calls(lab, uris)
    return _report(lab, times, [size.name for size in sizes])


def _original(lab: Lab) -> str:
    """A database with a thread that has had a few runs."""
    uri = lab.database()
    with lab.serve(uri) as server, Companion("bench.client") as client:
        path = f"/threads/{THREAD}/runs/wait"
        client.ask("background", url=server.url, path=path, body=RUN, requests=PAGE, clients=1)
        server.terminate()
    return uri


def _filled(lab: Lab, original: str, size: Size) -> str:
    uri = lab.copy(original)
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("set synchronous_commit = off")
        work = [(copy, first) for copy in size.copies for first in range(1, size.rows + 1, CHUNK)]
        for (table, source, changes), first in lab.rounds(f"growth: {size.name}", work):
            connection.execute(
                _COPY.format(table=table, source=source, changes=changes),
                {"first": first, "last": min(first + CHUNK - 1, size.rows)},
            )
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")
    return uri


async def _operations(
    lab: Lab, uris: Mapping[str, str], *, on_the_thread: str
) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of claim, admission and end, by database. The admitted run is claimed next."""
    times: dict[str, dict[str, list[float]]] = {
        what: defaultdict(list) for what in ("claim", "admission", "end")
    }
    async with AsyncExitStack() as stack:
        databases = {}
        for name, uri in uris.items():
            databases[name] = Database(uri, max_size=2, statement_seconds=30, name="bench")
            await databases[name].open()
            stack.push_async_callback(databases[name].close, 1)
        for number in lab.rounds("growth: claim, admission, end", range(lab.few(OPERATIONS, quick=5) + 1)):
            for name, database in databases.items():
                into = {what: times[what][name] if number else [] for what in times}  # the first one connects
                thread = UUID(THREAD) if name == on_the_thread else None
                await admit(database, thread, into["admission"], claim=False)
                await end(database, await claim(database, into["claim"]), into["end"])
    return times


def _calls(lab: Lab, uris: Mapping[str, str]) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of the calls, by database."""
    with ExitStack() as stack:
        client = stack.enter_context(Companion("bench.client"))
        servers = {
            name: Served(lab, [stack.enter_context(lab.serve(uri))], client) for name, uri in uris.items()
        }
        times = {}
        for call in CALLS:
            for server in servers.values():  # imports, connects
                _ask(call, server)
            rounds = lab.by_turns(f"growth: {call.name}", servers, partial(_ask, call))
            times[call.name] = {
                name: [ms for one in found for ms in one.latencies] for name, found in rounds.items()
            }
        return times


def _ask(call: Call, server: Served) -> Round:
    return server.ask(call.path, call.body, 1, SECONDS, MOST)


def _report(lab: Lab, times: Mapping[str, Mapping[str, list[float]]], sizes: Sequence[str]) -> Finding:
    least, *more = sizes
    finding = Finding(
        "Growth with the tables: milliseconds at the median, and how many times those of the smallest",
        ("", *sizes, *(f"times, {name}" for name in more)),
        notes=[
            f"Claim, admission and end: {lab.few(OPERATIONS, quick=5)} calls each, on a new thread or on that with all the runs. "
            f"The others over HTTP, one client, {lab.few(ROUNDS)} rounds of {MOST} calls. By turns."
        ],
    )
    worst = 0.0
    for what, by_size in times.items():
        medians = {name: percentile(by_size[name], 0.5) for name in sizes}
        ratios = {name: medians[name] / medians[least] for name in more}
        worst = max(worst, *ratios.values())
        finding.rows.append((what, *(f"{ms:.2f}" for ms in medians.values()), *map(figure, ratios.values())))
        finding.data[what] = {
            "ms": {name: spread(by_size[name]) for name in sizes},
            "times": {name: round(ratio, 3) for name, ratio in ratios.items()},
        }
    what = f"claim, end, list, search, stream: the worst of {', '.join(more)} against {least}"
    finding.goals.append(Goal(what, worst, GOAL, unit=" times"))
    return finding
