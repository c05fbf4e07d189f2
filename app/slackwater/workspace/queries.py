"""Whose a thread is, in SQL."""

from __future__ import annotations

from uuid import UUID

from slackwater.postgres.pool import Database

_OWNER = "select owner from slackwater.threads where thread_id = %s"


async def owner_of(database: Database, thread_id: UUID) -> str | None:
    """None if there is no such thread."""
    row = await database.fetch_one(_OWNER, [thread_id])
    return None if row is None else str(row["owner"])
