"""What a command has to know of its thread. Each statement holds the owner; what another owns is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from slackwater.kit.reserved import INTERRUPT
from slackwater.postgres.pool import Database
from slackwater.runtime.events.journal import EventId
from slackwater.runtime.queue.states import ACTIVE

LAST_EVENTS = 200
"""Among so many of a run's last events a question is looked for that its thread does not show yet."""

_BUSY: LiteralString = f"""exists (select 1 from slackwater.runs r
 where r.thread_id = %(thread_id)s and r.run_id is distinct from %(run_id)s::uuid and r.status in {ACTIVE})"""

_IDS: LiteralString = """coalesce((select array_agg(i ->> 'id') from jsonb_each(t.interrupts) x,
 jsonb_array_elements(x.value) i), '{}')"""

_LOOK: LiteralString = f"""
select t.metadata ->> 'assistant_id' as assistant_id, {_IDS} as interrupts, {_BUSY} as busy,
  exists (
    select 1 from slackwater.runs r, lateral (
      select e.event, e.data from slackwater.run_events e where e.run_id = r.run_id
       order by e.fence desc, e.seq desc limit {LAST_EVENTS}) e
     where r.thread_id = t.thread_id and r.status in {ACTIVE} and r.fence > 0
       and (e.event like 'values%%' or e.event like 'updates%%') and e.data like '%%"{INTERRUPT}":[{{%%'
  ) as asking
  from slackwater.threads t where t.thread_id = %(thread_id)s and t.owner = %(owner)s"""

_STILL: LiteralString = f"""
select 1 as one where not exists (
  select 1 from slackwater.threads t where t.thread_id = %(thread_id)s and t.owner = %(owner)s
     and ({_BUSY} or not {_IDS} @> %(ids)s::text[] or (%(ids)s::text[] = '{{}}' and {_IDS} <> '{{}}')))"""
# A thread that is not there for this owner is refused by the admission itself.

_NEWEST: LiteralString = f"""
select e.first, e.last, r.status not in {ACTIVE} as over
  from slackwater.threads t
  join lateral (
    select * from slackwater.runs r
     where r.thread_id = t.thread_id and r.kind = 'run' and r.fence > 0 order by r.fence desc limit 1) r on true
  join lateral (
    select min(e.fence) as first, (select x.fence || '-' || x.seq from slackwater.run_events x
      where x.run_id = r.run_id order by x.fence desc, x.seq desc limit 1) as last
      from slackwater.run_events e where e.run_id = r.run_id) e on e.last is not null
 where t.thread_id = %(thread_id)s and t.owner = %(owner)s"""


@dataclass(frozen=True, slots=True)
class CommandTarget:
    """Where a thread stands, as far as a command is concerned."""

    assistant_id: str | None
    interrupts: frozenset[str]
    """The ids of the questions that its newest state waits with."""
    busy: bool
    """A run waits for it, or works on it."""
    asking: bool
    """Its run has said a question, and is about to stop with it."""


async def look(database: Database, owner: str, thread_id: UUID) -> CommandTarget | None:
    """None if there is no such thread."""
    row = await database.fetch_one(_LOOK, {"thread_id": thread_id, "owner": owner, "run_id": None})
    if row is None:
        return None
    return CommandTarget(row["assistant_id"], frozenset(row["interrupts"]), row["busy"], row["asking"])


def still(
    owner: str, thread_id: UUID, run_id: UUID, interrupts: Sequence[str]
) -> tuple[str, Mapping[str, Any]]:
    """What must hold in the transaction that admits a run: nothing but it is there, and these questions wait.

    With none of them: none waits.
    """
    return _STILL, {"owner": owner, "thread_id": thread_id, "run_id": run_id, "ids": list(interrupts)}


async def newest_run(database: Database, owner: str, thread_id: UUID) -> tuple[EventId, EventId] | None:
    """Where the log of the thread's newest run begins, and where it ends for now; None if there is no such log."""
    row = await database.fetch_one(_NEWEST, {"thread_id": thread_id, "owner": owner})
    if row is None:
        return None
    last = EventId.parse(row["last"])
    assert last is not None
    return EventId(row["first"], 0), EventId(last.fence, last.seq + int(row["over"]))
