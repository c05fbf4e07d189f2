"""How a memory is changed while others change it: what is made of it is made again of what they have left."""

from __future__ import annotations

import asyncio
import random

from slackwater.errors import MemoryContended, MemoryTooLarge
from slackwater.postgres import jsonb
from slackwater.postgres.pool import Database
from slackwater.workspace.memory import document, queries
from slackwater.workspace.memory.document import Document, Edit
from slackwater.workspace.memory.queries import NO_GUARD, Guard

TRIES = 12
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.005, 0.2
"""Between tries, up to twice as long after each: all of them are less than two seconds."""
MAX_BYTES = 2**20


async def apply(database: Database, owner: str, edit: Edit, guard: Guard = NO_GUARD) -> tuple[Document, bool]:
    """Make the edit; the memory as it is then, and whether the guard has allowed it.

    Raises MemoryContended, MemoryTooLarge, and what the edit raises.
    """
    for number in range(TRIES):
        kept = await queries.read(database, owner)
        before = document.read(kept.value)
        after = edit(before)
        # What has become too large by other ways may still be made smaller.
        if (size := len(jsonb.dumps(after))) > MAX_BYTES and size >= len(jsonb.dumps(before)):
            raise MemoryTooLarge
        written = await queries.write(database, owner, after, kept.version, guard)
        if written.done or not written.allowed:
            return (after, True) if written.done else (before, False)
        longest = min(FIRST_PAUSE_SECONDS * 2.0**number, LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - no secret
    raise MemoryContended
