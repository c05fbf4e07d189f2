"""Receives wake-ups from other processes. They may be lost: only polling is relied on."""

from __future__ import annotations

import time
from collections.abc import Callable

from slackwater.postgres.conninfo import connect
from slackwater.postgres.pool import CONNECT_SECONDS, KEEPALIVE, BoundedConnection, Database
from slackwater.runtime.queue.order import HINT_CANCEL

LISTEN_SECONDS = 5.0
"""How soon the listener notices that the pool has moved to another server."""


async def listen(database: Database, *, work: Callable[[], None], wishes: Callable[[], None]) -> None:
    """Receive wake-ups on a dedicated connection: call `work` or, for wishes to cancel, `wishes`. Never returns."""
    while True:
        connected = time.monotonic()
        connection = await connect(
            BoundedConnection,
            database.conninfo,
            autocommit=True,
            application_name="slackwater listen",
            connect_timeout=CONNECT_SECONDS,
            **KEEPALIVE,
        )
        async with connection:
            await connection.execute("listen slackwater")
            # A server that has become a replica still accepts listeners, but they get no notifications.
            while not database.made_anew_since(connected):
                async for hint in connection.notifies(timeout=LISTEN_SECONDS):
                    if hint.payload == HINT_CANCEL:
                        wishes()
                    else:
                        work()
