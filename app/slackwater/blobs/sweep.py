"""The sweep of blobs: what no file has is deleted from the store, and then its row.

Whoever is stopped in between, or does it twice, does no harm: deleting again deletes nothing.
"""

from __future__ import annotations

from slackwater.blobs import queries
from slackwater.blobs.blobs import Blobs
from slackwater.postgres.pool import Database

MANY = 500
"""How many are deleted at a time."""


async def sweep(database: Database, blobs: Blobs) -> int:
    """Delete what is to be deleted; how many blobs that was. Raises StoreSilent."""
    while await queries.abandon(database, MANY) == MANY:
        pass
    total = 0
    while rows := await queries.to_sweep(database, MANY):
        dead = [row["key"] for row in rows if row["state"] == "dead"]
        abandoned = [row["key"] for row in rows if row["state"] == "abandoned"]
        await blobs.delete(dead)
        await blobs.delete(abandoned, abandoned=True)
        await queries.swept(database, dead + abandoned)
        total += len(rows)
        if len(rows) < MANY:
            break
    return total
