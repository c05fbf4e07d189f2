"""Deletes what is kept for a limited time, a bounded number of rows at a time.

Marking a run as trimmed hides all its events from readers at once, so that a reader gets every event or a gap. The rows are
deleted after that.
"""

from __future__ import annotations

from slackwater.postgres.pool import Database
from slackwater.runtime.queue import pruning
from slackwater.runtime.queue.batch import Batch
from slackwater.runtime.queue.states import KEYS_KEPT

RUNS = 200
"""How many runs one statement trims or examines."""

_MARKED = f"""order by {{order}} limit {RUNS} for no key update skip locked
)
update slackwater.runs r set trimmed = 'hidden' from old where r.run_id = old.run_id returning r.run_id"""

_MARK_OLD = f"""
with old as (
  select run_id from slackwater.runs
  where trimmed is null and ended_at < now() - make_interval(secs => %(seconds)s) {_MARKED.format(order="ended_at")}"""

_MARK_DUE = f"""
with old as (
  select run_id from slackwater.runs where trimmed is null and delete_at < now() {_MARKED.format(order="delete_at")}"""

# By `ctid`, which stays valid since events are never updated.
_WIPE = f"""
with old as (
  select run_id from slackwater.runs where trimmed = 'hidden'
  order by ended_at limit {RUNS} for no key update skip locked
), gone as (
  delete from slackwater.run_events where ctid = any(array(
    select e.ctid from old cross join lateral (
      select ctid from slackwater.run_events e where e.run_id = old.run_id order by fence, seq limit %(limit)s) e
    limit %(limit)s)) returning 1
)
select array(select run_id from old) as runs, (select count(*) from gone) as events"""

_WIPED = """
update slackwater.runs r set trimmed = 'gone'
where r.run_id = any(%(runs)s::uuid[]) and r.trimmed = 'hidden'
  and not exists (select 1 from slackwater.run_events e where e.run_id = r.run_id)"""

# Separately, since state updates belong to no run.
_TRIM_STATES = """
delete from slackwater.run_events where ctid = any(array(
  select ctid from slackwater.run_events where event = 'state_update'
    and created_at < now() - make_interval(secs => %(seconds)s) order by created_at limit %(limit)s))"""

# Not in their order: rows of about the same time are stored together, which is what the index knows.
_TRIM_MESSAGES = """
delete from slackwater.messages where ctid = any(array(
  select ctid from slackwater.messages where created_at < now() - make_interval(secs => %(days)s * 86400) limit %(limit)s))"""

_TRIM_KEYS = f"""
delete from slackwater.idempotency_keys where ctid = any(array(
  select ctid from slackwater.idempotency_keys where created_at < now() - {KEYS_KEPT}
  order by created_at limit %(limit)s))"""

_TRIM_ITEMS = """
with old as (
  select prefix, key from store where expires_at < now() order by expires_at limit %(limit)s for update skip locked
)
delete from store s using old where s.prefix = old.prefix and s.key = old.key"""


async def trim_events(database: Database, seconds: float, batch: Batch) -> None:
    """Delete the events of runs that ended more than `seconds` ago, and the events of state updates of that age."""
    while len(await database.fetch(_MARK_OLD, {"seconds": seconds})) == RUNS:
        await _wipe(database, batch)
    await _wipe(database, batch)
    await _repeat(database, _TRIM_STATES, batch, seconds=seconds)


async def delete_runs(database: Database, runs: Batch, events: Batch) -> None:
    """Delete stateless runs that are due, events first: there may be any number of them."""
    while len(await database.fetch(_MARK_DUE)) == RUNS:
        await _wipe(database, events)
    await _wipe(database, events)
    while True:
        with runs.sized() as limit:
            gone = await pruning.delete_due(database, limit)
        if gone < limit:
            return


async def trim_messages(database: Database, days: float, batch: Batch) -> None:
    """Delete recorded messages that are older than so many days."""
    await _repeat(database, _TRIM_MESSAGES, batch, days=days)


async def trim_keys(database: Database, batch: Batch) -> None:
    """Delete idempotency keys that have expired."""
    await _repeat(database, _TRIM_KEYS, batch)


async def trim_items(database: Database, batch: Batch) -> None:
    """Delete items of the store that have expired."""
    await _repeat(database, _TRIM_ITEMS, batch)


async def _wipe(database: Database, batch: Batch) -> None:
    """Delete the events of trimmed runs."""
    while True:
        with batch.sized() as limit:
            (found,) = await database.fetch(_WIPE, {"limit": limit})
        if not found["runs"]:
            return
        done = await database.execute(_WIPED, {"runs": found["runs"]})
        if not done and not found["events"]:
            return  # another process is deleting them


async def _repeat(database: Database, statement: str, batch: Batch, **params: float) -> None:
    while True:
        with batch.sized() as limit:
            gone = await database.execute(statement, {**params, "limit": limit})
        if gone < limit:
            return
