"""The schema: numbered migrations of the gateway's own tables, and LangGraph's own for its tables."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from slackwater.errors import SchemaError
from slackwater.postgres import vectors
from slackwater.postgres.conninfo import Conninfo, connect, resolve
from slackwater.postgres.lanes import session_of
from slackwater.postgres.langgraph_migrations import last_migrations
from slackwater.postgres.pool import CONNECT_SECONDS, BoundedConnection, Database

logger = logging.getLogger(__name__)

T = TypeVar("T")

FOLDER = Path(__file__).parent / "migrations"
LOCK = int.from_bytes(b"slackwat")
LOCK_POLL_SECONDS = 0.1
LOCK_SECONDS = 300.0
PROBE_SECONDS = 2.0
PROBES = 30
TABLE_LOCK_SECONDS = 3.0
"""How long a migration waits for a table's lock, and everybody else behind it: a tenth of a lease."""
TABLE_LOCK_TRIES_SECONDS = 120.0
"""How long it tries for that, with pauses of the same length in between."""
CONCURRENTLY = "-- concurrently\n"
"""Begins a migration that builds indexes while the tables are used: statement by statement, outside of a transaction. Each
of them may be carried out again. The others must not take longer than the lock that they hold may be held."""
ONE_BY_ONE = "-- one by one\n"
"""Begins a migration that locks several tables: each statement in a transaction of its own, so that nobody who has one of
them waits for another. Each may be carried out again."""
STATEMENT_SECONDS = 86_400.0  # a migration of a large table takes as long as it takes

BOOTSTRAP = """
do $$ begin
    -- CREATE SCHEMA IF NOT EXISTS wants the right to create it even where it exists.
    if to_regnamespace('slackwater') is null then create schema slackwater; end if;
end $$;
create table if not exists slackwater.migrations (
    name       text primary key,
    applied_at timestamptz not null default now()
)
"""

ROLE_DEFAULTS = {
    "statement_timeout": "120s",  # far above the bound of the client, which is the one that should act
    "lock_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",
}
"""For when a client vanished without a word and its statement or transaction goes on holding locks."""


class SchemaCompatibility(Enum):
    """What a release makes of the schema it finds."""

    CURRENT = "current"
    """It is this release's schema."""
    ABSENT = "absent"
    """There is none of ours."""
    OLDER = "older"
    """Migrations are missing, LangGraph's included."""
    NEWER = "newer"
    """A later release has migrated it."""


@dataclass(frozen=True)
class Version:
    """The number of LangGraph's last migration: found in the database (-1: none), and of the installed library."""

    found: int
    needed: int


@dataclass(frozen=True)
class SchemaStatus:
    """What is in a database, and what this release needs."""

    server: str
    """Of Postgres, like `18.4`."""
    applied: tuple[str, ...]
    known: tuple[str, ...]
    checkpoints: Version
    store: Version

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in self.known if name not in self.applied)

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(name for name in self.applied if name not in self.known)

    @property
    def compatibility(self) -> SchemaCompatibility:
        if self.unknown:
            return SchemaCompatibility.NEWER
        if not self.applied:
            return SchemaCompatibility.ABSENT
        if self.missing or any(part.found < part.needed for part in (self.checkpoints, self.store)):
            return SchemaCompatibility.OLDER
        return SchemaCompatibility.CURRENT

    def refuse(self) -> SchemaError | None:
        """Why a server must not start on this schema, and what to do; None if it may."""
        match self.compatibility:
            case SchemaCompatibility.CURRENT:
                return None
            case SchemaCompatibility.ABSENT:
                return SchemaError("The database has no Slackwater schema: run `slackwater migrate`.")
            case SchemaCompatibility.NEWER:
                return SchemaError(
                    f"The database schema is newer than this release (it has {', '.join(self.unknown)}): "
                    "install the release that migrated it, or a later one."
                )
            case SchemaCompatibility.OLDER:
                missing = list(self.missing)
                if self.checkpoints.found < self.checkpoints.needed:
                    missing.append("LangGraph's checkpoint tables")
                if self.store.found < self.store.needed:
                    missing.append("LangGraph's store tables")
                return SchemaError(
                    f"The database schema is older than this release (it lacks {', '.join(missing)}): "
                    "run `slackwater migrate`."
                )


async def check(database: Database) -> None:
    """Raise SchemaError unless the database can be reached and has exactly this release's schema."""
    # Not through the pool, which can only say that it got no connection, not why.
    if refusal := (await status(database.conninfo)).refuse():
        raise refusal


async def check_vectors(database: Database, dims: int) -> None:
    """Raise SchemaError unless the database has a place for vectors of so many numbers."""
    async with _connect(database.conninfo) as connection:
        if refusal := vectors.refuse(dims, await vectors.found(connection)):
            raise refusal


async def status(conninfo: Conninfo) -> SchemaStatus:
    """What is in the database. Raises SchemaError when it cannot be reached or read."""
    async with _connect(conninfo) as connection:
        return await _status(connection)


async def is_pooled(conninfo: Conninfo) -> bool:
    """True if something shares the server's sessions out by the transaction between us and the server.

    Through it neither a lock nor LISTEN holds. Raises SchemaError when the database cannot be reached.
    """
    async with _connect(conninfo) as connection:
        return await _is_pooled(connection, conninfo)


async def migrate(
    conninfo: Conninfo, dims: int | None = None, *, table_lock_seconds: float = TABLE_LOCK_SECONDS
) -> list[str]:
    """Bring the schema to this release's version; the names of what was applied, in order.

    With `dims` also a table for the vectors of the store's index, which have so many numbers. Whoever uses a table waits
    for `table_lock_seconds` at most, time and again: a tenth of the lease that is renewed meanwhile.
    Needs a direct connection. Any number of processes may call this at once: one works, the others wait.
    Raises SchemaError.
    """
    async with _connect(conninfo) as connection:
        if await _is_pooled(connection, conninfo):
            raise SchemaError(
                "The database URI goes through a transaction pooler (such as PgBouncer), through which a migration "
                "cannot hold its lock: set SLACKWATER_MIGRATION_DATABASE_URI to a direct connection and run "
                "`slackwater migrate` again."
            )
        lacks_vectors = dims is not None and await vectors.found(connection) is None
        if (await _status(connection)).compatibility is SchemaCompatibility.CURRENT and not lacks_vectors:
            return []
        # The role's own defaults are for serving.
        await connection.execute("set statement_timeout = 0")
        await connection.execute("set idle_in_transaction_session_timeout = 0")
        async with _lock(connection):
            return await _migrate(connection, dims, table_lock_seconds)


async def _migrate(connection: BoundedConnection, dims: int | None, lock_seconds: float) -> list[str]:
    await connection.execute(BOOTSTRAP)
    before = await _status(connection)
    if before.compatibility is SchemaCompatibility.NEWER and (refusal := before.refuse()):
        raise refusal
    applied = await _migrate_langgraph(connection, before, lock_seconds)  # its tables have indexes of ours
    for name in before.missing:
        text = (FOLDER / f"{name}.sql").read_text()
        if text.startswith(CONCURRENTLY):
            await _apply_concurrently(connection, text)
            await connection.execute(_APPLIED, (name,))
        elif text.startswith(ONE_BY_ONE):
            for statement in _statements(text):
                await _when_unlocked(partial(_apply, connection, statement, lock_seconds), lock_seconds)
            await connection.execute(_APPLIED, (name,))
        else:
            await _when_unlocked(partial(_apply, connection, text, lock_seconds, name), lock_seconds)
        applied.append(name)
    if dims is not None and await vectors.found(connection) is None:
        await vectors.create(connection, dims)
        applied.append(vectors.NAME)
    await _set_role_defaults(connection)
    for name in applied:
        logger.info("migrated", extra={"event": "schema.migrated", "migration": name})
    return applied


def _statements(text: str) -> list[str]:
    return [statement for statement in text.split(";\n") if statement.strip()]


_APPLIED = "insert into slackwater.migrations (name) values (%s)"


async def _apply(
    connection: BoundedConnection, text: str, lock_seconds: float, name: str | None = None
) -> None:
    """In one transaction, with `name` a whole migration."""
    async with connection.transaction():
        await connection.execute(
            "select set_config('lock_timeout', %s, true)", (f"{max(1, round(lock_seconds * 1000))}ms",)
        )
        await connection.execute(text.encode())
        if name is not None:
            await connection.execute(_APPLIED, (name,))


async def _apply_concurrently(connection: BoundedConnection, text: str) -> None:
    await connection.execute("set lock_timeout = 0")  # it waits for old transactions, and nobody waits for it
    await _drop_invalid_indexes(connection)
    for statement in _statements(text):
        await connection.execute(statement.encode())


async def _when_unlocked(act: Callable[[], Awaitable[T]], lock_seconds: float) -> T:
    """Do it as soon as a lock can be had within `lock_seconds`; in between whoever has waited behind us goes on."""
    until = monotonic() + TABLE_LOCK_TRIES_SECONDS
    while True:
        try:
            return await act()
        except psycopg.errors.LockNotAvailable as error:
            if monotonic() + 2 * lock_seconds > until:
                raise
            logger.info(
                "a table is in use (%s); the migration tries again",
                _reason(error),
                extra={"event": "schema.locked"},
            )
            await asyncio.sleep(lock_seconds)


async def _migrate_langgraph(
    connection: BoundedConnection, before: SchemaStatus, lock_seconds: float
) -> list[str]:
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from langgraph.store.postgres.aio import AsyncPostgresStore

    await connection.execute("set lock_timeout = 0")
    await _drop_invalid_indexes(connection)
    applied, ours = [], connection.cursor_factory
    connection.cursor_factory = _patient(lock_seconds)
    if before.checkpoints.found < before.checkpoints.needed:
        await AsyncPostgresSaver(connection).setup()
        applied.append(f"langgraph_checkpoints_{before.checkpoints.needed}")
    if before.store.found < before.store.needed:
        store = AsyncPostgresStore(connection)
        try:
            await store.setup()
        finally:
            # A store starts a task for its batches at once and offers no way to stop it but its destructor.
            if (task := store._task) is not None:
                task.cancel()
                await asyncio.wait({task}, timeout=1.0)
        applied.append(f"langgraph_store_{before.store.needed}")
    connection.cursor_factory = ours
    return applied


def _patient(lock_seconds: float) -> type[psycopg.AsyncCursor[Any]]:
    """A cursor that waits for the locks of tables as our own migrations do: LangGraph's set no bound."""

    class Patient(psycopg.AsyncCursor[Any]):
        async def execute(self, query: Any, *arguments: Any, **options: Any) -> Any:
            # CREATE INDEX CONCURRENTLY waits for old transactions, and nobody waits for it.
            seconds = 0 if "concurrently" in str(query).lower() else lock_seconds
            await super().execute(f"set lock_timeout = {round(seconds * 1000)}".encode())
            return await _when_unlocked(
                partial(super().execute, query, *arguments, **options), max(seconds, lock_seconds)
            )

    return Patient


async def _drop_invalid_indexes(connection: BoundedConnection) -> None:
    """Drop what a killed CREATE INDEX CONCURRENTLY left: its IF NOT EXISTS would accept that as done."""
    cursor = await connection.execute("""
        select indexrelid::regclass::text as name from pg_index
        where not indisvalid and indrelid in (
            to_regclass('checkpoints'), to_regclass('checkpoint_blobs'), to_regclass('checkpoint_writes'),
            to_regclass('store')
        ) or not indisvalid and indrelid in (
            select oid from pg_class where relnamespace = to_regnamespace('slackwater'))
    """)
    for row in await cursor.fetchall():
        await connection.execute(sql.SQL("drop index concurrently {}").format(sql.SQL(row["name"])))


async def _set_role_defaults(connection: BoundedConnection) -> None:
    """Bound forgotten statements and transactions of this role, where it may and nobody has chosen before."""
    cursor = await connection.execute("""
        select split_part(unnest(setconfig), '=', 1) as name from pg_db_role_setting
        where setrole = (select oid from pg_roles where rolname = current_user)
        and setdatabase in (0, (select oid from pg_database where datname = current_database()))
    """)
    chosen = {row["name"] for row in await cursor.fetchall()}
    info = connection.info
    for name, value in ROLE_DEFAULTS.items():
        if name in chosen:
            continue
        statement = sql.SQL("alter role {} in database {} set {} = {}").format(
            sql.Identifier(info.user), sql.Identifier(info.dbname), sql.Identifier(name), sql.Literal(value)
        )
        try:
            await connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege as error:
            logger.info(
                "the role's defaults stay as they are",
                extra={"event": "schema.role_defaults_refused", "reason": _reason(error)},
            )
            return


async def _status(connection: BoundedConnection) -> SchemaStatus:
    checkpoints, store = last_migrations()
    return SchemaStatus(
        server=connection.info.parameter_status("server_version") or "unknown",
        applied=tuple(await _column(connection, "slackwater.migrations", "name")),
        known=tuple(sorted(path.stem for path in FOLDER.glob("*.sql"))),
        checkpoints=Version(
            max(await _column(connection, "checkpoint_migrations", "v"), default=-1), checkpoints
        ),
        store=Version(max(await _column(connection, "store_migrations", "v"), default=-1), store),
    )


async def _column(connection: BoundedConnection, table: str, column: str) -> list[Any]:
    """The values of a column, in order; none if there is no such table."""
    cursor = await connection.execute("select to_regclass(%s) is not null as there", (table,))
    row = await cursor.fetchone()
    if row is None or not row["there"]:
        return []
    query = sql.SQL("select {column} as value from {table} order by {column}").format(
        column=sql.Identifier(column), table=sql.Identifier(*table.split("."))
    )
    return [row["value"] for row in await (await connection.execute(query)).fetchall()]


@asynccontextmanager
async def _lock(connection: BoundedConnection) -> AsyncIterator[None]:
    """Be the only one that migrates this database.

    Polled: CREATE INDEX CONCURRENTLY waits for the snapshot of everyone who waits for a lock in a statement, and
    they for the lock of the one who creates the index.
    """
    try:
        async with asyncio.timeout(LOCK_SECONDS):
            while True:
                cursor = await connection.execute("select pg_try_advisory_lock(%s) as mine", (LOCK,))
                row = await cursor.fetchone()
                if row is not None and row["mine"]:
                    break
                await asyncio.sleep(LOCK_POLL_SECONDS)
    except TimeoutError:
        raise SchemaError(
            f"Another process has been migrating this database for {LOCK_SECONDS:.0f} s: wait for it, or terminate its "
            "session, then run `slackwater migrate` again."
        ) from None
    try:
        yield
    finally:
        if not connection.closed:
            await connection.execute("select pg_advisory_unlock(%s)", (LOCK,))


async def _is_pooled(connection: BoundedConnection, conninfo: Conninfo) -> bool:
    first = await session_of(connection)
    if first == connection.info.backend_pid:
        return False
    # A session pooler is welcome: it keeps our session for us while we are idle. Another one gives it to whoever
    # begins a transaction next, and us another; which, depends on how busy it is, so we look more than once.
    try:
        async with await _open(conninfo) as other:
            for _ in range(PROBES):
                async with asyncio.timeout(PROBE_SECONDS), other.transaction():
                    if await session_of(other) == first or await session_of(connection) != first:
                        return True
    except TimeoutError:
        return True  # no session is left: either it is a transaction pooler, or one that is too small to migrate through
    return False


@asynccontextmanager
async def _connect(conninfo: Conninfo) -> AsyncIterator[BoundedConnection]:
    """A connection of our own, whose errors are told as SchemaError."""
    try:
        async with await _open(conninfo) as connection:
            yield connection
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaError(
            f"The database role lacks privileges that Slackwater needs ({_reason(error)}): run `slackwater migrate` with a "
            "role that owns the database (SLACKWATER_MIGRATION_DATABASE_URI), or grant them."
        ) from error
    except psycopg.errors.LockNotAvailable as error:
        raise SchemaError(
            f"A table was locked for too long ({_reason(error)}): run `slackwater migrate` again at a quieter time."
        ) from error
    except psycopg.Error as error:
        raise SchemaError(
            f"{_place(await resolve(conninfo))} cannot be used ({_reason(error)}): check SLACKWATER_DATABASE_URI and "
            "the server, then run `slackwater doctor`."
        ) from error


async def _open(conninfo: Conninfo) -> BoundedConnection:
    connection = await connect(
        BoundedConnection,
        conninfo,
        autocommit=True,
        prepare_threshold=None,
        row_factory=dict_row,
        application_name="slackwater schema",
        connect_timeout=CONNECT_SECONDS,
    )
    connection.statement_seconds = STATEMENT_SECONDS
    return connection


def _place(conninfo: str) -> str:
    """The database without its password."""
    try:
        parts = conninfo_to_dict(conninfo)
    except psycopg.Error:
        return "The database"
    return f"The database {parts.get('dbname', '')} at {parts.get('host', 'localhost')}:{parts.get('port', 5432)}"


def _reason(error: psycopg.Error) -> str:
    """The server's or the driver's words, in one line."""
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip()).rstrip(".")
