"""Whose thread it is, in SQL."""

from __future__ import annotations

from uuid import UUID

from slackwater.postgres.pool import Database


async def owner_of(database: Database, thread_id: UUID) -> str | None:
    """Who owns the thread; None if there is none."""
    row = await database.fetch_one("select owner from slackwater.threads where thread_id = %s", [thread_id])
    return row["owner"] if row else None
