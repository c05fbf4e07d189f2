"""The SQL of channels. Each statement decides by itself, whoever else brings the same at the same moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from slackwater.postgres.pool import Database, Row
from slackwater.runtime.queue.admission import NewRun
from slackwater.runtime.queue.states import ACTIVE

KEPT_DAYS = 7
"""How long a delivery is known. Those who send again give up after about a day."""

_MINE: LiteralString = "channel = %(channel)s and owner = %(owner)s"

# The first to name the conversation has given it its thread; whoever comes later gets that one.
_THREAD: LiteralString = f"""
with known as (
  select thread_id, run_id from slackwater.channel_deliveries where {_MINE} and delivery_id = %(delivery)s
), begun as (
  insert into slackwater.channel_threads (channel, owner, conversation_id, thread_id)
  select %(channel)s, %(owner)s, %(conversation)s, %(thread)s
  where %(begins)s and not exists (select from known)
  on conflict (channel, owner, conversation_id) do update set thread_id = channel_threads.thread_id
  returning thread_id
)
select thread_id, run_id from known
union all select thread_id, null::uuid from begun
union all select thread_id, null::uuid from slackwater.channel_threads
  where not %(begins)s and {_MINE} and conversation_id = %(conversation)s and not exists (select from known)"""

# Nothing, if somebody was faster, or if the thread was deleted since and its conversation needs a new one.
_TAKE: LiteralString = f"""
insert into slackwater.channel_deliveries (channel, owner, delivery_id, thread_id, run_id, place, notice_id)
select t.channel, t.owner, %(delivery)s, t.thread_id, %(run)s, %(place)s::jsonb, %(notice)s::uuid
from slackwater.channel_threads t
where {_MINE} and t.conversation_id = %(conversation)s and t.thread_id = %(thread)s
on conflict do nothing returning delivery_id"""

_TRIM: LiteralString = f"""
delete from slackwater.channel_deliveries where ctid = any(array(
  select ctid from slackwater.channel_deliveries
  where received_at < statement_timestamp() - interval '{KEPT_DAYS} days' limit 1000 for update skip locked))"""


async def thread_of(
    database: Database,
    channel: str,
    owner: str,
    delivery: str,
    conversation: str,
    *,
    thread: UUID,
    begins: bool,
) -> Row | None:
    """The `thread_id` of a conversation, which is `thread` if it has none yet and this may begin one, and the `run_id` of the delivery,
    if it has come before. None if there is no such conversation.
    """
    return await database.fetch_one(
        _THREAD,
        {
            "channel": channel,
            "owner": owner,
            "delivery": delivery,
            "conversation": conversation,
            "thread": thread,
            "begins": begins,
        },
    )


def take(
    new: NewRun,
    channel: str,
    delivery: str,
    conversation: str,
    place: Mapping[str, Any] | None,
    notice: UUID | None,
) -> tuple[str, dict[str, Any]]:
    """The statement by which a run is that of the delivery, for whoever is the first. For all others it returns no row."""
    return _TAKE, {
        "channel": channel,
        "owner": new.owner,
        "delivery": delivery,
        "conversation": conversation,
        "thread": new.thread_id,
        "run": new.run_id,
        "place": None if place is None else Jsonb(place),
        "notice": notice,
    }


async def trim(database: Database) -> None:
    """Forget what came in long ago."""
    await database.execute(_TRIM)


_OF_NOTICE: LiteralString = f"""
select place from slackwater.channel_deliveries d
where notice_id = %(id)s and message is null and exists (
  select from slackwater.runs r where r.run_id = d.run_id and r.status in {ACTIVE})"""

# A notice that has not been sent is not needed any more. One that is on its way would come after the answer.
_OF_ANSWER = """
with dropped as (
  delete from slackwater.webhooks w using slackwater.channel_deliveries d
  where d.run_id = %(id)s and w.run_id = d.notice_id
    and (w.claimed_until is null or w.claimed_until < clock_timestamp())
  returning w.run_id
)
select d.place, d.message, d.answer, d.message is null and exists (
    select from slackwater.webhooks w where w.run_id = d.notice_id
      and w.run_id not in (select run_id from dropped)) as busy
from slackwater.channel_deliveries d where d.run_id = %(id)s"""

_NOTE_NOTICE = "update slackwater.channel_deliveries set message = %(message)s where notice_id = %(id)s"
_NOTE_ANSWER = "update slackwater.channel_deliveries set answer = %(message)s where run_id = %(id)s"


async def of_notice(database: Database, notice_id: UUID) -> Row | None:
    """Where a notice is to be shown; None if its run has ended, or if it is there already."""
    return await database.fetch_one(_OF_NOTICE, {"id": notice_id})


async def of_answer(database: Database, run_id: UUID) -> Row | None:
    """Where the answer of a run is to be shown, the `message` whose place it takes, and whether it has to wait (`busy`) for that; and
    the `answer`, if it is there as a message of its own.
    """
    return await database.fetch_one(_OF_ANSWER, {"id": run_id})


async def note_notice(database: Database, notice_id: UUID, message: str) -> None:
    """The message that a notice has become."""
    await database.execute(_NOTE_NOTICE, {"id": notice_id, "message": message})


async def note_answer(database: Database, run_id: UUID, message: str) -> None:
    """The message that the answer of a run has become, beside its notice."""
    await database.execute(_NOTE_ANSWER, {"id": run_id, "message": message})
