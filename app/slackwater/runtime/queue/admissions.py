"""Admits several runs on new or idle threads with one statement, which also claims them.

It never waits for a run, and for a thread only while somebody else creates it. A run that is missing from the response is
admitted alone (`admission`), which also settles the case that only the response was lost: the run's id is known beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from slackwater.postgres.arrays import BoolArray, FloatArray, JsonbArray, TextArray, UuidArray
from slackwater.postgres.group_commit import GroupCommit, Kind
from slackwater.postgres.pool import Database
from slackwater.runtime.queue import admission
from slackwater.runtime.queue.admission import (
    NEW_RUN,
    RUN_ROW,
    Admitted,
    NewRun,
    admitted,
    as_asked,
    occupied,
    parameters,
    thread_config,
)
from slackwater.runtime.queue.claims import FIRST_FENCE, NEXT_FENCE
from slackwater.runtime.queue.limits import UNLIMITED, Limits, has_own
from slackwater.runtime.queue.many import UNCHANGED, Asked, dumped, of_each
from slackwater.runtime.queue.states import ACTIVE

_ASKED = Asked(
    {
        **dict.fromkeys(("run_id", "thread_id", "assistant_id"), UuidArray),
        **dict.fromkeys(("owner", "graph_id", "strategy", "on_completion", "worker"), TextArray),
        **dict.fromkeys(("kwargs", "metadata", "assistant_metadata", "graph_metadata"), JsonbArray),
        **dict.fromkeys(("thread_metadata", "thread_configurable", "assistant_configurable"), JsonbArray),
        **dict.fromkeys(("claim", "create_thread", "hidden"), BoolArray),
        **dict.fromkeys(("lease", "ttl_minutes"), FloatArray),
        "ttl_strategy": TextArray,
    }
)

_ADMIT = f"""
with {_ASKED.cte}, wanted as materialized (
  -- One on each thread, and in the order in which everybody makes threads.
  select distinct on (a.thread_id) a.* from asked a where not {has_own("a.owner")} order by a.thread_id, a.n
), made as (
  insert into slackwater.threads as t
    (thread_id, owner, metadata, config, hidden, ttl_minutes, ttl_strategy, status, fence)
  select a.thread_id, a.owner, a.thread_metadata, case when a.claim then {thread_config(of_each)} else '{{}}' end, a.hidden,
    a.ttl_minutes, a.ttl_strategy, 'busy',
    case when a.claim then slackwater.next_fence({FIRST_FENCE}, slackwater.epoch()) else {FIRST_FENCE} end
  from wanted a where a.create_thread order by a.thread_id
  on conflict (thread_id) do nothing returning t.thread_id, t.metadata, t.fence as next_fence
), idle as materialized (
  select a.thread_id, t.metadata, t.next_fence from wanted a cross join lateral (
    select t.metadata, {NEXT_FENCE} as next_fence, t.xmin as version from slackwater.threads t
    where t.thread_id = a.thread_id and t.owner = a.owner for update skip locked) t
  where {UNCHANGED}
    and not exists (select 1 from slackwater.runs o where o.thread_id = a.thread_id
      and o.status in {ACTIVE})
), admitted as (
  insert into slackwater.runs as r ({NEW_RUN}, ready)
  select {as_asked(of_each)}, not s.start
  from (select * from made union all select * from idle) t join wanted a using (thread_id),
    lateral (select false as busy) active, lateral (select clock_timestamp() as due, a.claim as start) s
  returning {RUN_ROW}
), occupied as (
  -- Those that were made only now are not there yet for this statement.
  update slackwater.threads t set {occupied(of_each)}
  from admitted r join wanted a using (run_id)
  where t.thread_id = any(array(select i.thread_id from idle i)) and t.thread_id = r.thread_id
)
select a.n::int, r.* from admitted r join wanted a using (run_id)"""


ADMISSIONS: Kind[Mapping[str, Any]] = Kind(
    "admission",
    statement=lambda asked: (_ADMIT, _ASKED.parameters(asked)),
    bytes_of=lambda asked: len(asked["kwargs"]) + len(asked["metadata"]) + len(asked["thread_metadata"]),
)
"""Returns a row `n` for each admitted run, with its RUN_ROW. An item has the `dumped` parameters of an admission."""


async def admit(
    database: Database,
    group: GroupCommit,
    new: NewRun,
    *,
    worker: str,
    claim: bool,
    lease_seconds: float,
    limits: Limits = UNLIMITED,
) -> Admitted:
    """As `admission.admit`, in a statement shared with other runs where possible."""
    alone = partial(
        admission.admit,
        database,
        new,
        worker=worker,
        claim=claim,
        lease_seconds=lease_seconds,
        limits=limits,
    )
    if not _is_plain(new, limits):
        return await alone()
    asked = parameters(new, worker=worker, claim=claim, lease_seconds=lease_seconds, limits=limits)
    sent = time.monotonic()
    row = await group.send(ADMISSIONS, dumped(asked))
    if row is None:
        return await alone(unsure=True)
    row = {**row, "worker": worker}
    return admitted(row, worker=worker, sent=sent, lease_left=lease_seconds)


def _is_plain(new: NewRun, limits: Limits) -> bool:
    """Whether the admission depends on nothing but the thread."""
    return (
        new.idempotency_key is None
        and new.condition is None
        and new.after_seconds <= 0
        and limits == UNLIMITED
    )
