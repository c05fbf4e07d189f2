"""The one question that the system asks its database."""

from __future__ import annotations

from slackwater.postgres.pool import Database
from slackwater.postgres.trouble import DATABASE_TROUBLE


async def answers(database: Database) -> bool:
    """Whether the database answers."""
    try:
        await database.fetch("select 1")
    except DATABASE_TROUBLE:
        return False
    return True
