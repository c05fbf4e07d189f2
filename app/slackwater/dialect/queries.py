"""The SQL of the dialect."""

from __future__ import annotations

from uuid import UUID

from slackwater.identity.audit.actor import AuditAction
from slackwater.postgres.pool import Database

_DELETED = f"""select 1 as found from slackwater.audit
where owner = %(owner)s and at > now() - interval '1 day' and action = '{AuditAction.THREAD_DELETED}'
  and subject = %(thread_id)s::text limit 1"""


async def was_deleted(database: Database, owner: str, thread_id: UUID) -> bool:
    """Whether the owner has deleted this thread within a day."""
    return await database.fetch_one(_DELETED, {"owner": owner, "thread_id": thread_id}) is not None
