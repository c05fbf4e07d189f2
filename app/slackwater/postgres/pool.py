"""The connections of the process, with every statement bounded on the client's side.

They are in one pool, or in two: the second one has the lanes (`lanes`). Together they are as many as the setting says.
"""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from typing import Any, Self, TypeAlias, TypeVar, cast

from psycopg import AsyncConnection, AsyncCursor, Error, OperationalError, errors
from psycopg.abc import PQGen, QueryNoTemplate
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import DictRow, dict_row, tuple_row
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg.waiting import wait_async
from psycopg_pool import AsyncConnectionPool

from slackwater.errors import PageTooLarge
from slackwater.postgres import jsonb
from slackwater.postgres.connection_errors import (
    ConnectionFault,
    LimitExceeded,
    UnusableConnection,
    exceeds_a_limit,
    fault_of,
    refused_as_read_only,
)
from slackwater.postgres.conninfo import (
    IS_READ_ONLY,
    Conninfo,
    asks_for_writing,
    renewed,
    resolve,
    whoever_answers,
)
from slackwater.postgres.gate import Gate
from slackwater.postgres.lanes import Prepare, lanes_of, set_up
from slackwater.postgres.prepared import HotStatement, Prepared, carry_out, encoded
from slackwater.postgres.rows import rows_of, succeeded
from slackwater.telemetry import metrics
from slackwater.telemetry.metrics import Metric

logger = logging.getLogger(__name__)

RV = TypeVar("RV")
T = TypeVar("T")
Params: TypeAlias = Sequence[Any] | Mapping[str, Any] | None
Row: TypeAlias = dict[str, Any]
Statement: TypeAlias = tuple[QueryNoTemplate, Params]

CONNECT_SECONDS = 5
CANCEL_SECONDS = 0.25  # for each of the two steps of ending a statement that nobody waits for any more
MIN_SIZE = 2  # in all

PAGE_BYTES = 20_000_000
"""How much the rows of one page may have."""

# A socket that died without a FIN is noticed after ~10 s instead of after the kernel's 15 minutes.
KEEPALIVE = {
    "keepalives": 1,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}

set_json_dumps(jsonb.dumps)
set_json_loads(jsonb.loads)


class StatementTimeout(OperationalError):
    """The database did not answer within the client-side bound of one statement."""


class BoundedConnection(AsyncConnection[DictRow]):
    """A connection on which no statement outlives `statement_seconds`, and that knows when it is of no more use.

    psycopg runs everything (statements, pipelines, LangGraph's too) through `wait`, so this is the one place
    for both: it costs no task and no timer of its own. A cancelled or late statement is cancelled in
    the server and waited for, `CANCEL_SECONDS` each; then the connection is dropped (stock psycopg: 5 s each).
    """

    statement_seconds: float = 30.0
    fault: ConnectionFault | None = None
    """What it has met. The pool does not take such a connection back."""
    prepared: Prepared | None = None
    """What is prepared in its session; None where nothing may be."""

    @classmethod
    async def connect(cls, conninfo: str = "", **arguments: Any) -> Self:
        """Connect. A conninfo that asks for a server which takes writes gets one, or OperationalError."""
        try:
            return await super().connect(conninfo, **arguments)
        except OperationalError as refusal:
            if not (refused_as_read_only(refusal) and asks_for_writing(conninfo)):
                raise
            # PgBouncer says what it has heard first: that of a replica which has long been promoted.
            for one in whoever_answers(conninfo):
                with suppress(OperationalError, TimeoutError):
                    connection = await super().connect(one, **arguments)
                    if await connection.is_for_writing():
                        return connection
            raise

    async def is_for_writing(self) -> bool:
        """Ask the server itself whether it takes writes, which is one round trip. Closed, unless it does."""
        takes = False
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                cursor = await self.cursor(row_factory=tuple_row).execute(IS_READ_ONLY)
                takes = await cursor.fetchone() == ("off",)
            return takes
        finally:
            if not takes:
                await self.close()

    async def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        bound = self.statement_seconds if timeout is None else timeout
        try:
            return await wait_async(gen, self.pgconn.socket, interval=interval, timeout=bound)
        except errors._WaitTimeout:
            if timeout is not None:  # the caller's own (`notifies`): they know what to do with it
                raise
            await self._abandon(gen)
            raise StatementTimeout(f"no answer from the database within {bound:g} s") from None
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            await self._abandon(gen)
            raise
        except Error as error:
            found = fault_of(error, broken=self.pgconn.status == ConnStatus.BAD)
            self.fault = self.fault or found
            if exceeds_a_limit(error):
                raise LimitExceeded(error) from None
            if found is None or isinstance(error, OperationalError):
                raise
            # Callers catch it as an unavailable database: none can forget it, LangGraph's savers included.
            raise UnusableConnection(error, found) from None

    async def batch(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """All statements in one network flush and one transaction; the rows of each.

        Statements between two Syncs of the extended protocol are one transaction without BEGIN and COMMIT,
        and the first error undoes them all. `AsyncConnection.pipeline` does the same, but flushes and polls
        the socket once for each statement.
        """
        cursors = [self.cursor() for _ in statements]
        async with self.lock:
            await self.wait(self._batch_gen(cursors, statements))
        return [await cursor.fetchall() if cursor.description else [] for cursor in cursors]

    async def write(self, statements: Sequence[HotStatement]) -> list[list[Row]]:
        """As `batch`, of statements that are sent all the time; by their names where they can be prepared."""
        self._check_connection_ok()
        async with self.lock:
            answers = await self.wait(self._write_gen(statements))
        # Without cursors: making them takes longer than all they do here.
        transformer = Transformer(self)
        return [rows_of(results[0], transformer) for results in answers]

    def _batch_gen(self, cursors: Sequence[Any], statements: Sequence[Statement]) -> PQGen[None]:
        # A wrong parameter must raise before the connection is in pipeline mode.
        queries = []
        for cursor, statement in zip(cursors, statements, strict=True):
            yield from cursor._start_query()
            queries.append(cursor._convert_query(*statement))
        answers = yield from carry_out(self.pgconn, queries)
        for cursor, results in zip(cursors, answers, strict=True):
            # Raises the first one's error; those after it were not carried out.
            cursor._check_results(results)
            cursor._set_results(results)

    def _write_gen(self, statements: Sequence[HotStatement]) -> PQGen[list[list[PGresult]]]:
        queries = [encoded(*statement) for statement in statements]
        answers = yield from carry_out(self.pgconn, queries, self.prepared)
        for results in answers:
            if not succeeded(results):
                AsyncCursor(self)._check_results(results)  # raises what psycopg makes of it
        return answers

    async def _abandon(self, gen: PQGen[Any]) -> None:
        """Get the connection out of a statement whose answer is not wanted, or close it."""
        if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
            return
        try:
            await self.cancel_safe(timeout=CANCEL_SECONDS)
            await wait_async(gen, self.pgconn.socket, interval=CANCEL_SECONDS, timeout=CANCEL_SECONDS)
        except errors.QueryCanceled:
            pass
        except BaseException as error:
            self.pgconn.finish()
            # A second cancel, or no answer: nothing is known about this connection any more.
            if not isinstance(error, Exception):
                raise
            self.fault = ConnectionFault.LOST


class PostgresServer:
    """What the pools of a process know of the server that all their connections lead to."""

    def __init__(self) -> None:
        self.pools: list[Pool] = []
        self.fault: ConnectionFault | None = None
        """What was learned last; None while it takes connections and writes."""

    def learn(self, fault: ConnectionFault) -> None:
        """It is of no use now."""
        if self.fault is not fault:
            logger.warning(
                "the database accepts no writes"
                if fault is ConnectionFault.READ_ONLY
                else "the database cannot be reached",
                extra={"event": f"database.{fault.value}"},
            )
        self.fault = fault

    async def leave(self) -> None:
        """Make new connections, and use none of the old ones, in whichever pool they are."""
        for pool in self.pools:
            if not pool.closed:
                await pool.drain()


class Pool(AsyncConnectionPool[BoundedConnection]):
    """A pool, without what cannot be used: sockets that the server closed, and connections to one that takes no writes.

    `check=` would cost a round trip for each checkout and sleeps 1, 2, 4 s between several dead sockets. A look at
    the socket costs microseconds, and so neither a restart of the database nor a terminated backend fails a
    write that could simply have been sent on another connection.

    What one connection meets on a demoted or silent server concerns those that were made before: all are made anew,
    once, however many meet it.
    """

    def __init__(self, server: PostgresServer, conninfo: Conninfo, **arguments: Any) -> None:
        super().__init__(cast("Any", conninfo), **arguments)
        self.server = server
        server.pools.append(self)

    async def getconn(self, timeout: float | None = None) -> BoundedConnection:
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            connection = await self._free(deadline - time.monotonic())
            if not _dropped(connection):
                return connection
            await connection.close()
            await self.putconn(connection)  # which replaces it

    async def putconn(self, connection: BoundedConnection) -> None:
        met, newest = connection.fault, connection._created_at > self._drained_at
        if met is not None:
            await connection.close()
        if met is ConnectionFault.READ_ONLY and newest:
            self.server.learn(met)
        elif newest and not connection.closed:
            self.server.fault = None
        await super().putconn(connection)
        if met in (ConnectionFault.LOST, ConnectionFault.READ_ONLY) and newest:
            await self.server.leave()

    def made_anew_since(self, moment: float) -> bool:
        """See `Database.made_anew_since`."""
        return moment <= self._drained_at

    async def _free(self, timeout: float) -> BoundedConnection:
        if self._pool:
            return await super().getconn(timeout)
        since, cancels = time.monotonic(), _cancels()
        try:
            connection = await super().getconn(timeout)
        finally:
            metrics.took(Metric.POOL_WAIT_MS, (time.monotonic() - since) * 1000)
        # The pool waits by `asyncio.wait_for`, which until Python 3.12 drops the cancel that meets its result.
        if _cancels() > cancels:
            await self.putconn(connection)
            raise asyncio.CancelledError
        return connection

    async def _resolve_conninfo(self) -> str:
        return await resolve(cast("Conninfo", self.conninfo))

    async def _connect(self, timeout: float | None = None) -> BoundedConnection:
        before = self.server.fault
        try:
            connection = await self._admitted(timeout)
            # A pooler in between may not know better. Where writes were refused just now nobody is believed.
            if before is ConnectionFault.READ_ONLY and not await connection.is_for_writing():
                raise OperationalError("session is read-only")
        except (OperationalError, TimeoutError) as error:
            read_only = isinstance(error, OperationalError) and refused_as_read_only(error)
            self.server.learn(ConnectionFault.READ_ONLY if read_only else before or ConnectionFault.LOST)
            raise
        self.server.fault = None
        return connection

    async def _admitted(self, timeout: float | None) -> BoundedConnection:
        since = time.monotonic()
        try:
            return await super()._connect(timeout)
        except OperationalError as error:
            if not await renewed(cast("Conninfo", self.conninfo), error, since):
                raise
        # The idle ones are of the role or the password that is on its way out.
        await self.server.leave()
        return await super()._connect(timeout)

    async def close(self, timeout: float = 5.0) -> None:
        """Close within about `timeout` seconds, also while a worker is connecting to a host that does not answer."""
        workers = {worker for worker in (*self._workers, self._sched_runner) if worker is not None}
        await super().close(timeout)
        late = {worker for worker in workers if not worker.done()}
        for worker in late:
            worker.cancel()
        if late:
            await asyncio.wait(late, timeout=CANCEL_SECONDS)


class Database:
    """The process's database: one pool for the checkpointer, the store and the gateway's own tables, and its lanes.

    `max_size` is how many connections there are, in all. `statement_seconds` bounds each statement and each wait for
    a free connection. `name` tells processes apart in `pg_stat_activity`.
    """

    def __init__(
        self,
        conninfo: Conninfo,
        *,
        max_size: int,
        statement_seconds: float,
        name: str,
        prepare: Prepare = "auto",
    ) -> None:
        self.conninfo = conninfo
        self.gate = Gate()
        self._statements = Gate()  # never shut: it counts
        self.statement_seconds = statement_seconds
        self._prepare = prepare
        self._name = name
        self._server = PostgresServer()
        lanes, kept = lanes_of(max_size), MIN_SIZE // 2
        if lanes:
            self.pool = self._pool((kept, max_size - lanes), self._configure)
            self.lanes = self._pool((kept, lanes), self._configure_lane)
            """Where `write` takes its connections from."""
        else:
            self.pool = self.lanes = self._pool((min(MIN_SIZE, max_size), max_size), self._configure)

    def _pool(
        self, sizes: tuple[int, int], configure: Callable[[BoundedConnection], Awaitable[None]]
    ) -> Pool:
        return Pool(
            self._server,
            self.conninfo,
            connection_class=BoundedConnection,
            configure=configure,
            kwargs={
                "autocommit": True,
                "row_factory": dict_row,
                # PgBouncer and RDS Proxy give each transaction another server connection.
                "prepare_threshold": None,
                "application_name": f"slackwater {self._name}",
                "connect_timeout": CONNECT_SECONDS,
                **KEEPALIVE,
            },
            min_size=sizes[0],
            max_size=sizes[1],
            open=False,
            name="slackwater",
            timeout=self.statement_seconds,
            max_idle=300.0,
            max_lifetime=1800.0,
            # psycopg doubles its delay after each failure; starting over finds a restarted database in a second.
            reconnect_timeout=1.0,
            reconnect_failed=AsyncConnectionPool.check,
        )

    async def open(self) -> None:
        """Start to connect. An unreachable database shows at the first statement, not here."""
        for pool in self._server.pools:
            await pool.open()

    async def close(self, timeout: float) -> None:
        """Close all connections within `timeout` seconds; a second call does nothing."""
        await asyncio.gather(*(pool.close(timeout=max(timeout, 0.01)) for pool in self._server.pools))

    async def refresh(self) -> None:
        """After a freeze: make new connections, and use none of the old ones.

        Whoever ended them while this process stood still has told it nothing: a statement on such a socket waits for
        its own bound. Closing them costs milliseconds.
        """
        await self._server.leave()

    async def quiesce(self, timeout: float) -> bool:
        """Wait `timeout` seconds for the statements in flight, whoever has sent them; False if some are left."""
        return await self._statements.quiesce(timeout)

    def connection(self) -> AbstractAsyncContextManager[AsyncConnection[DictRow]]:
        """A connection of one's own, for several statements or a transaction. Raises PoolTimeout, PoolClosed."""
        return self.pool.connection()

    @property
    def fault(self) -> ConnectionFault | None:
        """What was learned last of the server; None while it takes connections and writes. Asks nobody."""
        return self._server.fault

    def made_anew_since(self, moment: float) -> bool:
        """Whether connections that were made before `moment` (monotonic seconds) are used no more."""
        return all(pool.made_anew_since(moment) for pool in self._server.pools)

    async def fetch(self, sql: QueryNoTemplate, params: Params = None) -> list[Row]:
        """All rows of one statement. A `select` that met a dead connection is sent once more."""

        async def send(connection: BoundedConnection) -> list[Row]:
            return await (await connection.execute(sql, params)).fetchall()

        return await self._carry_out(send, only_reads=_only_reads(sql))

    async def fetch_page(self, sql: QueryNoTemplate, params: Params, limit: int) -> list[Row]:
        """The rows of a `select` for a page of `limit`, and those that it finds beyond, which say that there is more.

        They are read one by one, so that no more of them is ever in memory than may be answered. Raises PageTooLarge; a
        single row may be larger.
        """

        async def send(connection: BoundedConnection) -> list[Row]:
            return await read_page(connection.cursor(), sql, params, limit)

        return await self._carry_out(send, only_reads=True)

    async def stream(self, sql: QueryNoTemplate, params: Params = None) -> AsyncGenerator[Row]:
        """The rows of a `select` one by one, of which no more than one is in memory. Its connection is taken until the end."""
        async with self._statements.operation(), self.pool.connection() as connection:
            try:
                async with aclosing(connection.cursor().stream(sql, params)) as rows:  # type: ignore[type-var]
                    async for row in rows:
                        yield row
            except BaseException:
                connection.pgconn.finish()  # it may still be in the middle of the rows
                raise
            # As in `read_page`.
            await connection.execute("")

    async def fetch_one(self, sql: QueryNoTemplate, params: Params = None) -> Row | None:
        """The first row of one statement, or None."""
        rows = await self.fetch(sql, params)
        return rows[0] if rows else None

    async def execute(self, sql: QueryNoTemplate, params: Params = None) -> int:
        """Carry out one statement; how many rows it touched. Never carried out twice."""

        async def send(connection: BoundedConnection) -> int:
            return (await connection.execute(sql, params)).rowcount

        return await self._carry_out(send)

    async def pipeline(self, *statements: Statement) -> list[list[Row]]:
        """Several statements as one transaction in one round trip; the rows of each ([] if it has none).

        Raises the psycopg error of the first statement that fails; nothing is written then.
        """
        return await self._carry_out(lambda connection: connection.batch(statements))

    async def answers(self, **statements: Statement) -> dict[str, list[Row]]:
        """As `pipeline`; the rows of each statement by its name."""
        return dict(zip(statements, await self.pipeline(*statements.values()), strict=True))

    async def write(self, *statements: HotStatement) -> list[list[Row]]:
        """As `pipeline`, on a lane: statements that are sent all the time. Their parameters are named.

        A whole number is a `bigint` for the statement, whatever its value.
        """
        return await self._carry_out(lambda connection: connection.write(statements), pool=self.lanes)

    async def _carry_out(
        self,
        send: Callable[[BoundedConnection], Awaitable[T]],
        *,
        only_reads: bool = False,
        pool: Pool | None = None,
    ) -> T:
        """Send something; on another connection once more where that cannot carry it out a second time."""
        pool = pool or self.pool
        again = False
        while True:
            async with self._statements.operation():
                connection = await pool.getconn()
                try:
                    return await send(connection)
                except OperationalError as error:
                    refused = (
                        isinstance(error, UnusableConnection) and error.fault is ConnectionFault.READ_ONLY
                    )  # as a whole
                    if again or not (refused or (only_reads and _lost(connection, error))):
                        raise
                finally:
                    # `pool.connection()` also ends a transaction, which no single statement leaves behind.
                    await pool.putconn(connection)
            again = True

    async def _configure(self, connection: BoundedConnection) -> None:
        connection.statement_seconds = self.statement_seconds

    async def _configure_lane(self, connection: BoundedConnection) -> None:
        connection.statement_seconds = min(CONNECT_SECONDS, self.statement_seconds)
        try:
            await set_up(connection, self._prepare)
        except BaseException:
            await connection.close()
            raise
        connection.statement_seconds = self.statement_seconds


def _cancels() -> int:
    """How many cancels of the task that is running wait to be carried out."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _dropped(connection: AsyncConnection[Any]) -> bool:
    """True if the server has ended, or is ending, the session of this idle connection. Does not block.

    An idle server has nothing to say but farewell: its last message, or the end of the stream. What else may come
    (a setting was reloaded) is so rare that a new connection is the simpler answer.
    """
    pgconn = connection.pgconn
    if pgconn.status == ConnStatus.BAD:
        return True
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))


def _lost(connection: BoundedConnection, error: OperationalError) -> bool:
    """True if the statement failed because the session has ended. A late answer is not that."""
    return connection.fault is not None and not isinstance(error, StatementTimeout)


async def read_page(cursor: AsyncCursor[Row], sql: QueryNoTemplate, params: Params, limit: int) -> list[Row]:
    """What `Database.fetch_page` says, by a cursor that is in no pipeline."""
    rows: list[Row] = []
    size = 0
    try:
        async with aclosing(cursor.stream(sql, params)) as stream:  # type: ignore[type-var]
            async for row in stream:
                size += _size_of(cursor.pgresult)
                if 0 < len(rows) < limit and size > PAGE_BYTES:
                    raise PageTooLarge
                rows.append(row)
    except PageTooLarge:
        await cursor.connection.execute("")
        raise
    except BaseException:
        cursor.connection.pgconn.finish()  # it may still be in the middle of the rows
        raise
    # libpq gives rows one by one until a statement outside of a pipeline begins, and the next one may be in one.
    await cursor.connection.execute("")
    return rows


def _size_of(row: PGresult | None) -> int:
    """The bytes of a row as the server has sent it."""
    assert row is not None
    return sum(len(row.get_value(0, column) or b"") for column in range(row.nfields))


def _only_reads(sql: QueryNoTemplate) -> bool:
    """True for a plain `select`; `with …` and `… returning` may write."""
    return isinstance(sql, str) and sql.lstrip()[:6].lower() == "select"
