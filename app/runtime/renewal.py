"""The renewal of leases, in a thread and on a connection of its own: neither a busy pool nor a blocked event loop holds
it up.

The thread lives from the first run of a process on, has a connection only while there are leases to renew, and does
nothing while there are none. What it hears is told to the loop, where the attempts are.

A run whose node blocks the event loop stops every other run of its process. Their leases are kept meanwhile, for a
while, and the run is named: in the log, and in the rows, so that it is not they whose stalls are counted. Code that holds
the interpreter's lock (an extension written in C) stops this thread, too: then the leases expire.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from types import FrameType
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.rows import DictRow, dict_row
from psycopg.waiting import wait

from app.postgres.conninfo import Conninfo, connect_blocking, for_writing, renewed, resolve
from app.postgres.pool import KEEPALIVE, StatementTimeout
from app.runtime import claims
from app.runtime.attempt import Attempt
from app.runtime.cancel import CancelWish
from app.runtime.lease import Lease
from app.runtime.threads import current_run

log = logging.getLogger(__name__)

RV = TypeVar("RV")

AGAIN_SECONDS = 0.2
"""When a renewal is tried again that has failed, or has found a row locked; less for very short leases."""

LOOK_SECONDS = 0.5
"""How often the thread looks whether the event loop is alive."""

LATE_SECONDS = 2.0
"""An event loop that has not had a turn for so long is blocked. Nothing of ours takes a tenth of it."""

LOOP_LEASES = 3
"""For so many leases those of a blocked event loop are renewed. A node that computes for minutes gets through; one that
never ends does not keep its neighbours for ever, who go on elsewhere."""

SILENT_SECONDS = 2.0
"""A database that has not answered for so long, when a lease is about to end, is not waited for any more."""

OVERSLEPT_SECONDS = 5.0
"""Whoever sleeps so much longer than meant was stopped or frozen: the connection may be dead without a sign of it."""

STATEMENT_SECONDS = 5.0
LOCK_SECONDS = 1.0
"""How long a renewal may wait for a lock on the whole table; the answer then says that the database is alive."""


class Verdict(Enum):
    """What a renewal has found out about one lease."""

    KEPT = "kept"
    LOCKED = "locked"
    """Somebody has locked the row, or the table: whose it is, the next one says."""
    GONE = "gone"
    """The run is not ours any more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the database says of one lease, and whether somebody wants its run cancelled."""

    lease: Lease
    verdict: Verdict
    wish: CancelWish | None = None


class _Connection(psycopg.Connection[DictRow]):
    """A connection on which nothing takes longer than `bound` seconds: then it is dropped."""

    bound = STATEMENT_SECONDS

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        try:
            return wait(
                gen, self.pgconn.socket, interval=interval, timeout=self.bound if timeout is None else timeout
            )
        except errors._WaitTimeout:
            self.pgconn.finish()
            raise StatementTimeout(f"no answer from the database within {self.bound:g} s") from None


class Renewal:
    """Renews what `leases` returns, each third of `lease_seconds`; `answered` is called in the loop.

    Both of the others are called in the thread. What has been kept is valid before the loop hears of it.
    """

    def __init__(
        self,
        conninfo: Conninfo,
        *,
        worker: str,
        name: str,
        leases: Callable[[], Sequence[Lease]],
        lease_seconds: Callable[[], float],
        answered: Callable[[Sequence[Answer]], None],
    ) -> None:
        self._conninfo = conninfo
        self._known = for_writing(conninfo) if isinstance(conninfo, str) else None
        self._worker = worker
        self._name = name
        self._leases = leases
        self._lease_seconds = lease_seconds
        self._answered = answered
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._loop_thread = 0
        self._ended = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        # Set by one side and read by the other: each is one reference, which needs no lock.
        self._wake = threading.Event()
        self._stopping = self._resting = self._idle = self._asked = False
        self._since: float | None = None
        """Since when an answer has been waited for."""
        self._probed: float | None = None
        """When the loop was asked for a sign of life that it has not given yet."""
        # Of the thread alone.
        self._connection: _Connection | None = None
        self._due = 0.0
        self._last = 0.0
        self._seen: UUID | None = None
        self._stalled_by: UUID | None = None
        self._said_blocked = self._said_dead = False

    # In the loop

    def begin(self) -> None:
        """There is a lease to renew."""
        if self._thread is None:
            self._loop, self._loop_thread = asyncio.get_running_loop(), threading.get_ident()
            self._due = time.monotonic() + self._pause
            self._thread = threading.Thread(target=self._run, name="renewal", daemon=True)
            self._thread.start()
        elif self._idle:
            self._wake.set()

    def ask(self) -> None:
        """Renew as soon as possible, not only when it is due."""
        if self._since is None:
            self._since = time.monotonic()
        self._asked = True
        self._wake.set()

    @property
    def silent(self) -> bool:
        """Whether the database has been asked and has not answered for longer than is waited for."""
        since = self._since
        return since is not None and time.monotonic() - since > self._patience

    async def now(self) -> None:
        """Renew, and wait until that has been answered, or has failed."""
        if self._thread is not None and self._leases():
            self.ask()
            await self._next_answer()

    async def confirm(self, lease: Lease) -> bool:
        """See `Keeper.confirm`. While its row is locked there is no answer, and nobody else takes it."""
        while not lease.lost and not lease.valid():
            if self.silent or self._thread is None or self._stopping:
                return False
            self.ask()
            await self._next_answer()
        return not lease.lost

    async def _next_answer(self, timeout: float | None = None) -> None:
        heard: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(heard)
        await asyncio.wait({heard}, timeout=self._patience if timeout is None else timeout)

    @property
    def _patience(self) -> float:
        return min(SILENT_SECONDS, self._lease_seconds() / 3)

    async def rest(self, timeout: float) -> None:
        """Before the process is frozen: let go of the connection, within `timeout` seconds."""
        if self._thread is not None and self._connection is not None:
            self._resting = True
            self._wake.set()
            await self._next_answer(timeout)

    async def stop(self, timeout: float) -> None:
        """End the thread, within `timeout` seconds. What hangs in it does not keep the process."""
        if self._thread is None:
            return
        self._stopping = True
        self._wake.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._ended.wait()

    def _beat(self) -> None:
        self._probed = None

    def _deliver(self, answers: Sequence[Answer]) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            self._answered(answers)
        finally:
            for heard in waiting:
                if not heard.done():
                    heard.set_result(None)

    # In the thread

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._turn()
            except Exception:
                log.exception("leases not renewed; it is tried again", extra={"event": "worker.renew.failed"})
                self._drop()
                self._sleep(self._again)
        self._drop()
        self._tell(self._ended.set)

    def _turn(self) -> None:
        if self._resting:
            self._drop()
            self._resting = False
            self._tell(self._deliver, ())
        leases = self._leases()
        if not leases:
            self._sleep_until_there_is_one()
            return
        self._look_at_the_loop()
        if time.monotonic() >= self._next and not self._said_dead:
            self._asked = False
            self._renew(leases)
        look = min(LOOK_SECONDS, self._late_seconds / 4)
        # Of a dead loop nothing is renewed, however long it has been due.
        self._sleep(look if self._said_dead else max(0.0, min(self._next - time.monotonic(), look)))

    @property
    def _next(self) -> float:
        return min(self._last + self._again, self._due) if self._asked else self._due

    def _sleep_until_there_is_one(self) -> None:
        self._drop()
        self._since = self._probed = self._stalled_by = self._seen = None
        self._asked = self._said_blocked = self._said_dead = False
        self._tell(self._deliver, ())
        self._idle = True
        # Looked at again, after it was said: `begin` may have come just before.
        if not (self._leases() or self._stopping or self._resting):
            self._wake.wait()
        self._idle = False
        self._wake.clear()
        self._due = time.monotonic() + self._pause

    def _sleep(self, seconds: float) -> None:
        since = time.monotonic()
        if self._wake.wait(seconds):
            self._wake.clear()
        if time.monotonic() - since > seconds + OVERSLEPT_SECONDS:
            self._drop()
            self._probed = None

    def _renew(self, leases: Sequence[Lease]) -> None:
        sent, seconds = time.monotonic(), self._lease_seconds()
        self._last, self._since = sent, self._since or sent
        fresh = self._connection is None
        try:
            rows = self._fetch(leases, seconds)
        except errors.LockNotAvailable:
            answers = [Answer(lease, Verdict.LOCKED) for lease in leases]
        except (psycopg.Error, OSError, TimeoutError) as problem:
            log.warning("leases not renewed: %s", problem, extra={"event": "worker.renew.trouble"})
            self._drop()
            # What was open may have been dead for long: then another one at once.
            self._due = time.monotonic() + (self._again if fresh else 0)
            self._tell(self._deliver, ())
            return
        else:
            answers = [_answer(lease, rows.get((lease.run_id, lease.fence))) for lease in leases]
        for answer in answers:
            if answer.verdict is Verdict.KEPT:
                answer.lease.deadline = sent + seconds
        self._since = None
        locked = any(answer.verdict is Verdict.LOCKED for answer in answers)
        self._due = (time.monotonic() + self._again) if locked else (sent + self._pause)
        self._tell(self._deliver, answers)

    def _fetch(self, leases: Sequence[Lease], seconds: float) -> dict[tuple[UUID, int], DictRow]:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._connect()
        connection.bound = max(1.0, min(STATEMENT_SECONDS, seconds / 3))
        params = claims.renewal(
            leases, worker=self._worker, lease_seconds=seconds, stalled_by=self._stalled_by
        )
        # One transaction and one round trip; of a session nothing is set, which a pooler would give to others.
        lock_timeout = f"{round(min(LOCK_SECONDS, seconds / 6) * 1000)}ms"
        with connection.pipeline():
            connection.execute("select set_config('lock_timeout', %s, true)", [lock_timeout])
            cursor = connection.execute(claims.RENEW, params)
        return {(row["run_id"], row["fence"]): row for row in cursor.fetchall()}

    def _connect(self) -> _Connection:
        since = time.monotonic()
        if not isinstance(self._conninfo, str):
            # Asked in the loop, as everybody does; a loop that is blocked gets what it gave last.
            with suppress(TimeoutError):
                self._known = self._in_loop(resolve(self._conninfo))
        if self._known is None:
            raise TimeoutError("the event loop is blocked, and has not said yet how to log in")
        try:
            return connect_blocking(
                _Connection,
                self._known,
                autocommit=True,
                prepare_threshold=None,
                row_factory=dict_row,
                application_name=f"slackwater {self._name}",
                connect_timeout=max(2, round(self._pause)),
                **KEEPALIVE,
            )
        except psycopg.OperationalError as error:
            with suppress(TimeoutError):
                self._in_loop(renewed(self._conninfo, error, since))
            raise

    def _in_loop(self, coroutine: Any) -> Any:
        asked = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return asked.result(self._late_seconds)
        except TimeoutError:
            asked.cancel()
            raise

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _tell(self, what: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(what, *arguments)

    @property
    def _pause(self) -> float:
        # Jitter, so that replicas do not renew in step.
        return self._lease_seconds() / 3 * random.uniform(0.9, 1.0)

    @property
    def _again(self) -> float:
        return min(AGAIN_SECONDS, self._lease_seconds() / 20)

    @property
    def _late_seconds(self) -> float:
        return min(LATE_SECONDS, self._lease_seconds() / 3)

    # Whether the loop is alive

    def _look_at_the_loop(self) -> None:
        now, probed = time.monotonic(), self._probed
        if probed is None:
            self._probed = now
            self._tell(self._beat)
            if self._stalled_by is not None:
                self._due = now  # the rows still say whose fault it was
            self._stalled_by = self._seen = None
            self._said_blocked = self._said_dead = False
            return
        late = now - probed
        if late < self._late_seconds / 2:
            return
        run_id, node = what_runs_in(self._loop, self._loop_thread)
        # Seen twice: a loop that is merely slow is in some run's code at any time.
        culprit, self._seen = (run_id if run_id == self._seen else None), run_id
        if late > self._late_seconds and not self._said_blocked:
            self._said_blocked = True
            log.warning(
                "the event loop has been blocked for %.1f s%s: nothing else of this process goes on. Give what blocks to "
                "a thread (a node that is no coroutine has one), or await it",
                late,
                f" by node {node}" if node else "",
                extra={
                    "event": "worker.loop.blocked",
                    "run_id": str(run_id) if run_id else None,
                    "node": node,
                },
            )
        if late > self._late_seconds and culprit != self._stalled_by:
            self._stalled_by = culprit
            self._due = now  # it may be killed for it at any moment
        if late > LOOP_LEASES * self._lease_seconds() and not self._said_dead:
            self._said_dead = True
            log.error(
                "the event loop has been blocked for %.0f s: its runs are left to others",
                late,
                extra={"event": "worker.loop.dead", "run_id": str(run_id) if run_id else None, "node": node},
            )


def _answer(lease: Lease, row: DictRow | None) -> Answer:
    if row is None:
        return Answer(lease, Verdict.GONE)
    if not row["kept"]:
        return Answer(lease, Verdict.LOCKED)
    return Answer(lease, Verdict.KEPT, CancelWish.of(row) if row["cancel_action"] else None)


def what_runs_in(loop: asyncio.AbstractEventLoop, thread_id: int) -> tuple[UUID | None, str | None]:
    """The run, and its node, whose code the loop's thread is executing at this moment.

    Read from the frames of the thread and, from Python 3.12 on, the context of its task: tasks that a node has made
    itself are the run's, too.
    """
    run_id, node = None, None
    frame: FrameType | None = sys._current_frames().get(thread_id)
    while frame is not None and run_id is None:
        if str(frame.f_globals.get("__name__")).startswith("langgraph."):
            config: Any = frame.f_locals.get("config")
            with suppress(Exception):  # another one's local variable
                run_id, node = UUID(config["metadata"]["run_id"]), config["metadata"].get("langgraph_node")
        elif isinstance(attempt := frame.f_locals.get("attempt"), Attempt):
            run_id = attempt.run.run_id
        frame = frame.f_back
    with suppress(Exception):
        context = asyncio.current_task(loop).get_context()  # type: ignore[union-attr]
        run_id = run_id or context.get(current_run)
    return run_id, node
