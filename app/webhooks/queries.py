"""Deliveries in SQL. A claim is a lease; whoever records what came of it must still hold it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from app.postgres.pool import Database

Row = dict[str, Any]

KEPT_DAYS = 30
"""How long a delivery that was given up is kept for somebody to look at."""

_CLAIM = """
with due as (
  select run_id from slackwater.webhooks
  where given_up_at is null and due_at <= clock_timestamp()
    and (claimed_until is null or claimed_until < clock_timestamp())
  order by due_at limit %(limit)s for update skip locked
)
update slackwater.webhooks w set fence = w.fence + 1, attempts = w.attempts + 1,
  claimed_until = clock_timestamp() + make_interval(secs => %(lease)s)
from due where w.run_id = due.run_id
returning w.run_id, w.thread_id, w.owner, w.url, w.run, w."values", w.attempts, w.fence, w.trouble"""

_MINE = "run_id = %(run_id)s and fence = %(fence)s and given_up_at is null and claimed_until is not null"

_DELIVERED = f"delete from slackwater.webhooks where {_MINE}"

_PUT_OFF = f"""
update slackwater.webhooks set claimed_until = null, trouble = %(trouble)s,
  due_at = clock_timestamp() + make_interval(secs => %(seconds)s)
where {_MINE}"""

_GIVE_UP = f"""
update slackwater.webhooks set claimed_until = null, trouble = %(trouble)s, given_up_at = clock_timestamp()
where {_MINE}"""

_LET_GO = f"""
update slackwater.webhooks set claimed_until = null, attempts = attempts - 1
where {_MINE}"""

_TRIM = f"""
delete from slackwater.webhooks where run_id in (
  select run_id from slackwater.webhooks where given_up_at < clock_timestamp() - interval '{KEPT_DAYS} days'
  limit 1000 for update skip locked)"""


async def claim(database: Database, *, limit: int, lease_seconds: float) -> list[Row]:
    """Take up to `limit` deliveries that are due, those due longest first."""
    return await database.fetch(_CLAIM, {"limit": limit, "lease": lease_seconds})


async def delivered(database: Database, run_id: UUID, fence: int) -> None:
    await database.execute(_DELIVERED, {"run_id": run_id, "fence": fence})


async def put_off(database: Database, run_id: UUID, fence: int, *, seconds: float, trouble: str) -> None:
    """Due again in so many seconds."""
    await database.execute(
        _PUT_OFF, {"run_id": run_id, "fence": fence, "seconds": seconds, "trouble": trouble}
    )


async def give_up(database: Database, run_id: UUID, fence: int, *, trouble: str) -> bool:
    """Never due again; whether it was ours to say so."""
    return bool(await database.execute(_GIVE_UP, {"run_id": run_id, "fence": fence, "trouble": trouble}))


async def let_go(database: Database, run_id: UUID, fence: int) -> None:
    """Due at once, for anybody: the attempt was broken off, and does not count."""
    await database.execute(_LET_GO, {"run_id": run_id, "fence": fence})


async def trim(database: Database) -> None:
    """Forget what was given up long ago."""
    await database.execute(_TRIM)
