"""What was audited: listed, and kept for a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from slackwater.identity.audit import queries
from slackwater.identity.audit.actor import AuditAction

if TYPE_CHECKING:
    from slackwater.postgres.pool import Database

BATCH = 1000


async def list_(
    database: Database,
    *,
    owner: str | None = None,
    actor: str | None = None,
    actions: Sequence[AuditAction] = (),
    days: float | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """What was audited, the newest first."""
    return await queries.list_(database, owner=owner, actor=actor, actions=actions, days=days, limit=limit)


async def trim(database: Database, days: float) -> None:
    """Delete what is older, a bounded number of rows at a time."""
    while await queries.trim(database, days, BATCH) == BATCH:
        pass
