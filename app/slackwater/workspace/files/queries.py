"""What there is of a folder. The files themselves are in `slackwater.blobs.queries`."""

from __future__ import annotations

from uuid import UUID

from slackwater.postgres.pool import Database

_HAS_BELOW = """
select 1 from slackwater.files
where owner = %(owner)s and thread_id = %(thread_id)s and starts_with(path, %(folder)s) limit 1"""


async def has_below(database: Database, owner: str, thread_id: UUID, folder: str) -> bool:
    """Whether there is a file below a folder."""
    parameters = {"owner": owner, "thread_id": thread_id, "folder": f"{folder}/"}
    return await database.fetch_one(_HAS_BELOW, parameters) is not None
