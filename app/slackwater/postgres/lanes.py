"""Lanes: connections for the statements that are sent all the time, which are prepared there once.

They are of a pool of their own, so that these statements meet few sessions, in which they stay prepared, and wait for no
reader of a thread's history. Together the two pools have the connections of the setting.

Preparing needs a session that stays ours. Behind a transaction pooler it is another's with each transaction: there the
lanes are connections like all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from psycopg.rows import tuple_row

from slackwater.postgres.prepared import Prepared

if TYPE_CHECKING:
    from slackwater.postgres.pool import BoundedConnection

Prepare: TypeAlias = Literal["auto", "always", "never"]
"""`auto`: prepare where nobody stands between us and the server. `always`: whoever does keeps statements for us."""

MAX_LANES = 4

_PLANS = """
set plan_cache_mode = force_generic_plan;
set enable_seqscan = off;
set jit = off"""
"""Plans are made once, for any parameters, and perhaps while a table is still small: then a scan of it would be cheapest,
and be kept. Where a scan is the only way, its price would make Postgres compile the statement."""


def lanes_of(connections: int) -> int:
    """How many of so many connections are lanes: half of them, up to four; none if that would leave less than two."""
    return min(MAX_LANES, connections // 2) if connections >= 4 else 0


async def set_up(connection: BoundedConnection, prepare: Prepare) -> None:
    """Make a new connection a lane."""
    if prepare == "never":
        return
    direct = await session_of(connection) == connection.info.backend_pid
    if direct:
        # Of a session that may be given to others nothing is set.
        await connection.execute(_PLANS)
    if direct or prepare == "always":
        connection.prepared = Prepared()


async def session_of(connection: BoundedConnection) -> int:
    """The process of the server that carries out what this connection sends.

    It is the connection's own `backend_pid` only if nobody stands in between: a pooler has to answer the protocol's cancel
    requests himself, so the key that he gives us when we connect is one of his, and not the server's. That holds also
    where he has a single session to give, and however often he gives us the same.
    """
    cursor = await connection.cursor(row_factory=tuple_row).execute("select pg_backend_pid()")
    row = await cursor.fetchone()
    assert row is not None
    pid: int = row[0]
    return pid
