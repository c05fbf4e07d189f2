"""Runs that are settled without anybody who has worked on them."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from rig import Fleet, new_run

from slackwater.runtime.events.journal import Event, EventId
from slackwater.runtime.fenced.records import Records, Rows, SaidMessage, Tokens, Usage
from slackwater.runtime.fenced.settlement import End, HandOver, ThreadFacts, Whose
from slackwater.runtime.queue import admission
from slackwater.runtime.queue.claims import ClaimedRun
from slackwater.runtime.queue.states import RunStatus, Stopped

IDLE = ThreadFacts("idle", b'{"log": ["said", "\\u00fc"]}')


async def claimed(fleet: Fleet, worker: str = "w", **options: Any) -> ClaimedRun:
    """A run that `worker` has claimed with its admission."""
    new = new_run("line", **options)
    admitted = await admission.admit(fleet.database, new, worker=worker, claim=True, lease_seconds=60)
    assert admitted.claimed is not None
    return admitted.claimed


async def waits(fleet: Fleet, thread_id: UUID) -> UUID:
    """Another run, which waits on the thread."""
    new = new_run("line", thread_id=thread_id)
    await admission.admit(fleet.database, new, worker="w", claim=False, lease_seconds=60)
    return new.run_id


def _whose(run: ClaimedRun, said: int, checkpoint_id: str | None) -> Whose:
    return Whose(
        run.run_id,
        run.thread_id,
        run.owner,
        run.fence,
        run.lease.worker,
        events=[Event(EventId(run.fence, n), "values", b'{"n": %d}' % n) for n in range(1, said + 1)],
        checkpoint_id=checkpoint_id,
        records=_records(run, said),
    )


def _records(run: ClaimedRun, said: int) -> Rows:
    """So many messages, each of which has cost something."""
    records = Records(run.thread_id, run.run_id, run.owner, run.fence)
    for place in range(said):
        records.say((), SaidMessage("llm.ai.response", "message", b'{"n": %d}' % place, b"{}"))
        call = uuid5(run.run_id, str(place))
        records.book(Usage(call, "m", "lead_agent", Tokens(2, 1, 3), False, "task", place))
    return records.last(ends=True)


def end_of(
    run: ClaimedRun,
    facts: ThreadFacts = IDLE,
    status: RunStatus = RunStatus.SUCCESS,
    said: int = 2,
    checkpoint_id: str | None = None,
    reason: str | None = None,
) -> End:
    """How the run ends, with the last `said` events."""
    last = f"{run.fence}-{said}" if said else None
    return End(_whose(run, said, checkpoint_id), status, facts, last, reason)


def hand_over_of(
    run: ClaimedRun,
    said: int = 1,
    stopped: Stopped = Stopped.DRAINED,
    max_handovers: int = 1000,
    checkpoint_id: str | None = None,
) -> HandOver:
    """How the run is handed over, with the last `said` events."""
    return HandOver(_whose(run, said, checkpoint_id), stopped, "SIGTERM", max_handovers, "a")
