"""Where the database is and who we are there: a string, or something that is asked again for each connection."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from psycopg import AsyncConnection, Connection, OperationalError, ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row

from slackwater.postgres.connection_errors import refused_as_read_only

C = TypeVar("C", bound=AsyncConnection[Any])
B = TypeVar("B", bound=Connection[Any])

READ_WRITE = "read-write"
IS_READ_ONLY = "show transaction_read_only"
"""Asks the server itself; `off` where it takes writes."""


@runtime_checkable
class Renewable(Protocol):
    """A conninfo that remembers what it gave, and can look whether there is a newer one."""

    async def __call__(self) -> str:
        """The conninfo for a new connection."""

    async def renew(self, since: float) -> bool:
        """Look again; True if what it gives now is another one than at the monotonic second `since`."""


Conninfo: TypeAlias = str | Callable[[], Awaitable[str]] | Renewable
"""A URI or `key=value …`, or an async callable that gives one: a token, or a secret that is rotated."""


async def resolve(conninfo: Conninfo) -> str:
    """The conninfo for a connection that is made now: to a server that takes writes, unless it names others."""
    return for_writing(conninfo if isinstance(conninfo, str) else await conninfo())


def for_writing(conninfo: str) -> str:
    """`conninfo` with `target_session_attrs=read-write`, unless it, the environment or a service file may say otherwise.

    Of several hosts the first that takes writes is used then, and a server that has become a replica is not.
    """
    try:
        parts = conninfo_to_dict(conninfo)
    except ProgrammingError:
        return conninfo  # connecting says what is wrong with it
    if "service" in parts or not os.environ.keys().isdisjoint(("PGSERVICE", "PGTARGETSESSIONATTRS")):
        return conninfo
    return make_conninfo(conninfo, **{"target_session_attrs": READ_WRITE, **parts})


def asks_for_writing(conninfo: str) -> bool:
    """Whether libpq refuses what it takes for a replica."""
    return conninfo_to_dict(conninfo).get("target_session_attrs") == READ_WRITE


def whoever_answers(conninfo: str) -> Iterator[str]:
    """A conninfo for each host, which takes any server for what it is."""
    parts = conninfo_to_dict(conninfo)
    names = [name for name in ("host", "hostaddr", "port") if parts.get(name)]
    lists = {name: str(parts[name]).split(",") for name in names}
    for n in range(max((len(items) for items in lists.values()), default=1)):
        one = {name: items[n % len(items)] for name, items in lists.items()}
        yield make_conninfo("", **{**parts, **one, "target_session_attrs": "any"})


async def renewed(conninfo: Conninfo, error: OperationalError, since: float) -> bool:
    """Whether connecting failed for a password that was current at `since` and is not any more."""
    return isinstance(conninfo, Renewable) and _refused(error) and await conninfo.renew(since)


async def connect(kind: type[C], conninfo: Conninfo, **arguments: Any) -> C:
    """A connection of its own. A password that has just been rotated is read again, once."""
    since = monotonic()
    try:
        return await kind.connect(await resolve(conninfo), **arguments)
    except OperationalError as error:
        if not await renewed(conninfo, error, since):
            raise
    return await kind.connect(await resolve(conninfo), **arguments)


def connect_blocking(kind: type[B], conninfo: str, **arguments: Any) -> B:
    """What `BoundedConnection.connect` does, for a thread: a server that takes writes if the conninfo asks for one."""
    try:
        return kind.connect(conninfo, **arguments)
    except OperationalError as refusal:
        if not (refused_as_read_only(refusal) and asks_for_writing(conninfo)):
            raise
        for one in whoever_answers(conninfo):
            with suppress(OperationalError):
                connection = kind.connect(one, **arguments)
                if _is_for_writing(connection):
                    return connection
        raise


def _is_for_writing(connection: Connection[Any]) -> bool:
    """Ask the server itself. The connection is closed, unless it is."""
    takes = False
    try:
        takes = connection.cursor(row_factory=tuple_row).execute(IS_READ_ONLY).fetchone() == ("off",)
        return takes
    finally:
        if not takes:
            connection.close()


def _refused(error: OperationalError) -> bool:
    """True if the server asked for the password and then did not let us in.

    A connection that was never made has no SQLSTATE in psycopg, and the server's sentence is in its own language.
    """
    pgconn = error.pgconn
    return pgconn is not None and pgconn.used_password and not refused_as_read_only(error)
