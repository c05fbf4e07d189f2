"""Runs in SQL. Admission, claims and settlement are `slackwater.runtime`'s."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from slackwater.identity.audit.actor import NOBODY, Actor, AuditAction
from slackwater.identity.audit.queries import audited
from slackwater.identity.custom.queries import OWN, Visible
from slackwater.kit.reserved import INTERRUPT
from slackwater.postgres.pool import Database
from slackwater.runtime.events.deltas import DELTA_OF
from slackwater.runtime.events.journal import BEGINNING, Event, event_of
from slackwater.runtime.events.partials import Partials
from slackwater.runtime.queue import cancel, erasure, order
from slackwater.runtime.queue.states import ACTIVE

Row = dict[str, Any]

BACK_SECONDS = 10
"""How long a reader who was sent away is waited for: a run that ends meanwhile is shown as running."""

_AWAY = f"c.cut_at > clock_timestamp() - interval '{BACK_SECONDS} seconds'"

_SHOWN = f"""case when status not in {ACTIVE} and exists (
  select 1 from slackwater.cut_readers c where c.run_id = runs.run_id and {_AWAY}) then 'running' else status end"""

_COLUMNS = f"""run_id, thread_id, assistant_id, metadata, status, {_SHOWN} as shown_status, kwargs, multitask_strategy,
 created_at, updated_at, error, on_completion, reader_left_at"""

_GET = f"""
select {_COLUMNS} from slackwater.runs
where run_id = %(run_id)s and thread_id = %(thread_id)s and owner = %(owner)s and kind = 'run'"""


async def get(database: Database, owner: str, thread_id: UUID, run_id: UUID) -> Row | None:
    """The run, if it is the owner's and on that thread."""
    return await database.fetch_one(_GET, {"owner": owner, "thread_id": thread_id, "run_id": run_id})


_ANY = """
select run_id from slackwater.runs where run_id = any(%(run_ids)s::uuid[]) and thread_id = %(thread_id)s
  and owner = %(owner)s and kind = 'run' limit 1"""


async def any_of(database: Database, owner: str, thread_id: UUID, run_ids: list[UUID]) -> bool:
    """Whether one of the runs, at least, is the owner's and on that thread."""
    params = {"owner": owner, "thread_id": thread_id, "run_ids": run_ids}
    return await database.fetch_one(_ANY, params) is not None


def _list(shown: str) -> str:
    return f"""
select {_COLUMNS} from slackwater.runs
where thread_id = %(thread_id)s and owner = %(owner)s and kind = 'run'{shown}
order by created_at desc, seq desc limit %(limit)s offset %(offset)s"""


_LIST = _list("")

# An index has those that did not succeed, whose own status is the one that they are shown with.
_LIST_ENDED = _list(f"\nand status = %(status)s and {_SHOWN} = %(status)s")

# Of those that are shown so there are few, however many runs the thread has had.
_LIST_OPEN = f"""
select {_COLUMNS} from slackwater.runs
where thread_id = %(thread_id)s and owner = %(owner)s and kind = 'run' and {_SHOWN} = %(status)s
  and run_id = any(array(
    select o.run_id from slackwater.runs o where o.thread_id = %(thread_id)s and o.status in {ACTIVE}
    union all
    select c.run_id from slackwater.cut_readers c
    where c.cut_at > statement_timestamp() - interval '{BACK_SECONDS} seconds'))
order by created_at desc, seq desc limit %(limit)s offset %(offset)s"""

_THREAD = "select thread_id from slackwater.threads where thread_id = %(thread_id)s and owner = %(owner)s"


async def list_(
    database: Database, owner: str, thread_id: UUID, *, status: str | None, limit: int, offset: int
) -> list[Row] | None:
    """The thread's runs, newest first; None if there is no such thread."""
    params = {"owner": owner, "thread_id": thread_id, "status": status, "limit": limit, "offset": offset}
    if not await database.fetch(_THREAD, params):
        return None
    statement = _LIST if status is None else _LIST_OPEN if status in ("pending", "running") else _LIST_ENDED
    return await database.fetch_page(statement, params, limit)


_ACTIVE_OF = """
select thread_id, array_agg(run_id order by seq) as run_ids from slackwater.runs
where owner = %(owner)s and kind = 'run' and status = any(%(statuses)s)
  and (%(after)s::uuid is null or thread_id > %(after)s){more}
group by thread_id order by thread_id limit 100"""

_ACTIVE = _ACTIVE_OF.format(more="")


async def active(
    database: Database, owner: str, status: str, *, after: UUID | None, seen: Visible = OWN
) -> list[Row]:
    """A hundred threads of the owner, after the given one, with their runs in the status; `all`: pending or running.

    Only threads that are `seen`.
    """
    statuses = ["pending", "running"] if status == "all" else [status]
    params = {**seen.parameters, "owner": owner, "statuses": statuses, "after": after}
    if seen is OWN:
        return await database.fetch(_ACTIVE, params)
    more = f"\n  and thread_id in (select thread_id from slackwater.threads where {seen.condition})"
    return await database.fetch(_ACTIVE_OF.format(more=more), params)


_THREAD_SUMMARY = """
select t.status, t."values", t.interrupts, t.error from slackwater.threads t
where t.thread_id = %(thread_id)s and t.owner = %(owner)s"""


async def thread_summary(database: Database, owner: str, thread_id: UUID) -> Row | None:
    """What the thread shows: status, values, interrupts, error."""
    return await database.fetch_one(_THREAD_SUMMARY, {"owner": owner, "thread_id": thread_id})


RESULT_BYTES = 4_000_000
"""How much of a result's events is read at a time. A single event may be larger."""

_RESULT_EVENTS = f"""
select fence, seq, event, data, place < count as more from (
  select fence, seq, event, data, row_number() over log as place, count(*) over () as count,
    sum(octet_length(data)) over log as bytes
  from slackwater.run_events e where run_id = %(run_id)s and (fence, seq) > (%(fence)s, %(seq)s)
    and (event = 'error' or event in ('values', '{DELTA_OF}values', 'updates') and (data like '%%"{INTERRUPT}"%%' or (fence, seq) = (
      select l.fence, l.seq from slackwater.run_events l where l.run_id = %(run_id)s
        and l.event in ('values', '{DELTA_OF}values') order by l.fence desc, l.seq desc limit 1)))
  window log as (order by fence, seq)) e
where place = 1 or bytes <= %(bytes)s order by fence, seq"""


async def result_events(database: Database, run_id: UUID) -> AsyncGenerator[Event]:
    """The events of a finished run from which its result is made: errors, the last values, and all that may hold an interrupt."""
    partials = Partials(database, lambda: True)
    last: Mapping[str, Any] = {"fence": -1, "seq": -1, "more": True}
    while last["more"]:
        after = {"run_id": run_id, "fence": last["fence"], "seq": last["seq"], "bytes": RESULT_BYTES}
        rows = await database.fetch(_RESULT_EVENTS, after)
        events = [event_of(row) for row in rows]
        async with aclosing(partials.restored(events, run_id, RESULT_BYTES, BEGINNING)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event
        last = rows[-1] if rows else {"more": False}


_NAMED = """slackwater.runs d where d.run_id = %(run_id)s and d.thread_id = %(thread_id)s and d.owner = %(owner)s
  and d.kind = 'run'"""

# The same for each statement of the transaction, whenever the lease ends.
_LIVE = "(d.status = 'running' and d.lease_until > now())"

_DOOMED = f"{_NAMED} and not {_LIVE}"
_CHOSEN = f"(select d.run_id from {_DOOMED})"

# It wins over an earlier wish.
_WISH = f"""
update slackwater.runs r set cancel_action = 'rollback', cancel_reason = %(reason)s, updated_at = clock_timestamp(),
  cancel_at = coalesce(r.cancel_at, clock_timestamp())
from (select d.run_id from {_NAMED} and {_LIVE}) w where r.run_id = w.run_id returning r.run_id"""

# Once, however often it is asked until the run's owner has ended it.
_AUDIT = f"""
with named as (select d.run_id, d.owner from {_NAMED} and d.cancel_reason is distinct from %(reason)s),
{audited("named", AuditAction.RUN_DELETED, "run_id")} select 1"""

# A write in flight holds its run's row, is waited for here, and what it wrote is seen by the statements below.
_FIND_DOOMED = f"select d.run_id from {_DOOMED} for update"

# Each of them hangs on the row that was found: a copy's checkpoints carry the ids of its original's runs, which are no
# business of whoever names them.
_DELETE = (
    f"""with {cancel.since("checkpoints", _CHOSEN)}
           delete from checkpoints where ctid = any(array(
             select place from since where maker = run_id::text))""",
    f"""with {cancel.since("checkpoint_writes", _CHOSEN)}
           delete from checkpoint_writes where ctid = any(array(
             select place from since where {cancel.ORPHANED}))
             and not exists (select 1 from slackwater.runs r where r.thread_id = %(thread_id)s and r.holds_thread
               and r.status = 'running' and r.run_id <> %(run_id)s)""",
    order.show_graph(_CHOSEN),
    erasure.runs_and_theirs(f"r.run_id in {_CHOSEN}"),
)


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a wish to delete a run has found."""

    found: bool
    live: bool
    """It is still there: its owner has to end it first, and then deletes it."""
    next_ready: bool
    """Another run of the thread can begin now."""


async def delete(
    database: Database, owner: str, thread_id: UUID, run_id: UUID, actor: Actor = NOBODY
) -> Deleted:
    """Delete the run, its checkpoints and its events; one that is worked on as soon as its owner has ended it.

    The wish is durable. An owner that is gone does not carry it out; whoever takes the run over does.
    """
    params = {"owner": owner, "thread_id": thread_id, "run_id": run_id, "reason": cancel.DELETED}
    params |= actor.parameters
    answers = await database.answers(
        locked=(order.LOCK, params),
        audited=(_AUDIT, params),
        wished=(_WISH, params),
        found=(_FIND_DOOMED, params),
        **{f"delete_{n}": (statement, params) for n, statement in enumerate(_DELETE, 1)},
        promoted=(order.PROMOTE, params),
        offered=(order.NOTIFY, {"hint": order.HINT_WORK}),
        notified=(order.NOTIFY, {"hint": order.HINT_CANCEL}),
    )
    live = bool(answers["wished"])
    return Deleted(live or bool(answers["found"]), live, order.is_due(answers["promoted"]))


_READER = f"""
update slackwater.runs set reader_left_at = case when %(left)s then clock_timestamp() end
where run_id = %(run_id)s and status in {ACTIVE} and kwargs ->> 'on_disconnect' = 'cancel'"""


async def reader(database: Database, run_id: UUID, *, left: bool) -> None:
    """Record that the reader of an `on_disconnect=cancel` run was cut off by us, or has come back."""
    await database.execute(_READER, {"run_id": run_id, "left": left})


_LEAVE = f"""
with run as (select run_id, attempt from slackwater.runs where run_id = %(run_id)s),
cut as (
  insert into slackwater.cut_readers (run_id, reader, cut_at)
  select run_id, %(reader)s, clock_timestamp() from run
  on conflict (run_id, reader) do update set cut_at = excluded.cut_at),
gone as (
  delete from slackwater.cut_readers where (run_id, reader) in (
    select run_id, reader from slackwater.cut_readers c where not {_AWAY}
      and (run_id, reader) <> (%(run_id)s::uuid, %(reader)s::uuid) limit 100 for update skip locked))
select attempt from run"""


async def leave(database: Database, run_id: UUID, reader: UUID) -> int | None:
    """Record that a reader was sent away and is to come back; the run's attempt. Forgets those who never did."""
    row = await database.fetch_one(_LEAVE, {"run_id": run_id, "reader": reader})
    return int(row["attempt"]) if row else None


async def return_(database: Database, run_id: UUID, reader: UUID) -> None:
    """Record that a reader who was sent away is back."""
    await database.execute(
        "delete from slackwater.cut_readers where run_id = %s and reader = %s", [run_id, reader]
    )


_ANY_AWAY = f"select run_id from slackwater.cut_readers c where run_id = %s and {_AWAY} limit 1"


async def any_away(database: Database, run_id: UUID) -> bool:
    """Whether any reader was sent away, is not back, and is still waited for."""
    return await database.fetch_one(_ANY_AWAY, [run_id]) is not None
