"""The renewal of leases, in a thread and on a connection of its own: neither a busy pool nor a blocked event loop holds
it up.

The thread lives from the first run of a process on, has a connection only while there are leases to renew, and does
nothing while there are none. It passes the results on to the event loop, where the attempts are.

A run whose node blocks the event loop (`blocked_loop`) stops every other run of its process. Their leases are kept meanwhile, for a
while, and the run is named: in the log, and in the rows, so that it is not they whose stalls are counted. Code that holds
the interpreter's lock (an extension written in C) stops this thread, too: then the leases expire.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.rows import DictRow, dict_row
from psycopg.waiting import wait

from slackwater.postgres.conninfo import Conninfo, connect_blocking, for_writing, renewed, resolve
from slackwater.postgres.pool import KEEPALIVE, StatementTimeout
from slackwater.runtime.process.blocked_loop import LoopWatch
from slackwater.runtime.queue import claims
from slackwater.runtime.queue.cancel import CancelWish
from slackwater.runtime.queue.lease import Lease

log = logging.getLogger(__name__)

RV = TypeVar("RV")

AGAIN_SECONDS = 0.2
"""When a renewal is tried again that has failed, or has found a row locked; less for very short leases."""

LOOK_SECONDS = 0.5
"""How often the thread looks whether the event loop is alive."""

SILENT_SECONDS = 2.0
"""A database that has not answered for so long, when a lease is about to end, is not waited for any more."""

OVERSLEPT_SECONDS = 5.0
"""Whoever sleeps so much longer than meant was stopped or frozen: the connection may be dead without a sign of it."""

STATEMENT_SECONDS = 5.0
LOCK_SECONDS = 1.0
"""How long a renewal may wait for a lock on the whole table; the answer then says that the database is alive."""


class LeaseStatus(Enum):
    """What a renewal has found out about one lease."""

    KEPT = "kept"
    LOCKED = "locked"
    """Somebody has locked the row, or the table: whose it is, the next one says."""
    GONE = "gone"
    """The run is not ours any more."""


@dataclass(frozen=True, slots=True)
class LeaseReport:
    """What the database says of one lease, and whether somebody wants its run cancelled."""

    lease: Lease
    status: LeaseStatus
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
        answered: Callable[[Sequence[LeaseReport]], None],
    ) -> None:
        self._conninfo = conninfo
        self._known = for_writing(conninfo) if isinstance(conninfo, str) else None
        self._worker = worker
        self._name = name
        self._leases = leases
        self._lease_seconds = lease_seconds
        self._answered = answered
        self._thread: threading.Thread | None = None
        self._watch: LoopWatch
        self._ended = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        # Set by one side and read by the other: each is one reference, which needs no lock.
        self._wake = threading.Event()
        self._stopping = self._resting = self._idle = self._asked = False
        self._since: float | None = None
        """Since when an answer has been waited for."""
        # Of the thread alone.
        self._connection: _Connection | None = None
        self._due = 0.0
        self._last = 0.0

    # In the loop

    def begin(self) -> None:
        """There is a lease to renew."""
        if self._thread is None:
            self._watch = LoopWatch(self._lease_seconds)
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
        heard: asyncio.Future[None] = self._watch.loop.create_future()
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

    def _deliver(self, answers: Sequence[LeaseReport]) -> None:
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
                log.exception("leases not renewed; trying again", extra={"event": "worker.renew.failed"})
                self._drop()
                self._sleep(self._again)
        self._drop()
        self._watch.tell(self._ended.set)

    def _turn(self) -> None:
        if self._resting:
            self._drop()
            self._resting = False
            self._watch.tell(self._deliver, ())
        leases = self._leases()
        if not leases:
            self._sleep_until_there_is_one()
            return
        if self._watch.look():
            self._due = time.monotonic()
        if time.monotonic() >= self._next and not self._watch.dead:
            self._asked = False
            self._renew(leases)
        look = min(LOOK_SECONDS, self._watch.late_seconds / 4)
        # Of a dead loop nothing is renewed, however long it has been due.
        self._sleep(look if self._watch.dead else max(0.0, min(self._next - time.monotonic(), look)))

    @property
    def _next(self) -> float:
        return min(self._last + self._again, self._due) if self._asked else self._due

    def _sleep_until_there_is_one(self) -> None:
        self._drop()
        self._since, self._asked = None, False
        self._watch.rest()
        self._watch.tell(self._deliver, ())
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
            self._watch.forgive()

    def _renew(self, leases: Sequence[Lease]) -> None:
        sent, seconds = time.monotonic(), self._lease_seconds()
        self._last, self._since = sent, self._since or sent
        fresh = self._connection is None
        try:
            rows = self._fetch(leases, seconds)
        except errors.LockNotAvailable:
            answers = [LeaseReport(lease, LeaseStatus.LOCKED) for lease in leases]
        except (psycopg.Error, OSError, TimeoutError) as problem:
            log.warning("leases not renewed: %s", problem, extra={"event": "worker.renew.trouble"})
            self._drop()
            # What was open may have been dead for long: then another one at once.
            self._due = time.monotonic() + (self._again if fresh else 0)
            self._watch.tell(self._deliver, ())
            return
        else:
            answers = [_answer(lease, rows.get((lease.run_id, lease.fence))) for lease in leases]
        for answer in answers:
            if answer.status is LeaseStatus.KEPT:
                answer.lease.deadline = sent + seconds
        self._since = None
        locked = any(answer.status is LeaseStatus.LOCKED for answer in answers)
        self._due = (time.monotonic() + self._again) if locked else (sent + self._pause)
        self._watch.tell(self._deliver, answers)

    def _fetch(self, leases: Sequence[Lease], seconds: float) -> dict[tuple[UUID, int], DictRow]:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._connect()
        connection.bound = max(1.0, min(STATEMENT_SECONDS, seconds / 3))
        params = claims.renewal(
            leases, worker=self._worker, lease_seconds=seconds, stalled_by=self._watch.stalled_by
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
        asked = asyncio.run_coroutine_threadsafe(coroutine, self._watch.loop)
        try:
            return asked.result(self._watch.late_seconds)
        except TimeoutError:
            asked.cancel()
            raise

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def _pause(self) -> float:
        # Jitter, so that replicas do not renew in step.
        return self._lease_seconds() / 3 * random.uniform(0.9, 1.0)  # noqa: S311 - no secret

    @property
    def _again(self) -> float:
        return min(AGAIN_SECONDS, self._lease_seconds() / 20)


def _answer(lease: Lease, row: DictRow | None) -> LeaseReport:
    if row is None:
        return LeaseReport(lease, LeaseStatus.GONE)
    if not row["kept"]:
        return LeaseReport(lease, LeaseStatus.LOCKED)
    return LeaseReport(lease, LeaseStatus.KEPT, CancelWish.of(row) if row["cancel_action"] else None)
