"""The sweep of blobs: what no file has is deleted from the store, and then its row.

Whoever is stopped in between, or does it twice, does no harm: deleting again deletes nothing.
"""

from __future__ import annotations

from slackwater.blobs import queries
from slackwater.blobs.blobs import Blobs
from slackwater.postgres.pool import Database

MANY = 500
"""How many are read at a time."""
FEW = 20
"""How many of those are deleted at a time whose uploads have to be ended, too."""


async def sweep(database: Database, blobs: Blobs) -> int:
    """Delete what is to be deleted; how many blobs that was. Raises StoreSilent."""
    while await queries.abandon(database, MANY) == MANY:
        pass
    total = 0
    while rows := await queries.to_sweep(database, MANY):
        dead = [row["key"] for row in rows if row["state"] == "dead"]
        await blobs.delete(dead)
        await queries.swept(database, dead)
        # One by one at S3, so that a store which stops answering does not undo all of it.
        for abandoned in _few([row["key"] for row in rows if row["state"] == "abandoned"]):
            await blobs.delete(abandoned, abandoned=True)
            await queries.swept(database, abandoned)
        total += len(rows)
        if len(rows) < MANY:
            break
    return total


def _few(keys: list[str]) -> list[list[str]]:
    return [keys[at : at + FEW] for at in range(0, len(keys), FEW)]
