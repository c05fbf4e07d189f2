"""The SQL of token counts."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from slackwater.kit.ids import uuid7
from slackwater.kit.tokens import Tokens
from slackwater.postgres.pool import Database, Row
from slackwater.runtime.queue.states import ACTIVE

_KIND = "split_part(u.caller, ':', 1)"
"""`lead_agent`, `subagent` or `middleware`."""

NO_RUN = UUID(int=0)
"""Stands for the run of a call that belongs to none."""

# The row of the whole is there even if there is nothing to add up. Runs that were deleted have ended.
_OF_THREAD = f"""
with used as (
  select u.run_id, u.model, {_KIND} as kind, u.input_tokens, u.output_tokens, u.total_tokens
  from slackwater.token_usage u left join slackwater.runs r on r.run_id = u.run_id
  where u.thread_id = %(thread_id)s and (%(active)s or r.run_id is null or r.status not in {ACTIVE})
)
select exists (select 1 from slackwater.threads t
    where t.thread_id = %(thread_id)s and t.owner = %(owner)s) as there,
  model, kind, grouping(model, kind) as of, count(distinct nullif(run_id, '{NO_RUN}')) as runs,
  coalesce(sum(input_tokens), 0)::bigint as input, coalesce(sum(output_tokens), 0)::bigint as output,
  coalesce(sum(total_tokens), 0)::bigint as total
from used group by grouping sets ((model), (kind), ())"""

OF_MODEL, OF_KIND, OF_ALL = 1, 2, 3
"""What a row adds up: SQL's `grouping(model, kind)`."""

_OF_RUNS = f"""
select r.run_id, coalesce(u.input, 0) as input, coalesce(u.output, 0) as output, coalesce(u.total, 0) as total,
  coalesce(u.calls, 0) as calls, coalesce(u.lead_agent, 0) as lead_agent, coalesce(u.subagent, 0) as subagent,
  coalesce(u.middleware, 0) as middleware, coalesce(m.messages, 0) as messages
from unnest(%(run_ids)s::uuid[]) as r(run_id)
cross join lateral (
  select sum(u.input_tokens)::bigint as input, sum(u.output_tokens)::bigint as output, sum(u.total_tokens)::bigint as total,
    count(*) as calls,
    sum(u.total_tokens) filter (where {_KIND} = 'lead_agent')::bigint as lead_agent,
    sum(u.total_tokens) filter (where {_KIND} = 'subagent')::bigint as subagent,
    sum(u.total_tokens) filter (where {_KIND} = 'middleware')::bigint as middleware
  from slackwater.token_usage u where u.run_id = r.run_id) u
cross join lateral (
  select count(*) as messages from slackwater.messages m where m.run_id = r.run_id and m.category = 'message') m"""

_BY_DAY = """
select day, model, count(*) as calls, sum(input_tokens)::bigint as input, sum(output_tokens)::bigint as output,
  sum(total_tokens)::bigint as total, sum(cached_tokens)::bigint as cached, sum(reasoning_tokens)::bigint as reasoning,
  coalesce(sum(total_tokens) filter (where repeated), 0)::bigint as repeated
from slackwater.token_usage
where owner = %(owner)s and day > (clock_timestamp() at time zone 'utc')::date - %(days)s
group by day, model order by day, model"""


async def of_thread(database: Database, owner: str, thread_id: UUID, *, active: bool) -> list[Row] | None:
    """The thread's sums, of the whole, by model and by kind of caller; None if there is no such thread."""
    params = {"owner": owner, "thread_id": thread_id, "active": active}
    rows = await database.fetch(_OF_THREAD, params)
    return rows if rows and rows[0]["there"] else None


async def of_runs(database: Database, run_ids: Collection[UUID]) -> list[Row]:
    """The sums of each run, whoever owns it."""
    return await database.fetch(_OF_RUNS, {"run_ids": list(run_ids)})


async def by_day(database: Database, owner: str, days: int) -> list[Row]:
    """The owner's sums of the last days, by day and model."""
    return await database.fetch(_BY_DAY, {"owner": owner, "days": days})


_BOOK = """
insert into slackwater.token_usage (run_id, call_id, thread_id, owner, model, caller, input_tokens, output_tokens, total_tokens,
  cached_tokens, reasoning_tokens, repeated, task, place)
select %(run_id)s, %(call_id)s, t.thread_id, t.owner, %(model)s, %(caller)s, %(input)s, %(output)s, %(total)s, %(cached)s,
  %(reasoning)s, false, '', 0
from slackwater.threads t where t.thread_id = %(thread_id)s and t.owner = %(owner)s"""


async def book(
    database: Database, owner: str, thread_id: UUID, model: str, caller: str, tokens: Tokens
) -> None:
    """Add a call outside of runs. Without the thread nothing is kept."""
    call = {"run_id": NO_RUN, "call_id": uuid7(), "owner": owner, "thread_id": thread_id}
    await database.execute(_BOOK, {**call, "model": model, "caller": caller, **tokens._asdict()})
