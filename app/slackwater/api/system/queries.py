"""The one question that the system asks its database."""

from __future__ import annotations

from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.pool import Database


async def answers(database: Database) -> bool:
    """Whether the database answers."""
    try:
        await database.fetch("select 1")
    except DATABASE_UNAVAILABLE:
        return False
    return True
