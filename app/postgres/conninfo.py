"""Where the database is and who we are there: a text, or something that is asked again for each connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from psycopg import AsyncConnection, OperationalError

C = TypeVar("C", bound=AsyncConnection[Any])


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
    """The conninfo for a connection that is made now."""
    return conninfo if isinstance(conninfo, str) else await conninfo()


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


def _refused(error: OperationalError) -> bool:
    """True if the server asked for the password and then did not let us in.

    A connection that was never made has no SQLSTATE in psycopg, and the server's sentence is in its own language.
    """
    pgconn = error.pgconn
    return pgconn is not None and pgconn.used_password
