"""Admits a new run: one transaction, one round trip.

It applies the multitask strategy, inserts the run, cancels the runs that it displaces, and claims the run as well if the
thread is free and this process has room. Nothing is visible before it commits; a failure leaves nothing behind.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from psycopg.errors import CheckViolation, DivisionByZero, UniqueViolation
from psycopg.types.json import Jsonb

from slackwater.errors import Conflict, NotFound, ThreadBusy, TooManyRuns
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.pool import Database, Row, Statement
from slackwater.postgres.retry import retrying
from slackwater.runtime.queue import cancel, order
from slackwater.runtime.queue.cancel import CancelWish
from slackwater.runtime.queue.claims import NEXT_FENCE, RUN_COLUMNS, ClaimedRun
from slackwater.runtime.queue.limits import UNLIMITED, Limits, limit_of
from slackwater.runtime.queue.many import Of, of_one
from slackwater.runtime.queue.states import ACTIVE, KEYS_KEPT


class RunForgotten(Conflict):
    """The run of this Idempotency-Key has ended and was deleted since. Use another key to start a new one."""


class Overtaken(Conflict):
    """The state that the run was to follow has changed; nothing was admitted."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A validated request for a run. `assistant_*` come from the assistant."""

    run_id: UUID
    thread_id: UUID
    owner: str
    assistant_id: UUID
    graph_id: str
    kwargs: Mapping[str, Any]
    metadata: Mapping[str, Any]
    """Merged from config and body, in this order; it overrides the thread's and the assistant's."""
    assistant_metadata: Mapping[str, Any]
    assistant_configurable: Mapping[str, Any]
    multitask_strategy: str = "enqueue"
    after_seconds: float = 0.0
    create_thread: bool = False
    on_completion: str | None = None
    """Set for stateless runs, whose thread is hidden: `delete` or `keep`."""
    idempotency_key: str | None = None
    of_the_request: frozenset[str] = frozenset()
    """Keys of `configurable` that belong to this request only: the thread does not keep them for later runs."""
    ttl: tuple[float | None, str | None] = (None, None)
    """Minutes and strategy for a thread that is created for this run."""
    condition: tuple[str, Mapping[str, Any]] | None = None
    """The last statement of the transaction, `… returning`: unless it returns a row, nothing is admitted (Overtaken).
    It takes effect even if there is no such thread, or the thread is busy."""

    @property
    def graph(self) -> Mapping[str, str]:
        """What the metadata of its thread say of it."""
        return {"graph_id": self.graph_id, "assistant_id": str(self.assistant_id)}


@dataclass(frozen=True, slots=True)
class Admitted:
    """An admitted run. `row` is its row; `claimed` is set if this process owns it already.

    `next_ready`: a run of the thread can be claimed now, and no worker has been notified yet.
    """

    row: Mapping[str, Any]
    claimed: ClaimedRun | None
    displaced: Mapping[UUID, CancelWish] = field(default_factory=dict)
    """Running runs that must stop, and the wish in their rows: an earlier wish wins."""
    next_ready: bool = False
    repeated: bool = False
    """It is the run of an earlier request with the same idempotency key."""


RUN_ROW = f"""{RUN_COLUMNS}, r.status, r.multitask_strategy, r.updated_at, r.available_at"""

_FIND_THREAD = """
select thread_id from slackwater.threads where thread_id = %(thread_id)s and owner = %(owner)s for update"""

_MAKE_THREAD = """
insert into slackwater.threads (thread_id, owner, metadata, hidden, ttl_minutes, ttl_strategy)
values (%(thread_id)s, %(owner)s, %(thread_metadata)s, %(hidden)s, %(ttl_minutes)s, %(ttl_strategy)s)
on conflict (thread_id) do update set updated_at = threads.updated_at where threads.owner = excluded.owner
returning thread_id"""


# Divides by zero if the condition returns no row, which fails the transaction without a round trip to check.
def _require(condition: str) -> str:
    return f"with required as ({condition}) select 1 / count(*) from required"


NEW_RUN = """run_id, thread_id, owner, assistant_id, graph_id, multitask_strategy, on_completion, metadata, kwargs,
  created_at, available_at, status, holds_thread, worker, lease_until, fence, epoch, attempt, claimed_at, started_at,
  base_checkpoint_id"""


def as_asked(of: Of) -> str:
    """The values for `NEW_RUN`; needs the thread's `t.metadata` and `t.next_fence`, `active.busy`, `s.due` (when it may
    start) and `s.start` (whether it starts here now)."""
    return f"""{of("run_id")}, {of("thread_id")}, {of("owner")}, {of("assistant_id")}, {of("graph_id")}, {of("strategy")}, {of("on_completion")},
  {of("assistant_metadata")}::jsonb || t.metadata
    || case when active.busy then '{{}}' else {of("graph_metadata")}::jsonb end || {of("metadata")}::jsonb,
  jsonb_set({of("kwargs")}::jsonb, '{{config,configurable}}', {of("assistant_configurable")}::jsonb
    || coalesce({of("kwargs")}::jsonb #> '{{config,configurable}}', '{{}}')),
  s.due, s.due,
  case when s.start then 'running' else 'pending' end, s.start,
  case when s.start then {of("worker")} end,
  case when s.start then clock_timestamp() + make_interval(secs => {of("lease")}) end,
  case when s.start then t.next_fence else 0 end, case when s.start then slackwater.epoch() else 0 end, s.start::int,
  case when s.start then clock_timestamp() end, case when s.start then clock_timestamp() end,
  case when s.start then (select max(k.checkpoint_id) from checkpoints k
    where k.thread_id = {of("thread_id")}::uuid::text and k.checkpoint_ns = '') end"""


_MAX_RUNNING = limit_of("running", "%(owner)s", "%(max_running)s")
_MAX_PENDING = limit_of("pending", "%(owner)s", "%(max_pending)s")

_INSERT = f"""
with thread as (
  select t.*, {NEXT_FENCE} as next_fence from slackwater.threads t
  where thread_id = %(thread_id)s and owner = %(owner)s
), active as (
  select exists (select 1 from slackwater.runs
    where thread_id = %(thread_id)s and status in {ACTIVE}) as busy
)
insert into slackwater.runs as r ({NEW_RUN})
select {as_asked(of_one)}
from thread t, active,
  lateral (select clock_timestamp() + make_interval(secs => %(after)s) as due,
    %(claim)s and not active.busy and (m.most is null or slackwater.room_of(%(owner)s, m.most) > 0) as start
    from (select {_MAX_RUNNING} as most) m) s
where %(strategy)s <> 'reject' or not active.busy
returning {RUN_ROW}"""


def thread_config(of: Of) -> str:
    """The config with which the thread is read after the run."""
    return f"jsonb_build_object('configurable', {of('assistant_configurable')}::jsonb || {of('thread_configurable')}::jsonb)"


def occupied(of: Of) -> str:
    """The columns to set on thread `t` when run `r` is admitted. `updated_at` is always written, so that a statement which
    sees the row unchanged has seen all of the thread's runs (`settlements`)."""
    # A thread is read through the graph of the last run that started on it, or of a waiting run if there was none before.
    # `config` is what that graph is built with for readers. Runs do not inherit it.
    return f"""metadata = case when r.status = 'running' or not t.metadata ? 'graph_id'
    then t.metadata || {of("graph_metadata")} else t.metadata end,
  config = case when r.status = 'running' or not t.metadata ? 'graph_id' then {thread_config(of)} else t.config end,
  status = 'busy', updated_at = clock_timestamp(),
  fence = case when r.status = 'running' then r.fence else t.fence end,
  epoch = case when r.status = 'running' then slackwater.epoch() else t.epoch end"""


_OCCUPY = f"""
update slackwater.threads t set {occupied(of_one)}
from slackwater.runs r
where t.thread_id = %(thread_id)s and r.run_id = %(run_id)s"""

# Always the first lock: its holder may wait for a thread, but the holder of a thread never waits for it.
_LOCK_OWNER = f"""
select slackwater.lock_owner(%(owner)s) where {_MAX_RUNNING} is not null or {_MAX_PENDING} is not null"""

_REQUIRE_ROOM = f"""
select slackwater.require_waiting_room(%(owner)s, %(run_ids)s::uuid[], m.most)
from (select {_MAX_PENDING} as most) m where m.most is not null"""
_PENDING_LIMIT = "runs_pending_per_owner"

_REMEMBER_KEY = """
insert into slackwater.idempotency_keys (owner, key, run_id)
select r.owner, %(key)s, r.run_id from slackwater.runs r where r.run_id = %(run_id)s"""

_FORGET_KEY = f"""
delete from slackwater.idempotency_keys
where owner = %(owner)s and key = %(key)s and created_at < clock_timestamp() - {KEYS_KEPT}"""

_FIND_RUNS = f"""
select {RUN_ROW}, r.worker, extract(epoch from r.lease_until - clock_timestamp())::float as lease_left
from slackwater.runs r where r.run_id = any(%(run_ids)s)"""

_KNOW_KEY = "select run_id from slackwater.idempotency_keys where owner = %(owner)s and key = %(key)s"

_FIND_KEY = f"""
select {RUN_ROW} from slackwater.idempotency_keys k join slackwater.runs r using (run_id)
where k.owner = %(owner)s and k.key = %(key)s"""


async def admit(
    database: Database,
    new: NewRun,
    *,
    worker: str,
    claim: bool,
    lease_seconds: float,
    limits: Limits = UNLIMITED,
    unsure: bool = False,
) -> Admitted:
    """Insert the run, or return the one that was created with the same idempotency key.

    `unsure`: an earlier statement, whose response was lost, may have admitted this run or may still do so.

    With `claim` the run starts here at once if it is due and its thread is free. Raises ThreadBusy
    (`multitask_strategy=reject`), NotFound (no such thread of this owner), TooManyRuns and Overtaken.
    """
    if new.idempotency_key is not None and (known := await earlier(database, new.owner, new.idempotency_key)):
        return known
    params = parameters(
        new, worker=worker, claim=claim and new.after_seconds <= 0, lease_seconds=lease_seconds, limits=limits
    )
    locks, requires = _limited(limits, new.owner, [new.run_id])
    statements: dict[str, Statement] = {
        **locks,
        "thread": (_MAKE_THREAD if new.create_thread else _FIND_THREAD, params),
    }
    displaces = new.multitask_strategy in ("interrupt", "rollback")
    if displaces:
        statements |= cancel.displace(params)
    statements |= {
        "inserted": (_INSERT, params),
        "occupied": (_OCCUPY, params),
        "promoted": (order.PROMOTE, params),
    }
    if new.idempotency_key is not None:
        statements["remembered"] = (_REMEMBER_KEY, params)
    if new.condition is not None:
        condition, values = new.condition
        statements["required"] = (_require(condition), values)
    statements |= requires
    sending = _Sending(database, statements, [new.run_id], lease_seconds, unsure=unsure)
    try:
        answers = await sending.answers()
    except UniqueViolation:
        if new.idempotency_key is not None and (
            known := await earlier(database, new.owner, new.idempotency_key)
        ):
            return known
        raise
    except CheckViolation as problem:
        raise _refusal(problem) from None
    except DivisionByZero:
        if new.condition is None:
            raise
        raise Overtaken from None
    if sending.rows:
        return sending.admitted(sending.rows[0], worker)
    if not answers["thread"]:
        raise NotFound("Thread or assistant not found.")
    if not answers["inserted"]:
        # The thread may be busy with this very run, sent before, or with the same request, delivered twice at once.
        if sending.unsure and await sending.look():
            return sending.admitted(sending.rows[0], worker)
        if new.idempotency_key is not None and (
            known := await earlier(database, new.owner, new.idempotency_key)
        ):
            return known
        raise ThreadBusy
    wished = answers["wished"] if displaces else []
    displaced = {r["run_id"]: CancelWish.of(r) for r in wished if r["status"] == "running"}
    ours = sending.admitted({**answers["inserted"][0], "worker": worker}, worker)
    return replace(ours, displaced=displaced, next_ready=order.is_due(answers["promoted"]))


async def admit_batch(
    database: Database,
    news: Sequence[NewRun],
    *,
    worker: str,
    claims: int,
    lease_seconds: float,
    limits: Limits = UNLIMITED,
) -> list[Admitted]:
    """Insert runs of one owner, each on a new thread; those of the first `claims` that are due start here at once.

    One transaction: all or none. Raises TooManyRuns.
    """
    locks, requires = _limited(limits, news[0].owner, [new.run_id for new in news])
    statements: dict[str, Statement] = {**locks}
    for n, new in enumerate(news):
        claim = n < claims and new.after_seconds <= 0
        params = parameters(new, worker=worker, claim=claim, lease_seconds=lease_seconds, limits=limits)
        statements |= {
            f"thread_{n}": (_MAKE_THREAD, params),
            f"inserted_{n}": (_INSERT, params),
            f"occupied_{n}": (_OCCUPY, params),
            f"promoted_{n}": (order.PROMOTE, params),
        }
    statements |= requires
    sending = _Sending(database, statements, [new.run_id for new in news], lease_seconds)
    try:
        answers = await sending.answers()
    except CheckViolation as problem:
        raise _refusal(problem) from None
    if sending.rows:
        return [sending.admitted(row, worker) for row in sending.rows]
    return [
        replace(
            sending.admitted({**answers[f"inserted_{n}"][0], "worker": worker}, worker),
            next_ready=order.is_due(answers[f"promoted_{n}"]),
        )
        for n in range(len(news))
    ]


@dataclass(slots=True)
class _Sending:
    """An admission that is retried, for the time of one statement at most, until its result is known.

    Either all of its runs are stored or none, and none twice, since we choose their ids.
    """

    database: Database
    statements: Mapping[str, Statement]
    run_ids: Sequence[UUID]
    lease_seconds: float
    at: float = 0.0
    """When it was last sent, or its runs were last looked up (monotonic seconds); 0 before."""
    rows: list[Row] = field(default_factory=list)
    """The rows of the runs, in order, if a response was lost and they turned out to be stored."""
    unsure: bool = False
    """A response was lost: the runs may be stored, or may still come."""
    _clashed: bool = False

    async def answers(self) -> Mapping[str, list[Row]]:
        """The rows of each statement by its name; empty if `rows` has the runs."""
        until = time.monotonic() + self.database.statement_seconds
        return await retrying(self._send, until=until)

    async def _send(self) -> Mapping[str, list[Row]]:
        # Not before the first try: runs that are stored already are rare, and the statement then fails anyway.
        if self.unsure and self.at and await self.look():
            return {}
        self.at = time.monotonic()
        try:
            return await self.database.answers(**self.statements)
        except DATABASE_UNAVAILABLE:
            self.unsure = True
            raise
        except UniqueViolation:
            if not self.unsure or self._clashed:
                raise
            # An earlier try has arrived since, and `look` finds it now; or the idempotency key is taken.
            self._clashed = True
            return await self._send()

    async def look(self) -> bool:
        """Look the runs up; whether they are stored."""
        self.at = time.monotonic()
        found = await self.database.fetch(_FIND_RUNS, {"run_ids": list(self.run_ids)})
        by_id = {row["run_id"]: row for row in found}
        self.rows = [by_id[run_id] for run_id in self.run_ids] if len(by_id) == len(self.run_ids) else []
        return bool(self.rows)

    def admitted(self, row: Row, worker: str) -> Admitted:
        """The admission as this row shows it."""
        left = row.get("lease_left", self.lease_seconds)
        return admitted(row, worker=worker, sent=self.at, lease_left=left)


def admitted(row: Row, *, worker: str, sent: float, lease_left: float) -> Admitted:
    """The admission as a row shows it that was queried at `sent` (monotonic seconds); `claimed` if this process owns it."""
    ours = row["status"] == "running" and row["worker"] == worker and lease_left > 0
    claimed = ClaimedRun.of(row, worker=worker, lease_from=sent, lease_seconds=lease_left) if ours else None
    return Admitted(row, claimed, next_ready=row["status"] == "pending")  # the answer of PROMOTE is lost


async def earlier(database: Database, owner: str, key: str) -> Admitted | None:
    """The run of an earlier request with the same idempotency key, or None. Raises RunForgotten."""
    params = {"owner": owner, "key": key}
    answers = await retrying(
        lambda: database.answers(
            forgotten=(_FORGET_KEY, params), known=(_KNOW_KEY, params), found=(_FIND_KEY, params)
        ),
        until=time.monotonic() + database.statement_seconds,
    )
    found = answers["found"]
    if answers["known"] and not found:
        raise RunForgotten
    if not found:
        return None
    # `next_ready`, since the process that handled the first delivery may have died before it woke a worker.
    return Admitted(found[0], None, next_ready=found[0]["status"] == "pending", repeated=True)


def _limited(
    limits: Limits, owner: str, run_ids: Sequence[UUID]
) -> tuple[dict[str, Statement], dict[str, Statement]]:
    """The first and the last statements of an admission if the owner's runs are limited."""
    params = {
        "owner": owner,
        "run_ids": list(run_ids),
        "max_running": limits.running,
        "max_pending": limits.pending,
    }
    return {"owner": (_LOCK_OWNER, params)}, {"room": (_REQUIRE_ROOM, params)}


def _refusal(problem: CheckViolation) -> Exception:
    return TooManyRuns() if problem.diag.constraint_name == _PENDING_LIMIT else problem


def parameters(
    new: NewRun, *, worker: str, claim: bool, lease_seconds: float, limits: Limits
) -> dict[str, Any]:
    """The parameters of the statements that admit the run."""
    configurable = new.kwargs.get("config", {}).get("configurable", {})
    return {
        "run_id": new.run_id,
        "thread_id": new.thread_id,
        "owner": new.owner,
        "assistant_id": new.assistant_id,
        "graph_id": new.graph_id,
        "strategy": new.multitask_strategy,
        "on_completion": new.on_completion,
        "hidden": new.on_completion is not None,
        # A thread that is deleted with its run needs no TTL.
        "ttl_minutes": None if new.on_completion == "delete" else new.ttl[0],
        "ttl_strategy": None if new.on_completion == "delete" else new.ttl[1],
        "metadata": Jsonb({**new.metadata, "assistant_id": str(new.assistant_id)}),
        "assistant_metadata": Jsonb(new.assistant_metadata),
        "assistant_configurable": Jsonb(new.assistant_configurable),
        "kwargs": Jsonb(
            {**new.kwargs, "of_the_request": sorted(new.of_the_request)} if new.of_the_request else new.kwargs
        ),
        "thread_metadata": Jsonb({**new.metadata, **new.graph}),
        "thread_configurable": Jsonb(
            {
                k: v
                for k, v in configurable.items()
                if not k.startswith(("checkpoint", "__")) and k != "cron_id" and k not in new.of_the_request
            }
        ),
        "graph_metadata": Jsonb(new.graph),
        "after": new.after_seconds,
        "claim": claim,
        "create_thread": new.create_thread,
        "max_running": limits.running,
        "worker": worker,
        "lease": lease_seconds,
        "key": new.idempotency_key,
        "by": f"superseded by run {new.run_id} (multitask_strategy={new.multitask_strategy})",
        "action": new.multitask_strategy,
    }
