"""The SQL of feedback. Each statement holds the owner of the run, as the caller reads it, and the caller, who gave it."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database, Row

MOST = 100
"""How many rows a list has."""

_COLUMNS = "f.feedback_id, f.run_id, f.thread_id, f.owner, f.message_id, f.rating, f.comment, f.created_at"

_RUN = """slackwater.runs r
where r.run_id = %(run_id)s and r.thread_id = %(thread_id)s and r.owner = %(owner)s and r.kind = 'run'"""

# Whoever says it twice at the same time has said it once.
_GIVE = f"""
insert into slackwater.feedback as f (feedback_id, run_id, thread_id, owner, message_id, rating, comment)
select %(feedback_id)s, r.run_id, r.thread_id, %(caller)s, %(message_id)s, %(rating)s, %(comment)s from {_RUN}
on conflict (run_id, owner, message_id) do update
  set rating = excluded.rating, comment = excluded.comment, created_at = clock_timestamp()
returning {_COLUMNS}"""

_LIST = f"""
select {_COLUMNS} from slackwater.feedback f
where f.run_id = %(run_id)s and f.owner = %(caller)s and exists (select 1 from {_RUN})
order by f.created_at, f.feedback_id limit {MOST}"""

_STATS = f"""
select count(f.*) as total, count(f.*) filter (where f.rating = 1) as positive,
  count(f.*) filter (where f.rating = -1) as negative
from (select r.run_id from {_RUN}) r left join slackwater.feedback f on f.run_id = r.run_id group by r.run_id"""

_TAKE_BACK = f"""
delete from slackwater.feedback f
where f.run_id = %(run_id)s and f.owner = %(caller)s and exists (select 1 from {_RUN})
  and (%(feedback_id)s::uuid is null or f.feedback_id = %(feedback_id)s)"""

_OF_RUNS = f"""
select {_COLUMNS} from slackwater.feedback f where f.run_id = any(%(run_ids)s::uuid[]) and f.owner = %(caller)s"""


class RatedRun(NamedTuple):
    """A run, as whom the caller reads it, and the caller."""

    thread_id: UUID
    run_id: UUID
    owner: str
    caller: str


async def give(
    database: Database, place: RatedRun, *, rating: int, comment: str | None, message_id: str | None
) -> Row | None:
    """Add or replace what the caller says; None if there is no such run."""
    said = {"rating": rating, "comment": comment, "message_id": message_id, "feedback_id": uuid7()}
    return await database.fetch_one(_GIVE, {**place._asdict(), **said})


async def list_(database: Database, place: RatedRun) -> list[Row]:
    """What the caller has said of the run, in order."""
    return await database.fetch(_LIST, place._asdict())


async def stats(database: Database, place: RatedRun) -> Row | None:
    """How many have said what of the run, whoever they are; None if there is no such run."""
    return await database.fetch_one(_STATS, place._asdict())


async def take_back(database: Database, place: RatedRun, feedback_id: UUID | None) -> bool:
    """Delete one of the caller's rows, or all that are of the run; whether there was one."""
    return await database.execute(_TAKE_BACK, {**place._asdict(), "feedback_id": feedback_id}) > 0


async def of_runs(database: Database, run_ids: Collection[UUID], caller: str) -> list[Row]:
    """What the caller has said of these runs, which they may see."""
    return await database.fetch(_OF_RUNS, {"run_ids": list(run_ids), "caller": caller})
