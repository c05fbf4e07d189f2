"""The rules of runs: what a request turns into, and what a client gets to read of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import ValidationError

from slackwater.api.assistants import service as assistants
from slackwater.api.runs import queries
from slackwater.api.runs.models import RunCreate, shown
from slackwater.api.threads.models import Checkpoint
from slackwater.errors import ApiError, BadRequest, Invalid, NotFound, RunsDisabled
from slackwater.graphs.config import unreserved
from slackwater.identity.audit.actor import Actor
from slackwater.identity.custom import access
from slackwater.identity.custom.access import Value
from slackwater.identity.custom.queries import visible
from slackwater.identity.principal import NOBODY, Principal
from slackwater.kit import json_format
from slackwater.kit.ids import parse_uuid, uuid7
from slackwater.kit.reserved import RUN_KEYS
from slackwater.project.http import RouteGroup
from slackwater.runtime.events.result import Collector
from slackwater.runtime.events.run_reader import RunGone, StreamCut
from slackwater.runtime.queue.admission import NewRun, earlier
from slackwater.runtime.queue.cancel import CANCEL_REASON, CancelAction
from slackwater.runtime.queue.states import TERMINAL

if TYPE_CHECKING:
    from slackwater.services import Services

BULK_REASON = "interrupt requested via POST /runs/cancel"

DELETE_SECONDS = 10.0
"""How long whoever deletes a live run waits for its end: a node that does not listen has half of it."""

DELETE_AGAIN_SECONDS = 0.05

NOT_FOUND = {"error": "HTTPException", "message": "404: Run not found"}


def path_of(thread_id: UUID, run_id: UUID) -> str:
    """Where the run is, whoever asks: without the stage or mount prefix that a proxy may have added."""
    return f"/threads/{thread_id}/runs/{run_id}"


@dataclass(frozen=True, slots=True)
class Created:
    """A run that has been admitted."""

    row: Mapping[str, Any]
    stateless: bool
    on_disconnect: str
    principal: Principal
    """As whom its caller reads it."""

    @property
    def run_id(self) -> UUID:
        run_id: UUID = self.row["run_id"]
        return run_id

    @property
    def thread_id(self) -> UUID:
        thread_id: UUID = self.row["thread_id"]
        return thread_id

    @property
    def content_location(self) -> str:
        return f"/runs/{self.run_id}" if self.stateless else path_of(self.thread_id, self.run_id)


async def create(
    services: Services,
    principal: Principal,
    thread_id: str | None,
    body: RunCreate,
    idempotency_key: str | None,
    *,
    told: bool = False,
) -> Created:
    """Admit a run on a thread, or on a hidden one of its own. Everything is checked before anything is written.

    `told`: the caller is answered with what comes of it.
    """
    new = await prepare(services, principal, thread_id, body, idempotency_key, told=told)
    if new.owner == NOBODY and idempotency_key is not None:
        # A key that was used answers with its run whatever thread is named: also one that is hidden, which must not differ from
        # one that is not there.
        known = await earlier(services.database, principal.owner, idempotency_key)
        if known is not None:
            return Created(known.row, thread_id is None, body.on_disconnect, principal)
    admitted = await services.runtime.admit(new)
    return Created(admitted.row, thread_id is None, body.on_disconnect, replace(principal, owner=new.owner))


async def create_batch(
    services: Services, principal: Principal, bodies: Sequence[RunCreate]
) -> list[Mapping[str, Any]]:
    """Admit runs, each on a hidden thread of its own: all of them, or none; their rows in the order of `bodies`."""
    news = []
    for position, body in enumerate(bodies):
        try:
            news.append(await prepare(services, principal, None, body, None))
        except ApiError as error:
            error.args = (f"{position}: {error.message}",)
            raise
    return [admitted.row for admitted in await services.runtime.admit_batch(news)]


async def prepare(
    services: Services,
    principal: Principal,
    thread_id: str | None,
    body: RunCreate,
    idempotency_key: str | None,
    *,
    told: bool = False,
) -> NewRun:
    """What the request turns into. Raises what is wrong with it; nothing is written.

    Whatever starts runs comes through here, so here they are switched off (RunsDisabled).
    """
    if RouteGroup.RUNS in services.graphs.http.disabled:
        raise RunsDisabled
    stateless = thread_id is None
    thread = uuid7() if thread_id is None else parse_uuid(thread_id, "thread")
    if stateless and body.command and body.command.resume:
        raise BadRequest("You must provide a thread_id when resuming.")
    if body.config.configurable and body.context and not body.together:
        raise BadRequest(
            "Cannot specify both configurable and context. Prefer setting context alone. Context was introduced in "
            "LangGraph 0.6.0 and is the long term planned replacement for configurable."
        )
    if idempotency_key is not None and not (
        0 < len(idempotency_key) <= 255 and idempotency_key.isprintable()
    ):
        raise Invalid("Idempotency-Key must have 1 to 255 printable characters")
    if body.webhook is not None:
        services.webhooks.check(body.webhook)
    assistant = await assistants.resolve(services, principal, body.assistant_id)
    configurable = _configurable(body, thread)
    config = body.config.model_dump(include={"tags", "recursion_limit", "max_concurrency"}, exclude_none=True)
    durability = body.durability or ("exit" if body.checkpoint_during is False else "async")
    new = NewRun(
        run_id=uuid7(),
        thread_id=thread,
        owner=principal.owner,
        assistant_id=assistant.assistant_id,
        graph_id=assistant.graph_id,
        kwargs={
            "input": body.input,
            "command": (body.command and body.command.model_dump(exclude_unset=True)) or None,
            "config": {
                **_bounded({**assistant.config, **config}, services.settings.max_recursion_limit),
                "configurable": {
                    **_without(RUN_KEYS, body.context),
                    **configurable,
                    **_checkpoint(body),
                    **principal.headers,
                },
            },
            "context": {**assistant.context, **_context(body, configurable)},
            "stream_mode": body.stream_modes,
            "interrupt_before": body.interrupt_before,
            "interrupt_after": body.interrupt_after,
            "webhook": None if RouteGroup.WEBHOOKS in services.graphs.http.disabled else body.webhook,
            "feedback_keys": body.feedback_keys,
            "temporary": stateless and body.on_completion == "delete",
            "subgraphs": body.stream_subgraphs,
            "resumable": body.stream_resumable,
            "checkpoint_during": body.checkpoint_during is not False,
            "durability": durability,
            "on_disconnect": body.on_disconnect,
            **body.kept,
        },
        metadata={**(body.config.metadata or {}), **body.metadata},
        assistant_metadata=assistant.metadata,
        assistant_configurable=unreserved(assistant.config.get("configurable")),
        multitask_strategy=body.multitask_strategy,
        after_seconds=max(0.0, body.after_seconds),  # what was to begin long ago begins now
        create_thread=stateless or body.if_not_exists == "create",
        on_completion=body.on_completion if stateless else None,
        idempotency_key=idempotency_key,
        of_the_request=frozenset(principal.headers),
    )
    return (
        new if principal.user is None else await _allowed(services, principal, new, body.if_not_exists, told)
    )


def _context(body: RunCreate, configurable: Mapping[str, Any]) -> Mapping[str, Any]:
    """The context of the run: whichever of both is given is the other as well."""
    return {**configurable, **body.context} if body.together else body.context or configurable


def _bounded(config: dict[str, Any], most: int) -> dict[str, Any]:
    """`config`, whose recursion limit is no higher than the server's: else one request could keep a process for ever."""
    limit = config.get("recursion_limit")
    return {**config, "recursion_limit": min(limit, most)} if isinstance(limit, int) else config


async def _allowed(
    services: Services, principal: Principal, new: NewRun, if_not_exists: str, told: bool
) -> NewRun:
    """The run of a user of the project's own `auth`, as its handlers let it start. Raises RefusedByAuth, and NotFound if
    the caller is to be `told` what they may not read.
    """
    assert principal.user is not None
    kwargs = dict(new.kwargs)
    stateless = new.on_completion is not None
    seconds = new.after_seconds
    value: Value = {
        "thread_id": None if stateless else new.thread_id,
        "assistant_id": new.assistant_id,
        "run_id": new.run_id,
        "status": "pending",
        "metadata": dict(new.metadata),
        "prevent_insert_if_inflight": new.multitask_strategy == "reject",
        "multitask_strategy": new.multitask_strategy,
        "if_not_exists": "create" if stateless and told else if_not_exists,
        "after_seconds": int(seconds) if seconds.is_integer() else seconds,
        "kwargs": kwargs,
    }
    filter_ = await access.decide(services, principal, "threads", "create_run", value)
    metadata = access.metadata_of(value)
    owner, key = principal.owner, new.idempotency_key
    thread = access.LookedUp(principal, False)
    if not stateless:
        thread = await access.look_up(services, principal, new.thread_id, filter_)
        owner = thread.principal.owner
    if told and owner != NOBODY:
        becomes = {**metadata, **new.graph}
        await access.require_reader(services, principal, new.thread_id, thread, filter_, becomes)
    if owner != principal.owner and key is not None:
        # Two users of a shared thread may choose the same one.
        key = f"{principal.owner}\x1f{key}"
    return replace(
        new,
        owner=owner,
        metadata=metadata,
        kwargs={**kwargs, "user": principal.user.stored()},
        # What is hidden may be deleted in this moment: nobody makes a thread.
        create_thread=new.create_thread and owner != NOBODY,
        idempotency_key=key,
    )


def _configurable(body: RunCreate, thread_id: UUID) -> dict[str, Any]:
    """What the request configures, but for the checkpoint. Raises Invalid for another thread's id."""
    configurable = body.config.configurable or {}
    named = configurable.get("thread_id")
    if named is not None and str(named) != str(thread_id):
        raise Invalid("config.configurable.thread_id: names a different thread from the path; leave it out")
    return _without(RUN_KEYS | Checkpoint.model_fields.keys(), configurable)


def _checkpoint(body: RunCreate) -> dict[str, Any]:
    """The keys that name the checkpoint to fork from: the request's own, or else those among its `configurable`."""
    try:
        given = body.checkpoint or Checkpoint.model_validate(body.config.configurable or {})
    except ValidationError:
        raise Invalid(
            "config.configurable: checkpoint_ns must be a string, and checkpoint_map an object"
        ) from None
    checkpoint = given.model_dump(exclude_none=True)
    if body.checkpoint_id is not None:
        checkpoint["checkpoint_id"] = body.checkpoint_id
    return {"checkpoint_ns": "", **checkpoint} if "checkpoint_id" in checkpoint else checkpoint


def _without(keys: Collection[str], mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


async def find(
    services: Services, principal: Principal, thread_id: UUID, run_id: UUID
) -> dict[str, Any] | None:
    """The run's row, or None."""
    return await queries.get(services.database, principal.owner, thread_id, run_id)


async def get(services: Services, principal: Principal, thread_id: str, run_id: str) -> dict[str, Any]:
    """The run's row. Raises NotFound."""
    thread, run = parse_uuid(thread_id, "thread"), parse_uuid(run_id, "run")
    principal = await reader_of(services, principal, thread, run)
    row = await queries.get(services.database, principal.owner, thread, run)
    if row is None:
        await _list(services, principal, thread, status=None, limit=1, offset=0)  # is there the thread?
        raise NotFound
    return row


async def reader_of(services: Services, principal: Principal, thread_id: UUID, run_id: UUID) -> Principal:
    """The principal as whom the caller reads a run. Raises RefusedByAuth."""
    return await access.to_thread(services, principal, "read", thread_id, run_id=run_id)


async def listener_of(services: Services, principal: Principal, thread_id: UUID, run_id: UUID) -> Principal:
    """The same, for who waits for it: a thread that a filter hides is none. Raises RefusedByAuth and NotFound."""
    value: Value = {"thread_id": thread_id, "run_id": run_id}
    filter_ = await access.decide(services, principal, "threads", "read", value)
    thread = await access.look_up(services, principal, thread_id, filter_)
    if thread.is_hidden:
        raise NotFound("Thread not found")
    return thread.principal


async def list_(
    services: Services, principal: Principal, thread_id: str, *, status: str | None, limit: int, offset: int
) -> list[dict[str, Any]]:
    """The thread's runs as shown, newest first. Raises NotFound."""
    rows = await rows_of(services, principal, thread_id, status=status, limit=limit, offset=offset)
    return [shown(row) for row in rows]


async def rows_of(
    services: Services, principal: Principal, thread_id: str, *, status: str | None, limit: int, offset: int
) -> list[dict[str, Any]]:
    """The rows of the thread's runs, newest first. Raises NotFound."""
    thread = parse_uuid(thread_id, "thread")
    principal = await access.to_each(services, principal, {"read": {}, "search": {"metadata": {}}}, thread)
    return await _list(services, principal, thread, status=status, limit=limit, offset=offset)


async def _list(
    services: Services, principal: Principal, thread_id: UUID, *, status: str | None, limit: int, offset: int
) -> list[dict[str, Any]]:
    rows = await queries.list_(
        services.database, principal.owner, thread_id, status=status, limit=limit, offset=offset
    )
    if rows is None:
        raise NotFound(f"Thread with ID {thread_id} not found")
    return rows


async def delete(services: Services, principal: Principal, thread_id: str, run_id: str) -> None:
    """Delete a run with its checkpoints. One that is being worked on is ended first, wherever that is: what comes next
    on its thread must not begin beside it. An owner who does not answer is waited for so long; then the wish stands.
    """
    thread, run = parse_uuid(thread_id, "thread"), parse_uuid(run_id, "run")
    value: Value = {"thread_id": thread, "run_id": run}
    filter_ = await access.decide(services, principal, "threads", "delete", value)
    seen = await access.look_up(services, principal, thread, filter_)
    if seen.is_hidden:
        raise NotFound
    principal = seen.principal
    until, pause = time.monotonic() + DELETE_SECONDS, DELETE_AGAIN_SECONDS
    actor = Actor.of(principal)
    deleted = await queries.delete(services.database, principal.owner, thread, run, actor)
    if not deleted.found:
        raise NotFound("Run not found")
    while deleted.live and time.monotonic() < until:
        services.runtime.forget(run)
        await services.runtime.ended(run, pause)
        pause = min(2 * pause, 10 * DELETE_AGAIN_SECONDS)
        deleted = await queries.delete(services.database, principal.owner, thread, run, actor)
    if deleted.next_ready:
        services.runtime.offer()
    await services.runtime.refresh_thread(thread)


async def cancel(
    services: Services,
    principal: Principal,
    thread_id: str,
    run_ids: list[str],
    action: CancelAction,
    reason: str = CANCEL_REASON,
) -> Principal:
    """Wish that runs stop. Raises NotFound when there is none, or none that still could; as whom the caller reads them."""
    thread = parse_uuid(thread_id, "thread")
    runs = [parse_uuid(run_id, "run") for run_id in run_ids]
    about = {"run_ids": runs, "status": None}
    value: Value = {"thread_id": thread, "action": action.value, "metadata": about}
    filter_ = await access.decide(services, principal, "threads", "update", value)
    principal = await access.on_thread(services, principal, thread, filter_)
    found = await services.runtime.cancel(principal.owner, thread, runs, action, reason, Actor.of(principal))
    if not found.found:
        known = await queries.any_of(services.database, principal.owner, thread, runs)
        raise NotFound(
            "No matching runs to cancel. Please verify the thread ID and run IDs are correct, and the runs haven't "
            "been deleted or completed."
            if known
            else "No runs found to cancel."
        )
    return principal


async def cancel_all(services: Services, principal: Principal, status: str, action: CancelAction) -> None:
    """Wish that the caller's runs in a status (`all`: pending or running) stop. Raises NotFound when there is none."""
    found = False
    after: UUID | None = None
    about = {"run_ids": None, "status": status}
    value: Value = {"thread_id": None, "action": action.value, "metadata": about}
    seen = visible(await access.decide(services, principal, "threads", "update", value))
    while rows := await queries.active(services.database, principal.owner, status, after=after, seen=seen):
        run_ids = {row["thread_id"]: row["run_ids"] for row in rows}
        many = services.runtime.cancel_many(
            principal.owner, run_ids, action, BULK_REASON, Actor.of(principal)
        )
        found = await many or found
        after = rows[-1]["thread_id"]
    if not found:
        raise NotFound("No runs found to cancel.")


async def body(
    services: Services, principal: Principal, thread_id: UUID, run_id: UUID, *, until: float | None
) -> bytes:
    """What `/wait` and `/join` answer, once the run has ended.

    Made of the whole log, so that it is the same whenever, and to whichever process, a client comes back.
    Raises StreamCut when this process leaves before, or at the monotonic second `until`.
    """
    async with _patience(until):
        return await _body(services, principal, thread_id, run_id)


async def over(services: Services, run_id: UUID, *, until: float | None) -> None:
    """Wait until a run has ended, or is gone. Raises StreamCut as `body` does."""
    async with _patience(until):
        newest = await services.runtime.newest(run_id)
        with suppress(RunGone):
            async with aclosing(services.runtime.follow(run_id, newest)) as batches:
                async for _ in batches:
                    pass


@asynccontextmanager
async def _patience(until: float | None) -> AsyncIterator[None]:
    """Raises StreamCut at the monotonic second `until`."""
    try:
        async with asyncio.timeout(None if until is None else until - time.monotonic()) as patience:
            yield
    except TimeoutError:
        if patience.expired():
            raise StreamCut from None
        raise


async def _body(services: Services, principal: Principal, thread_id: UUID, run_id: UUID) -> bytes:
    collector = Collector()
    row = None
    if not services.runtime.works_on(run_id):
        row = await queries.get(services.database, principal.owner, thread_id, run_id)
    if row is not None and row["status"] in TERMINAL:
        async with aclosing(queries.result_events(services.database, run_id)) as events:
            async for event in events:
                collector.feed(event.name, event.data)
    else:
        try:
            async with aclosing(services.runtime.follow(run_id)) as batches:
                async for batch in batches:
                    for event in batch:
                        collector.feed(event.name, event.data)
        except RunGone:
            if collector.silent:
                return json_format.dumps({"__error__": NOT_FOUND})
    thread_summary = (
        await queries.thread_summary(services.database, principal.owner, thread_id)
        if collector.silent
        else None
    )
    return collector.body(thread_summary)


async def reader_cut(services: Services, run_id: UUID) -> None:
    """We cut off a reader: if his run is to end with him, he has some time to come back."""
    await queries.reader(services.database, run_id, left=True)


async def reader_back(services: Services, run_id: UUID) -> None:
    """A reader has come back."""
    await queries.reader(services.database, run_id, left=False)


async def reader_leaves(services: Services, run_id: UUID, reader: UUID) -> int:
    """A reader's page ends before his run: it is shown as running until he is back. The number of its attempt."""
    return await queries.leave(services.database, run_id, reader) or 1


async def reader_returns(services: Services, run_id: UUID, reader: UUID) -> None:
    """He is back, for his next page."""
    await queries.return_(services.database, run_id, reader)


async def readers_are_away(services: Services, run_id: UUID) -> bool:
    """Whether any reader of the run is waited for."""
    return await queries.any_away(services.database, run_id)
