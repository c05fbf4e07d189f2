"""The order of a thread's runs: which one is ready to be claimed, and what the thread shows.

Each statement expects its transaction to hold the lock on the thread's row, and is idempotent. Each compares the owner:
ids come from requests, and nothing of another owner's thread may be locked or changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from slackwater.runtime.queue.states import ACTIVE

LOCK = """
select thread_id from slackwater.threads where thread_id = %(thread_id)s and owner = %(owner)s for update"""

PROMOTE = """
with holder as (
  select run_id, status from slackwater.runs where thread_id = %(thread_id)s and holds_thread
), head as (
  (select run_id from holder where status = 'pending')
  union all
  (select run_id from slackwater.runs where thread_id = %(thread_id)s and status = 'pending'
     and not exists (select 1 from holder) order by available_at, seq limit 1)
), concerned as (
  -- However long the queue is, only these can change.
  select run_id from head
  union
  select run_id from slackwater.runs where thread_id = %(thread_id)s and ready
)
update slackwater.runs r set ready = not r.ready
from concerned c
where r.run_id = c.run_id and r.owner = %(owner)s and r.ready <> (r.run_id in (select run_id from head))
returning r.ready, r.available_at <= clock_timestamp() as due"""
"""Makes the thread's next run ready, and no other.

A run that has started keeps its thread until it ends, even while it is shown as pending: a younger run that slipped in
between would move the thread's head, and the older one would resume as a no-op.
"""

LOCKED = "(select current_setting('slackwater.locked')::uuid[])::uuid[]"
"""The threads that LOCK_FREE has locked; evaluated once per statement."""

LOCK_FREE = """
select set_config('slackwater.locked', coalesce(array_agg(thread_id), '{}')::text, true) from (
  select thread_id from slackwater.threads where thread_id = any(%(threads)s::uuid[]) and owner = %(owner)s
  for update skip locked) t"""
"""LOCK for several threads, without those that are locked already. The rest of the transaction knows them as LOCKED."""

PROMOTE_LOCKED = f"""
with head as (
  select h.run_id from unnest({LOCKED}) as t(thread_id) cross join lateral (
    (select r.run_id from slackwater.runs r where r.thread_id = t.thread_id and r.holds_thread and r.status = 'pending')
    union all
    (select r.run_id from slackwater.runs r where r.thread_id = t.thread_id and r.status = 'pending'
       and (select true from slackwater.runs h where h.thread_id = t.thread_id and h.holds_thread) is null
     order by r.available_at, r.seq limit 1)) h
), concerned as (
  select run_id from head
  union
  select r.run_id from unnest({LOCKED}) as t(thread_id) cross join lateral (
    select run_id from slackwater.runs r where r.thread_id = t.thread_id and r.ready offset 0) r
)
update slackwater.runs r set ready = not r.ready
from concerned c
where r.run_id = c.run_id and r.owner = %(owner)s and r.ready <> (r.run_id in (select run_id from head))
returning r.ready, r.available_at <= clock_timestamp() as due"""
"""PROMOTE for the threads that LOCK_FREE has locked."""

READY = """
select exists (select 1 from slackwater.runs
  where thread_id = %(thread_id)s and ready and available_at <= clock_timestamp()) as ready"""
"""Whether the thread's next run can be claimed."""

DONE_NOW = "xmin = pg_current_xact_id_if_assigned()::xid"
"""This transaction has written the row. Statements after a compare-and-set require it: when the transaction is sent again,
they must not overwrite what has happened since."""


def is_due(promoted: Iterable[Mapping[str, Any]]) -> bool:
    """Whether PROMOTE has returned a run that can be claimed now, so that a worker has to be woken."""
    return any(row["ready"] and row["due"] for row in promoted)


def show_graph(gone: str) -> str:
    """Makes the thread be read through the graph of the last run before those that `gone` selects, which are to be deleted."""
    return f"""
update slackwater.threads t set config = slackwater.thread_config(l.kwargs),
  metadata = t.metadata || jsonb_build_object('graph_id', l.graph_id, 'assistant_id', l.assistant_id)
from (
  select r.graph_id, r.assistant_id, r.kwargs from slackwater.runs r
  where r.thread_id = %(thread_id)s and r.owner = %(owner)s and r.kind = 'run' and r.attempt > 0
    and r.run_id not in (select x.run_id from {gone} x) order by r.fence desc limit 1) l
where t.thread_id = %(thread_id)s and t.owner = %(owner)s and exists (select 1 from {gone} x)"""


THREAD_BUSY = f"""exists (
 select 1 from slackwater.runs a where a.thread_id = %(thread_id)s and a.status in {ACTIVE})"""

NOTIFY = "select pg_notify('slackwater', %(hint)s)"
"""A hint for other processes. It may be lost: only the rows count."""

HINT_WORK = "work"
HINT_CANCEL = "cancel"
