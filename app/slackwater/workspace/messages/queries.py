"""The SQL of recorded messages. Each statement holds the owner of the thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from slackwater.postgres.pool import Database, Row

_ROW = "m.thread_id, m.run_id, m.seq, m.event_type, m.category, m.content, m.metadata, m.created_at"

_OF_RUN = """m.run_id = %(run_id)s and exists (
  select 1 from slackwater.runs r where r.run_id = %(run_id)s and r.thread_id = %(thread_id)s and r.owner = %(owner)s
    and r.kind = 'run')"""

_OF_THREAD = """m.thread_id = %(thread_id)s and exists (
  select 1 from slackwater.threads t where t.thread_id = %(thread_id)s and t.owner = %(owner)s)"""

_THREAD_OF_RUN = "select thread_id from slackwater.runs where run_id = %(run_id)s and kind = 'run'"

_RUN_IS_THERE = """
select 1 from slackwater.runs
where run_id = %(run_id)s and thread_id = %(thread_id)s and owner = %(owner)s and kind = 'run'"""

_THREAD_IS_THERE = "select 1 from slackwater.threads where thread_id = %(thread_id)s and owner = %(owner)s"

_EVENTS = f"""
select {_ROW} from slackwater.messages m
where {_OF_RUN} and (%(types)s::text[] is null or m.event_type = any(%(types)s)) and m.seq > %(after)s
order by m.seq limit %(limit)s"""

_LAST_ANSWERS = """
select l.seq from unnest(%(run_ids)s::uuid[]) as r(run_id) cross join lateral (
  select m.seq from slackwater.messages m
  where m.run_id = r.run_id and m.event_type = 'llm.ai.response' and m.metadata ->> 'caller' = 'lead_agent'
  order by m.seq desc limit 1) l"""


@dataclass(frozen=True, slots=True)
class Cut:
    """Which part of the messages is asked for, by their `seq`; the newest if neither is given."""

    limit: int
    before: int | None = None
    after: int | None = None

    @property
    def from_the_start(self) -> bool:
        """Whether it is the part that comes first after `after`, and not the last one before `before`."""
        return self.after is not None


def page_statement(of: str, cut: Cut) -> str:
    """The statement for one page and one row more, from the side where it begins."""
    after = " and m.seq > %(after)s" if cut.after is not None else ""
    before = " and m.seq < %(before)s" if cut.before is not None else ""
    return f"""
select {_ROW} from slackwater.messages m where {of} and m.category = 'message'{after}{before}
order by m.seq{"" if cut.from_the_start else " desc"} limit %(limit)s + 1"""


async def of_run(database: Database, owner: str, thread_id: UUID, run_id: UUID, cut: Cut) -> list[Row]:
    """The run's messages, and one more if there are more, in the order in which they are looked for."""
    return await _page(database, _OF_RUN, cut, owner=owner, thread_id=thread_id, run_id=run_id)


async def of_thread(database: Database, owner: str, thread_id: UUID, cut: Cut) -> list[Row]:
    """The same, of all runs of the thread."""
    return await _page(database, _OF_THREAD, cut, owner=owner, thread_id=thread_id)


async def _page(database: Database, of: str, cut: Cut, **params: Any) -> list[Row]:
    asked = {**params, "limit": cut.limit, "before": cut.before, "after": cut.after}
    return await database.fetch_page(page_statement(of, cut), asked, cut.limit)


async def events(
    database: Database,
    owner: str,
    thread_id: UUID,
    run_id: UUID,
    *,
    types: list[str] | None,
    after: int,
    limit: int,
) -> list[Row]:
    """What was recorded of the run, messages or not, in order."""
    params = {"owner": owner, "thread_id": thread_id, "run_id": run_id, "types": types, "after": after}
    return await database.fetch_page(_EVENTS, {**params, "limit": limit}, limit)


async def last_answers(database: Database, run_ids: list[UUID]) -> set[int]:
    """The `seq` of the last answer of each run."""
    return {row["seq"] for row in await database.fetch(_LAST_ANSWERS, {"run_ids": run_ids})}


async def thread_of_run(database: Database, run_id: UUID) -> UUID | None:
    """The thread of a run, whoever owns them."""
    row = await database.fetch_one(_THREAD_OF_RUN, {"run_id": run_id})
    return row["thread_id"] if row is not None else None


async def run_is_there(database: Database, owner: str, thread_id: UUID, run_id: UUID) -> bool:
    """Whether the run is the owner's and on that thread."""
    params = {"owner": owner, "thread_id": thread_id, "run_id": run_id}
    return await database.fetch_one(_RUN_IS_THERE, params) is not None


async def thread_is_there(database: Database, owner: str, thread_id: UUID) -> bool:
    """Whether the thread is the owner's."""
    return await database.fetch_one(_THREAD_IS_THERE, {"owner": owner, "thread_id": thread_id}) is not None
