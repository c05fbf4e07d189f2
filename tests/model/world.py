"""What the model acts on: a database, some processes, and a failover that forgets."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import OperationalError
from psycopg.abc import QueryNoTemplate

from slackwater.graphs.registry import Graphs
from slackwater.kit.budget import Budget
from slackwater.postgres import group_commit, retry
from slackwater.postgres.pool import Database, Params, Row, Statement
from slackwater.postgres.prepared import HotStatement
from slackwater.runtime.execution import engine, outcome
from slackwater.runtime.fenced import settlement, settlements, writer
from slackwater.runtime.process import stop
from slackwater.runtime.runtime import Runtime
from slackwater.settings import Settings
from tests.model.gates import Do, gates

PROJECT = Path(__file__).parent / "project" / "langgraph.json"

TABLES = (
    "slackwater.threads",
    "slackwater.runs",
    "slackwater.run_events",
    "slackwater.messages",
    "slackwater.token_usage",
    "slackwater.base_writes",
    "slackwater.idempotency_keys",
    "checkpoints",
    "checkpoint_blobs",
    "checkpoint_writes",
)
"""All that a failover may forget."""

_EVERYTHING = (
    "select * from slackwater.threads",
    "select *, lease_until < clock_timestamp() as expired from slackwater.runs order by seq",
    "select thread_id, fence, seq, run_id, event, data from slackwater.run_events",
    "select thread_id, checkpoint_id, metadata ->> 'run_id' as run_id from checkpoints",
    "select checkpoint_id, task_id, idx, channel, type, blob from checkpoint_writes order by 1, 2, 3",
)

QUIET_SECONDS = 30.0
"""It moves for a small part of this, also where a busy machine slows it down."""
CALM_TURNS = 8


class Lose(Enum):
    """What is to be carried out next, and never answered."""

    NOTHING = "nothing"
    WRITE = "write"
    """Whatever is written next."""
    SETTLEMENT = "settlement"
    """The next end or hand-over."""


class Held(asyncio.Event):
    """A statement that was carried out, and whose answer gets lost once this is set."""


class Losing(Database):
    """A database whose answers get lost when the model wants it: at once, or much later."""

    def __init__(self, uri: str, name: str) -> None:
        super().__init__(uri, max_size=4, statement_seconds=60.0, name=name)
        self.name = name
        self.losing = Lose.NOTHING
        self.away = False
        self.held: list[Held] = []
        self.in_flight = 0
        self.tries = 0
        """How often it was asked while it was away."""

    async def fetch(self, sql: QueryNoTemplate, params: Params = None) -> list[Row]:
        reads = str(sql).lstrip().startswith("select")
        return await self._send(super().fetch(sql, params), Lose.NOTHING if reads else Lose.WRITE)

    async def execute(self, sql: QueryNoTemplate, params: Params = None) -> int:
        return await self._send(super().execute(sql, params), Lose.WRITE)

    async def pipeline(self, *statements: Statement) -> list[list[Row]]:
        return await self._send(super().pipeline(*statements), _settles(settlement, statements))

    async def write(self, *statements: HotStatement) -> list[list[Row]]:
        return await self._send(super().write(*statements), _settles(settlements, statements))

    async def _send(self, sending: Coroutine[Any, Any, Any], kind: Lose) -> Any:
        if self.away:
            sending.close()
            self.tries += 1
            await asyncio.sleep(0)
            raise OperationalError("the database is away")
        lose = kind is not Lose.NOTHING and self.losing in (kind, Lose.WRITE)
        if lose:
            self.losing = Lose.NOTHING
        self.in_flight += 1
        try:
            answer = await sending
        finally:
            self.in_flight -= 1
        if not lose:
            return answer
        held = Held()
        self.held.append(held)
        try:
            await held.wait()
        finally:
            self.held.remove(held)
        raise OperationalError("the answer was lost")


def _settles(module: Any, statements: Sequence[tuple[Any, Any]]) -> Lose:
    settles = any(str(sql).startswith((module._END, module._HAND_OVER)) for sql, _ in statements)
    return Lose.SETTLEMENT if settles else Lose.WRITE


class World:
    """Everything, on one event loop that runs only while something is done."""

    def __init__(
        self, uri: str, patch: Callable[[Any, str, Any], None] = setattr, processes: int = 2
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.uri = uri
        self.pending: list[asyncio.Task[Any]] = []
        """What was begun and waits for an answer."""
        # Nobody here has to be spared: what is sent again is sent again at once.
        patch(retry, "PAUSE_SECONDS", (0.001, 0.005))
        patch(writer, "RETRY_SECONDS", (0.001, 0.005))
        patch(group_commit, "BATCH_SECONDS", 600.0)  # an answer is lost when the model says so
        patch(writer, "EVENT_FLUSH_SECONDS", 0.0005)
        patch(writer, "HOLD_SECONDS", 0.0005)
        patch(group_commit, "PROMPT_SECONDS", 0.0005)
        patch(outcome, "SETTLE_RETRY_SECONDS", 0.002)
        self.run(self._open(processes))

    async def _open(self, processes: int) -> None:
        await engine.load()
        self.database = Database(self.uri, max_size=2, statement_seconds=30, name="model")
        await self.database.open()
        settings = Settings.load(
            lease_seconds=3600.0,
            poll_seconds=20.0,
            sweep_seconds=60.0,
            wake="poll",
            max_concurrent_runs=8,
            pool_max_size=12,  # several settlements beside each other, as one of them may hang
        )
        self.processes: list[Runtime] = []
        for number in range(processes):
            database = Losing(self.uri, f"p{number}")
            await database.open()
            # Its loops are not started: the model says when it claims, renews and sweeps.
            self.processes.append(Runtime(settings, database, Graphs.load(PROJECT)))
        await self.database.execute("create schema model")
        for table in TABLES:
            await self.database.execute(f"create table model.{_shadow(table)} as table {table}")
        await self.database.execute("create table model.epoch as select 0 as now, false as stands_still")
        # The seam for failovers: on a server of one's own nobody is promoted.
        await self.database.execute(
            "create or replace function slackwater.epoch() returns integer language sql as 'select now from model.epoch'"
        )

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    def fetch(self, sql: str, *params: Any) -> list[Row]:
        rows: list[Row] = self.run(self.database.fetch(sql, list(params)))
        return rows

    def look(self) -> list[list[Row]]:
        """Threads, runs, events, checkpoints and pending writes, as they are in one moment."""
        rows: list[list[Row]] = self.run(self.database.pipeline(*((sql, None) for sql in _EVERYTHING)))
        return rows

    def head(self, thread_id: UUID) -> Any:
        """The thread's newest checkpoint, as LangGraph reads it."""

        async def read() -> Any:
            config: Any = {"configurable": {"thread_id": str(thread_id)}}
            return await engine.PooledSaver(self.database).aget_tuple(config)

        return self.run(read())

    # Doing

    def attempt(self, coroutine: Coroutine[Any, Any, Any], *expected: type[BaseException]) -> Any:
        """Do it, until nothing moves any more: its answer, or None if it waits for an answer or is refused."""

        async def go() -> Any:
            task = asyncio.ensure_future(coroutine)
            self.pending.append(task)
            await self._quiet()
            return self._answer_of(task, (OperationalError, *expected)) if task.done() else None

        answer = self.run(go())
        self._reap((OperationalError, *expected))
        return answer

    def quiet(self, *expected: type[BaseException]) -> None:
        """Until nothing moves any more."""
        self.run(self._quiet())
        self._reap((OperationalError, *expected))

    def _answer_of(self, task: asyncio.Task[Any], expected: tuple[type[BaseException], ...]) -> Any:
        if task in self.pending:
            self.pending.remove(task)
        try:
            return task.result()
        except expected:
            return None

    def _reap(self, expected: tuple[type[BaseException], ...]) -> None:
        for task in [task for task in self.pending if task.done()]:
            self._answer_of(task, expected)

    async def _quiet(self) -> None:
        calm, until = 0, time.monotonic() + QUIET_SECONDS
        while calm < CALM_TURNS:
            # Of a process whose statements hang, or fail, nobody can tell what else it is about to do.
            unsure = any(self._hampered(runtime) for runtime in self.processes)
            await asyncio.sleep(0.001 if unsure or not calm else 0)
            calm = 0 if self._busy() else calm + 1
            if time.monotonic() > until:
                attempts = [attempt for runtime in self.processes for attempt in runtime.worker.attempts]
                stacks = [attempt.task.get_stack() for attempt in attempts if attempt.task is not None]
                moving = [
                    (database.name, database.in_flight, database.away, len(database.held), database.tries)
                    for database in (self.of(runtime) for runtime in self.processes)
                ]
                raise AssertionError("it does not come to rest", moving, gates.waiting, stacks, attempts)

    def _busy(self) -> bool:
        """Whether something is on its way that nothing holds up: a statement, an event, an attempt between two nodes."""
        waiting = Counter(gate.node_tasks for gate in gates.waiting if not gate.opened.is_set())
        for runtime in self.processes:
            if self.of(runtime).in_flight:
                return True
            for attempt in runtime.worker.attempts:
                waiting[attempt.node_tasks] -= 1
                if self._hampered(runtime):
                    continue
                if waiting[attempt.node_tasks] < 0 or (
                    (attempt.journal.unwritten or attempt.writer._queue) and not attempt.lease.lost
                ):
                    return True
        return False

    def _hampered(self, runtime: Runtime) -> bool:
        return self.of(runtime).away or bool(self.of(runtime).held)

    def of(self, runtime: Runtime) -> Losing:
        database = runtime.database
        assert isinstance(database, Losing)
        return database

    # Failovers

    def remember(self) -> None:
        """What is there now is what the standby has."""
        self.run(self._copy([(f"model.{_shadow(table)}", table) for table in TABLES]))

    def fail_over(self) -> None:
        """The standby is promoted: what came after `remember` is forgotten, and every connection ends."""
        for runtime in self.processes:
            for held in self.of(runtime).held:
                held.set()
        self.run(self._copy([(table, f"model.{_shadow(table)}") for table in TABLES]))
        self.run(self.database.execute("update model.epoch set now = now + (not stands_still)::int"))

    async def _copy(self, pairs: Sequence[tuple[str, str]]) -> None:
        statements: list[Statement] = []
        for to, _ in pairs:
            statements += [(f"delete from {to}", None)]
        for to, source in pairs:
            statements += [(f"insert into {to} overriding system value select * from {source}", None)]
        await self.database.pipeline(*statements)

    # Its end

    def reset(self) -> None:
        """As if nothing had ever been."""
        self.run(self._reset())

    async def _reset(self) -> None:
        gates.stubborn = False
        for runtime in self.processes:
            database = self.of(runtime)
            database.losing, database.away = Lose.NOTHING, False
            for attempt in list(runtime.worker.attempts):
                attempt.lease.lost = True
        until = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < until:
            for gate in gates.waiting:
                gate.open(Do.END)
            for runtime in self.processes:
                for held in self.of(runtime).held:
                    held.set()
            busy = gates.waiting or any(runtime.worker.attempts for runtime in self.processes)
            if not busy and all(task.done() for task in self.pending):
                break
            await asyncio.sleep(0.002)
        else:
            raise AssertionError([r.worker.attempts for r in self.processes] + self.pending)
        for task in self.pending:
            with suppress(Exception, asyncio.CancelledError):
                task.result()
        self.pending.clear()
        for runtime in self.processes:
            runtime.worker.live.clear()
            runtime.worker.lost_claims.suspected = False
        statements: list[Statement] = [(f"delete from {table}", None) for table in TABLES]
        statements += [(f"delete from model.{_shadow(table)}", None) for table in TABLES]
        await self.database.pipeline(*statements, ("update model.epoch set now = 0", None))

    def close(self) -> None:
        self.run(self._close())
        # Of an example that has failed something may be left.
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.run(asyncio.wait(left, timeout=QUIET_SECONDS))
        self.loop.close()

    async def _close(self) -> None:
        for runtime in self.processes:
            await stop.release(runtime, Budget.of(2.0, drain_reserve=1.0, hard_reserve=0.3))
            await runtime.database.close(1)
        await self.database.close(1)


def _shadow(table: str) -> str:
    return table.replace(".", "_")


def thread_ids(count: int) -> list[UUID]:
    """The threads of the model."""
    return [UUID(int=0x0190_0000_0000_7000_8000_0000_0000_0000 + number) for number in range(count)]
