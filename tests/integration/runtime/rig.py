"""Several processes on one database, in one: each has a pool of its own, and a link to the database that can be cut."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from slackwater.errors import LeaseLost
from slackwater.graphs.registry import Graphs
from slackwater.kit.budget import Budget
from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database
from slackwater.runtime.events.journal import BEGINNING, Event, EventId, event_of
from slackwater.runtime.events.packs import unpacked
from slackwater.runtime.events.result import Collector
from slackwater.runtime.events.run_reader import RunGone, StreamCut
from slackwater.runtime.fenced import settlements
from slackwater.runtime.process import stop
from slackwater.runtime.queue.admission import Admitted, NewRun
from slackwater.runtime.queue.cancel import CancelAction, Cancelled
from slackwater.runtime.runtime import Runtime
from slackwater.settings import Settings

PROJECT = Path(__file__).parent / "project"
TYPED = str(PROJECT.with_name("typed") / "langgraph.json")
"""A project whose state has types of its own."""
OWNER = "alice"
ASSISTANT = UUID("00000000-0000-4000-8000-000000000001")

QUIET = {"lease_seconds": 60.0, "poll_seconds": 20.0, "sweep_seconds": 60.0, "wake": "poll"}
"""Settings of a process that does nothing by itself: the test says when it claims, renews and sweeps."""

BRISK = {"lease_seconds": 3.0, "poll_seconds": 0.05, "sweep_seconds": 0.2, "wake": "poll"}

CUT = {"seconds": 8.0, "drain_reserve": 7.9, "hard_reserve": 0.5}
"""The budget of a stop that waits for no boundary, and has time enough to settle what it cuts."""

DEFER = {"seconds": 5.0, "drain_reserve": 4.9, "hard_reserve": 4.6}
"""The same of a stop that soon waits no more for what ignores its cancellation either."""


class Link:
    """The way of one process to the database: a socket that can hang, be cut, or be cut at a given statement."""

    def __init__(self, uri: str) -> None:
        self._server = conninfo_to_dict(uri)
        self._folder = tempfile.TemporaryDirectory(prefix="link-")
        self._socket: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.delay = 0.0
        self.is_cut = False
        self.sent = 0
        """How often a client has said something."""
        self._cut_at: tuple[int, bool] | None = None
        self.on_sent: Callable[[int], None] | None = None

    @property
    def uri(self) -> str:
        return make_conninfo(**{**self._server, "host": self._folder.name})

    @property
    def _port(self) -> str:
        return str(self._server.get("port") or 5432)

    async def open(self) -> None:
        path = Path(self._folder.name) / f".s.PGSQL.{self._port}"
        self._socket = await asyncio.start_unix_server(self._connected, path)

    def hang(self) -> None:
        """From now on nothing gets through, in either direction; the connections stay open."""
        self._flowing.clear()

    def hang_open(self) -> None:
        """What is open now says nothing any more; new connections work."""
        self._flowing.clear()
        self._flowing = asyncio.Event()
        self._flowing.set()

    def flow(self) -> None:
        self._flowing.set()

    def cut_at(self, number: int, *, executed: bool) -> None:
        """Cut when a client says something for the `number`th time from now, before or after the server has heard it."""
        self._cut_at = (self.sent + number, executed)

    def cut(self) -> None:
        """Nobody gets through any more."""
        self.is_cut = True
        self.drop()

    def drop(self) -> None:
        """Close what is open; new connections work."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def close(self) -> None:
        self.cut()
        if self._socket is not None:
            self._socket.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._folder.cleanup()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self.is_cut:
                return
            path = Path(str(self._server["host"])) / f".s.PGSQL.{self._port}"
            server_reader, server_writer = await asyncio.open_unix_connection(path)
            self._writers.add(server_writer)
            try:
                ways = [
                    asyncio.create_task(self._pump(reader, server_writer, up=True)),
                    asyncio.create_task(self._pump(server_reader, writer, up=False)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
            finally:
                self._writers.discard(server_writer)
                server_writer.transport.abort()
        except (asyncio.CancelledError, OSError):
            pass
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        flowing = self._flowing
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await flowing.wait()
                if self.is_cut:
                    return
                if up:
                    self.sent += 1
                    if self.on_sent is not None:
                        self.on_sent(self.sent)
                    if self._cut_at is not None and self.sent >= self._cut_at[0]:
                        self.is_cut = True
                        if self._cut_at[1]:
                            writer.write(data)
                            await writer.drain()
                            # The server is done when it answers; nobody here will hear it.
                            with suppress(TimeoutError):
                                async with asyncio.timeout(0.05):
                                    await asyncio.Event().wait()
                        self.drop()
                        return
                writer.write(data)
                await writer.drain()


@dataclass(eq=False)
class Process:
    """One process: a runtime over a pool of its own."""

    name: str
    database: Database
    runtime: Runtime
    link: Link | None = None
    outside: Database | None = None
    """Another way to its database."""
    over: bool = False
    report: dict[str, Any] = field(default_factory=dict)

    # What services call

    async def admit(self, graph: str, given: Any = None, **options: Any) -> Admitted:
        return await self.runtime.admit(new_run(graph, given, **options))

    async def cancel(
        self,
        thread_id: UUID,
        *run_ids: UUID,
        action: CancelAction = CancelAction.INTERRUPT,
        owner: str = OWNER,
    ) -> Cancelled:
        return await self.runtime.cancel(owner, thread_id, list(run_ids) or None, action)

    async def claim(self, limit: int = 16) -> int:
        """One claim, now."""
        return await self.runtime.worker._take(limit)

    async def read(self, run_id: UUID, cursor: EventId = BEGINNING, timeout: float = 10) -> list[Event]:
        """All events of the run after `cursor`, until its end."""
        events: list[Event] = []
        async with asyncio.timeout(timeout), aclosing(self.runtime.follow(run_id, cursor)) as batches:
            async for batch in batches:
                events += batch
        return events

    # Its end

    async def drain(
        self,
        seconds: float = 3.0,
        *,
        drain_reserve: float = 1.0,
        hard_reserve: float = 0.3,
        reason: str = "SIGTERM",
    ) -> dict[str, Any]:
        now = time.monotonic()
        self.budget = Budget(now + seconds, drain_reserve, hard_reserve, now)  # reserves as they are said
        self.report = await stop.drain(self.runtime, self.budget, reason)
        return self.report

    async def release(self, seconds: float | None = None) -> None:
        if self.over:
            return
        self.over = True
        budget = getattr(self, "budget", None)
        if budget is None or seconds is not None:
            budget = Budget.of(3.0 if seconds is None else seconds, drain_reserve=1.0, hard_reserve=0.3)
        await stop.release(self.runtime, budget)
        await self.database.close(budget.left())

    async def stop(self, seconds: float = 3.0, **reserves: float) -> dict[str, Any]:
        """SIGTERM: drain and leave."""
        report = await self.drain(seconds, **reserves)
        await self.release()
        return report

    async def die(self) -> None:
        """SIGKILL: nothing that this process does from now on reaches the database."""
        if self.over:
            return
        self.over = True
        assert self.link is not None, "a process that is to die needs a link"
        self.link.cut()
        worker = self.runtime.worker
        loops = [*worker._tasks, *self.runtime.sweeper.tasks]
        attempts = [attempt for attempt in worker.attempts if attempt.task is not None]
        for attempt in attempts:
            attempt.lease.lost = True
        tasks = [*loops, *(a.task for a in attempts if a.task is not None), *self.runtime.admitting]
        self.database.gate.shut()
        for _ in range(100):
            tasks = [task for task in tasks if not task.done()]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=0.05)
        assert not tasks, tasks
        await worker.renewal.stop(1)
        await self.runtime.follower.stop(1)
        await self.runtime.store.stop(1)  # type: ignore[attr-defined]
        await self.database.close(0.1)
        async with asyncio.timeout(10):
            while await self._has_sessions():
                await asyncio.sleep(0.005)

    async def _has_sessions(self) -> bool:
        """Whether the server still works on what was said last: that takes effect as long as it does."""
        assert self.outside is not None
        found = await self.outside.fetch(
            "select 1 from pg_stat_activity where application_name = %s and datname = current_database()",
            [f"slackwater {self.name}"],
        )
        return bool(found)


def new_run(
    graph: str,
    given: Any = None,
    *,
    thread_id: UUID | None = None,
    run_id: UUID | None = None,
    owner: str = OWNER,
    command: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    strategy: str = "enqueue",
    after_seconds: float = 0.0,
    create_thread: bool = True,
    on_completion: str | None = None,
    idempotency_key: str | None = None,
    **kwargs: Any,
) -> NewRun:
    """A request for a run as the service of runs makes it; `kwargs` are the body's other fields."""
    return NewRun(
        run_id=run_id or uuid7(),
        thread_id=thread_id or uuid7(),
        owner=owner,
        assistant_id=ASSISTANT,
        graph_id=graph,
        kwargs={
            "input": given if given is not None or command is not None else {"log": []},
            "command": command,
            "config": {"configurable": {}, **(config or {})},
            "stream_mode": ["values", "updates"],
            **kwargs,
        },
        metadata={},
        assistant_metadata={},
        assistant_configurable={},
        multitask_strategy=strategy,
        after_seconds=after_seconds,
        create_thread=create_thread,
        on_completion=on_completion,
        idempotency_key=idempotency_key,
    )


def settle_alone(patch: pytest.MonkeyPatch) -> None:
    """Let each run be settled by statements of its own."""

    async def left_out(*arguments: Any, **how: Any) -> None:
        return None

    patch.setattr(settlements, "end", left_out)
    patch.setattr(settlements, "hand_over", left_out)


class Fleet:
    """The processes of one test and the rows they leave."""

    def __init__(self, uri: str, database: Database) -> None:
        self.uri = uri
        self.database = database
        self.processes: list[Process] = []

    async def start(
        self,
        name: str = "",
        *,
        project: str = "langgraph.json",
        linked: bool = False,
        statement_seconds: float = 10.0,
        pool_size: int = 4,
        begin: bool = True,
        **settings: Any,
    ) -> Process:
        """Another process. `linked`: through a link that can be cut."""
        link = Link(self.uri) if linked else None
        if link is not None:
            await link.open()
        name = name or f"p{len(self.processes) + 1}"
        database = Database(
            link.uri if link else self.uri, max_size=pool_size, statement_seconds=statement_seconds, name=name
        )
        await database.open()
        runtime = Runtime(Settings.load(**{**QUIET, **settings}), database, graphs_of(project))
        process = Process(name, database, runtime, link, self.database)
        self.processes.append(process)
        if begin:
            await runtime.start()
            await asyncio.sleep(0)
            while runtime.worker.claim_in_flight:
                await asyncio.sleep(0.001)
        return process

    async def close(self) -> None:
        for process in self.processes:
            if not process.over:
                if process.link is not None:
                    process.link.flow()
                budget = process.budget = Budget.of(2.0, drain_reserve=1.5, hard_reserve=0.3)
                await stop.drain(process.runtime, budget, "end of the test")
                await process.release()
        for process in self.processes:
            if process.link is not None:
                await process.link.close()

    # Looking

    async def row(self, run_id: UUID) -> dict[str, Any]:
        row = await self.database.fetch_one("select * from slackwater.runs where run_id = %s", [run_id])
        assert row is not None, f"run {run_id} is gone"
        return row

    async def find(self, run_id: UUID) -> dict[str, Any] | None:
        return await self.database.fetch_one("select * from slackwater.runs where run_id = %s", [run_id])

    async def thread(self, thread_id: UUID) -> dict[str, Any]:
        row = await self.database.fetch_one(
            "select * from slackwater.threads where thread_id = %s", [thread_id]
        )
        assert row is not None, f"thread {thread_id} is gone"
        return row

    async def events(self, run_id: UUID) -> list[dict[str, Any]]:
        """What the log has of the run, event by event."""
        return [
            {"fence": event.id.fence, "seq": event.id.seq, "event": event.name, "data": event.data.decode()}
            for row in await self.event_rows(run_id)
            for event in unpacked(event_of(row), BEGINNING)
        ]

    async def event_rows(self, run_id: UUID) -> list[dict[str, Any]]:
        """The rows of the run's log."""
        return await self.database.fetch(
            "select fence, seq, event, data from slackwater.run_events where run_id = %s order by fence, seq",
            [run_id],
        )

    async def checkpoints(self, thread_id: UUID) -> list[dict[str, Any]]:
        return await self.database.fetch(
            "select checkpoint_ns, checkpoint_id, metadata from checkpoints where thread_id = %s order by 2",
            [str(thread_id)],
        )

    async def writes(self, thread_id: UUID) -> list[tuple[Any, ...]]:
        rows = await self.database.fetch(
            "select * from checkpoint_writes where thread_id = %s order by 1, 2, 3, 4, idx", [str(thread_id)]
        )
        return [tuple(row.values()) for row in rows]

    async def until(self, condition: Callable[[], Any], timeout: float = 10, what: str = "") -> Any:
        """Wait until `condition`, plain or async, finds something; what it has found."""
        deadline = time.monotonic() + timeout
        while True:
            found = condition()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return found
            if time.monotonic() > deadline:
                rows = await self.database.fetch(
                    "select run_id::text, status, ready, attempt, fence, stopped, reason, error from slackwater.runs"
                )
                raise AssertionError(f"not within {timeout} s: {what}\n" + "\n".join(map(str, rows)))
            await asyncio.sleep(0.01)

    async def until_listening(self, count: int) -> None:
        """Wait until so many processes hear hints."""

        async def listening() -> bool:
            found = await self.database.fetch(
                "select 1 from pg_stat_activity where query = 'listen slackwater' and datname = current_database()"
            )
            return len(found) == count

        await self.until(listening, what=f"{count} listen")

    async def idle(self, process: Process) -> None:
        """Wait until a process works on no run: its books are closed a moment after the row says that a run is over."""
        await self.until(lambda: not process.runtime.worker.attempts, what="an idle process")
        assert process.runtime.worker.live == {}

    async def ended(self, run_id: UUID, timeout: float = 10) -> dict[str, Any]:
        """Wait until the run is over; its row."""

        async def over() -> dict[str, Any] | None:
            row = await self.row(run_id)
            return row if row["status"] not in ("pending", "running") else None

        row: dict[str, Any] = await self.until(over, timeout, f"the end of {run_id}")
        return row

    async def reaches(self, run_id: UUID, status: str, timeout: float = 10) -> dict[str, Any]:
        async def there() -> dict[str, Any] | None:
            row = await self.row(run_id)
            return row if row["status"] == status else None

        row: dict[str, Any] = await self.until(there, timeout, f"{run_id} is {status}")
        return row

    # Doing

    async def expire(self, *run_ids: UUID) -> None:
        """Let the leases of the runs be over. What their owners have to say is stored before.

        Or it would meet the take-over: that leaves locked rows alone, and who is refused looks for work again.
        """
        for process in self.processes:
            for run_id in run_ids if not process.over else ():
                attempt = process.runtime.worker.live.get(run_id)
                if attempt is not None:
                    with suppress(LeaseLost):
                        await attempt.writer.flush()
        await self.database.execute(
            "update slackwater.runs set lease_until = clock_timestamp() - interval '1 second' "
            "where run_id = any(%s) and status = 'running'",
            [list(run_ids)],
        )

    async def bury(self, process: Process, home: Process, run_id: UUID) -> dict[str, Any]:
        """Let `home` take over and finish what a dead process has left of the run; the run as it was left.

        What the dead one has said last may take effect only now, a claim for example.
        """
        left: dict[str, Any] | None = None

        async def over() -> bool:
            nonlocal left
            await self.database.execute(
                "update slackwater.runs set lease_until = clock_timestamp() - interval '1 second' "
                "where worker = %s and status = 'running'",
                [process.runtime.worker_id],
            )
            await home.runtime.sweep()
            await home.claim()
            row = await self.row(run_id)
            left = left or row
            return row["status"] not in ("pending", "running")

        await self.until(over, what=f"the end of {run_id}")
        assert left is not None
        return left

    async def reference(self, process: Process, graph: str, given: Any = None, **options: Any) -> Told:
        """What a run says that nobody stops."""
        admitted = await process.admit(graph, given, **options)
        return await self.told(process, admitted.row["run_id"], admitted.row["thread_id"])

    async def told(self, process: Process, run_id: UUID, thread_id: UUID) -> Told:
        """Wait for the end of the run; all that its readers and its thread have to say."""
        try:
            events = await process.read(run_id)
        except (RunGone, StreamCut) as problem:
            raise AssertionError(f"{problem!r} of {run_id}") from problem
        row = await self.ended(run_id)
        thread = await self.thread(thread_id)
        return Told(row, thread, events)


@dataclass
class Told:
    """What is to be seen of a run that is over."""

    row: Mapping[str, Any]
    thread: Mapping[str, Any]
    events: list[Event]

    @property
    def state(self) -> tuple[Any, ...]:
        """The state of run and thread, without ids."""
        return (
            self.row["status"],
            self.thread["status"],
            self.thread["values"],
            sorted(json.dumps(i["value"]) for of_task in self.thread["interrupts"].values() for i in of_task),
            (self.row["error"] or {}).get("error"),
        )

    @property
    def body(self) -> Any:
        """The answer of `/wait`, without ids."""
        collector = Collector()
        for event in self.events:
            collector.feed(event.name, event.data)
        return json.loads(plain(collector.body(None).decode()))

    @property
    def sequence(self) -> list[str]:
        """The events, without ids and times."""
        return [plain(f"{event.name} {event.data.decode()}") for event in self.events]


_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00")
_ATTEMPT = re.compile(r'"run_attempt":\d+')


def plain(text: str) -> str:
    """Without what differs between two runs: ids, times, attempts."""
    return _ATTEMPT.sub('"run_attempt":0', _TIME.sub("<time>", _ID.sub("<id>", text)))


_graphs: dict[str, Graphs] = {}


def graphs_of(project: str) -> Graphs:
    if project not in _graphs:
        _graphs[project] = Graphs.load(PROJECT / project)
    return _graphs[project]


@asynccontextmanager
async def fleet_on(uri: str, database: Database) -> AsyncIterator[Fleet]:
    fleet = Fleet(uri, database)
    try:
        yield fleet
    finally:
        await fleet.close()
