"""One drill: servers on a database, runs on them, and what must hold of both in the end."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.support.effects import Effect, Effects, Watcher, finished, repeated, started
from tests.support.server import LEASE_SECONDS, Fleet, ServerProcess

PROJECT = Path(__file__).parent / "project"
RENAMED = Path(__file__).parent / "renamed"

COUNT = int(os.environ.get("SLACKWATER_DRILLS", "20"))
"""How many runs each drill stops, each at a random moment of its own."""

BATCH = 20
"""How many of them at once."""

OVER = ("success", "error", "timeout", "interrupted")

ENDS = """
create table ends (run_id uuid not null, status text not null);
create function note_end() returns trigger language plpgsql as
  $$ begin insert into ends values (new.run_id, new.status); return null; end $$;
create trigger ends after update of status on slackwater.runs for each row
  when (old.status is distinct from new.status
    and (new.status not in ('pending', 'running') or old.status not in ('pending', 'running')))
  execute function note_end();"""
"""Notes each end of a run, and whatever becomes of it after that."""


def batches(count: int = COUNT, size: int = BATCH) -> list[int]:
    """`count` in parts of at most `size`."""
    return [min(size, count - done) for done in range(0, count, size)]


@dataclass(frozen=True)
class Run:
    """A run that a drill has started."""

    run_id: str
    thread_id: str
    graph: str


@dataclass
class Drill:
    """The servers of one database, and the runs on them."""

    watcher: Watcher
    fleet: Fleet
    effects: Effects
    runs: list[Run] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    """What the watch has found: runs and threads that nobody owned for too long."""
    _clients: dict[str, LangGraphClient] = field(default_factory=dict)

    # Doing

    async def pairs(self, **options: Any) -> AsyncIterator[tuple[int, ServerProcess, ServerProcess]]:
        """For each batch: its size, a server to stop, and one that goes on."""
        first, second = await self.fleet.start(2, **options)
        sizes = batches()
        for n, size in enumerate(sizes):
            yield size, first, second
            if n + 1 < len(sizes):
                first, second = second, self.fleet.launch(**options)
                await second.until_ready()

    def client(self, server: ServerProcess) -> LangGraphClient:
        """The stock client of one server."""
        if server.name not in self._clients:
            self._clients[server.name] = get_client(url=server.url, timeout=30, api_key=None)
        return self._clients[server.name]

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def begin(
        self,
        server: ServerProcess,
        graph: str,
        given: Any,
        *,
        spread: float = 0,
        thread_id: str | None = None,
        **options: Any,
    ) -> Run:
        """Start a run in the background, up to `spread` seconds from now: so its stop comes at a moment of its own."""
        await asyncio.sleep(random.uniform(0, spread))
        row = await self.client(server).runs.create(
            thread_id or str(uuid4()), graph, input=given, if_not_exists="create", **options
        )
        run = Run(row["run_id"], row["thread_id"], graph)
        self.runs.append(run)
        return run

    async def begin_many(
        self,
        server: ServerProcess,
        graph: str,
        given: Any,
        count: int,
        *,
        spread: float = 0.5,
        **options: Any,
    ) -> list[Run]:
        return list(
            await asyncio.gather(
                *(self.begin(server, graph, given, spread=spread, **options) for _ in range(count))
            )
        )

    async def until(self, condition: Any, timeout: float = 60, what: str = "") -> None:
        """Poll the database until `condition()` holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout} s: {what}\n{self.states()}\n{self.fleet.logs()}")
            await asyncio.sleep(0.03)

    async def until_started(self, runs: Sequence[Run], steps: int = 1) -> None:
        """Wait until each run has started so many nodes."""
        ids = [run.run_id for run in runs]

        def all_started() -> bool:
            return all(len(started(effects)) >= steps for effects in self.effects.of_runs(ids).values())

        await self.until(all_started, what=f"{steps} nodes of each run")

    async def until_over(self, runs: Sequence[Run] | None = None, timeout: float = 60) -> None:
        """Wait until the runs are over, wherever."""
        ids = [run.run_id for run in (self.runs if runs is None else runs)]
        await self.until(
            lambda: (
                not self.watcher.query(
                    "select 1 from slackwater.runs where run_id = any(%s::uuid[]) and status in ('pending', 'running')",
                    (ids,),
                )
            ),
            timeout,
            "all runs over",
        )

    async def stop(self, server: ServerProcess, how: str = "SIGTERM", timeout: float = 10) -> float:
        """Stop the process, and wait until it has gone with the right exit code; the seconds that took."""
        since = server.send(signal.Signals[how])
        code = await server.wait(timeout)
        took = time.monotonic() - since
        assert code == (0 if how == "SIGTERM" else -signal.SIGKILL), f"exit {code}\n{server.tail()}"
        return took

    # Looking

    def row(self, run: Run) -> dict[str, Any]:
        rows = self.watcher.query("select * from slackwater.runs where run_id = %s", (run.run_id,))
        assert rows, f"run {run.run_id} is gone"
        return rows[0]

    def thread(self, run: Run) -> dict[str, Any]:
        return self.watcher.query("select * from slackwater.threads where thread_id = %s", (run.thread_id,))[
            0
        ]

    def admitted(self, graph: str) -> int:
        """How many runs of the graph there are."""
        rows = self.watcher.query("select count(*) as n from slackwater.runs where graph_id = %s", (graph,))
        return int(rows[0]["n"])

    def active(self, graph: str) -> int:
        """How many runs of the graph are being worked on."""
        rows = self.watcher.query(
            "select count(*) as n from slackwater.runs where graph_id = %s and status = 'running'",
            (graph,),
        )
        return int(rows[0]["n"])

    def begun(self, graph: str) -> int:
        """How many runs of the graph have ever been worked on."""
        rows = self.watcher.query(
            "select count(*) as n from slackwater.runs where graph_id = %s and started_at is not null",
            (graph,),
        )
        return int(rows[0]["n"])

    def owned_by(self, server: ServerProcess) -> int:
        """How many runs the process works on."""
        rows = self.watcher.query(
            "select count(*) as n from slackwater.runs where status = 'running' and worker like %s",
            (f"%:{server.pid}:%",),
        )
        return int(rows[0]["n"])

    def supersteps(self, run: Run) -> list[int]:
        """The supersteps of the run's root checkpoints."""
        rows = self.watcher.query(
            "select (metadata ->> 'step')::int as step from checkpoints where thread_id = %s and checkpoint_ns = '' "
            "and metadata ->> 'run_id' = %s order by checkpoint_id",
            (run.thread_id, run.run_id),
        )
        return [row["step"] for row in rows]

    def stale_events(self, run: Run) -> list[dict[str, Any]]:
        """Events of an earlier owner that were written after a later one had taken the run."""
        return self.watcher.query(
            "select e.fence, e.seq, e.event from slackwater.run_events e join slackwater.runs r using (run_id) "
            "where run_id = %s and e.fence < r.fence and e.created_at > r.claimed_at",
            (run.run_id,),
        )

    def states(self) -> str:
        rows = self.watcher.query(
            "select run_id::text, status, attempt, handovers, stopped, reason, worker, fence, error from slackwater.runs "
            "where status <> 'success' order by created_at limit 20",
        )
        return "\n".join(str(row) for row in rows)

    async def watch(self) -> None:
        """Look for runs and threads without an owner, for as long as the drill lasts."""
        late = LEASE_SECONDS + 5
        served_since: float | None = None
        while True:
            serves = any(server.alive and server.url for server in self.fleet.servers)
            served_since = (served_since or time.monotonic()) if serves else None
            try:
                found = await asyncio.to_thread(self.watcher.query, _ORPHANS, {"late": late, "over": 5.0})
            except Exception:
                found = []  # the database is what this drill has stopped
            # Where no process is there at all, nobody can take over.
            if served_since is not None and time.monotonic() - served_since > late:
                self.orphans += [str(row) for row in found]
            await asyncio.sleep(0.25)

    # Judging

    def cuts(self) -> Counter[str]:
        """How often each run was cut inside a superstep by a drain's deadline, as the reports have it."""
        return Counter(
            run["run_id"]
            for server in self.fleet.servers
            for report in server.events("drain.report")
            for run in report["runs"]
            if run["outcome"] == "cancelled"
        )

    def check_run(self, run: Run, nodes: Sequence[str], log: Sequence[str] | None = None) -> list[Effect]:
        """A run that was stopped by nothing but SIGTERM: it succeeded, and each node finished exactly once.

        `log` is what the thread holds, if that is not `nodes`.
        """
        row, thread = self.row(run), self.thread(run)
        assert row["status"] == "success", f"{row['status']}: {row['error']}\n{self.fleet.logs()}"
        assert thread["status"] == "idle"
        assert thread["values"]["log"] == list(log or nodes)
        effects = self.effects.of(run.run_id)
        done, begun = finished(effects), started(effects)
        assert not repeated(done), (
            f"finished twice: {repeated(done)} of {run}\n{effects}\n{self.fleet.logs()}"
        )
        assert done == list(nodes)
        if not self.cuts()[run.run_id]:
            assert not repeated(begun), f"started twice: {repeated(begun)} of {run}\n{effects}"
        return effects

    def check(self) -> None:
        """What holds at the end of every drill: nobody was forgotten, and no log says what none may say."""
        assert not self.orphans, self.orphans
        left = self.watcher.query(
            "select run_id::text, status, worker from slackwater.runs where status in ('pending', 'running')",
        )
        assert not left, f"{left}\n{self.fleet.logs()}"
        busy = self.watcher.query("select thread_id::text from slackwater.threads where status = 'busy'")
        assert not busy, f"{busy}\n{self.fleet.logs()}"
        again = self.watcher.query(
            "select run_id::text, array_agg(status) as ends from ends group by run_id having count(*) > 1"
        )
        assert not again, f"ended more than once: {again}\n{self.fleet.logs()}"
        assert not self.fleet.complaints, "\n".join(self.fleet.complaints)
        for server in self.fleet.servers:
            for report in server.events("drain.report"):
                self.check_report(report)

    def check_report(self, report: dict[str, Any]) -> None:
        """A drain report agrees with itself."""
        assert set(report) >= {"reason", "budget_ms", "took_ms", "runs"}
        assert report["took_ms"] <= report["budget_ms"] + 100
        for run in report["runs"]:
            assert set(run) == {
                "run_id", "thread_id", "outcome", "handed_over", "attempt", "fence", "checkpoint_id", "ms",
            }  # fmt: skip
            assert run["outcome"] in ("finished", "drained", "cancelled", "left")
            assert run["handed_over"] == (run["outcome"] in ("drained", "cancelled")), run


_ORPHANS = """
select 'run' as kind, run_id::text as id, status, worker, (clock_timestamp() - lease_until)::text as since
from slackwater.runs
where status = 'running' and lease_until < clock_timestamp() - make_interval(secs => %(over)s)
union all
select 'thread', thread_id::text, status, null, (clock_timestamp() - updated_at)::text from slackwater.threads t
where status = 'busy' and updated_at < clock_timestamp() - make_interval(secs => %(late)s) and not exists (
  select 1 from slackwater.runs r where r.thread_id = t.thread_id and r.status in ('pending', 'running'))"""


def steps(n: int) -> list[str]:
    """The nodes of the `line` graphs."""
    return [f"step-{i}" for i in range(1, n + 1)]


def outcomes(report: dict[str, Any], runs: Iterable[Run]) -> Counter[str]:
    """How often each outcome is in a report, of these runs."""
    ids = {run.run_id for run in runs}
    return Counter(run["outcome"] for run in report["runs"] if run["run_id"] in ids)
