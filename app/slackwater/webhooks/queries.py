"""Deliveries in SQL. A claim is a lease; whoever records what came of it must still hold it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, LiteralString
from uuid import UUID

from slackwater.postgres import shares
from slackwater.postgres.arrays import TextArray
from slackwater.postgres.pool import Database
from slackwater.postgres.shares import Shares
from slackwater.webhooks.chat import SCHEME

Row = dict[str, Any]

KEPT_DAYS = 30
"""How long a delivery is kept that was given up, for somebody to look at, or that is for a channel that there is not any more."""

_FREE: LiteralString = "(q.claimed_until is null or q.claimed_until < clock_timestamp())"
_OURS: LiteralString = f"(not starts_with(q.url, '{SCHEME}') or q.url = any(%(chats)s))"
"""A process that does not know a chat would only use its attempts up."""

_CLAIM: LiteralString = f"""
with recursive {
    shares.candidates(
        table="slackwater.webhooks",
        key="run_id",
        age="due_at",
        first="'-infinity'::timestamptz",
        waits="given_up_at is null",
        due=f"q.given_up_at is null and q.due_at <= statement_timestamp() and {_FREE} and {_OURS}",
    )
}, ordered as (
  select c.run_id from candidate c where c.share <= %(most)s
  order by c.share, c.turn nulls first, c.due_at
), due as (
  select o.run_id from ordered o cross join lateral (
    select 1 from slackwater.webhooks q where q.run_id = o.run_id and q.given_up_at is null and {_FREE} and {
    _OURS
}
    for update skip locked) q limit %(limit)s
), claimed as (
update slackwater.webhooks w set fence = w.fence + 1, attempts = w.attempts + 1,
  claimed_until = clock_timestamp() + make_interval(secs => %(lease)s)
where w.run_id = any(array(select d.run_id from due d))
returning w.run_id, w.thread_id, w.owner, w.url, w.run, w."values", w.attempts, w.fence, w.trouble
)
select c.*, l.looked_until from (select {
    shares.LOOKED_UNTIL
} as looked_until) l left join claimed c on true"""

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
  select run_id from slackwater.webhooks where given_up_at < statement_timestamp() - interval '{KEPT_DAYS} days'
    or (given_up_at is null and due_at < statement_timestamp() - interval '{KEPT_DAYS} days'
      and starts_with(url, '{SCHEME}'))
  limit 1000 for update skip locked)"""

_AGAIN: LiteralString = """
update slackwater.webhooks set given_up_at = null, attempts = 0, trouble = null, due_at = clock_timestamp()
where owner = %(owner)s and url = %(url)s and (claimed_until is null or claimed_until < clock_timestamp())"""


async def claim(
    database: Database,
    *,
    limit: int,
    lease_seconds: float,
    share: Shares,
    in_hand: Iterable[str],
    most: int,
    chats: Sequence[str] = (),
) -> list[Row]:
    """Take up to `limit` deliveries that are due, shared out per owner, and of each those due longest first.

    `in_hand` has the owner of each that is being sent here; none gets more than `most`. Of those for chats, only these.
    """
    params = {
        "limit": limit,
        "lease": lease_seconds,
        "most": most,
        "chats": TextArray(chats),
        **share.parameters(in_hand),
    }
    rows = await database.fetch(_CLAIM, params)
    share.looked(rows[0]["looked_until"])
    claimed = [row for row in rows if row["run_id"] is not None]
    for row in claimed:
        share.served(row["owner"])
    return claimed


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


async def again(database: Database, owner: str, url: str) -> int:
    """What could not be told there, also what was given up, is due now; how many."""
    return await database.execute(_AGAIN, {"owner": owner, "url": url})


async def trim(database: Database) -> None:
    """Forget what was given up long ago, and what nobody has claimed for as long."""
    await database.execute(_TRIM)
