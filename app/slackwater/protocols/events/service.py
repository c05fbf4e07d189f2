"""The commands of protocol v2. A run that it starts is a run like any other; only its stream modes are the protocol's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import ValidationError

from slackwater.api.runs import service as runs
from slackwater.api.runs.models import RunCreate
from slackwater.errors import ApiError, Draining
from slackwater.identity.custom import access
from slackwater.identity.principal import Principal
from slackwater.kit.refusal import Refusal
from slackwater.protocols.events import queries
from slackwater.protocols.events.feed import Feed
from slackwater.protocols.events.models import CommandMethod, InputRespond, RunStart, explain
from slackwater.protocols.events.queries import CommandTarget
from slackwater.runtime.events.run_reader import StreamCut
from slackwater.runtime.execution.encoding import PROTOCOL_V2
from slackwater.runtime.queue.admission import NewRun, Overtaken

if TYPE_CHECKING:
    from slackwater.services import Services

STREAM_MODES = ("values", "updates", "messages-tuple", "custom", "tasks", "checkpoints", "tools")
"""What a run has to log so that every channel can be made of it."""

SETTLE_SECONDS = 5.0
"""How long a command waits for a run that has asked its question to stop with it, as on the official server."""
SETTLE_POLL_SECONDS = 0.05


class CommandError(Exception):
    """A command that is not carried out: the protocol's code, and a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends commands to which thread."""

    services: Services
    principal: Principal
    thread_id: UUID
    idempotency_key: str | None = None


def malformed(body: Any) -> dict[str, Any] | None:
    """The refusal of what is no command at all."""
    command_id = body.get("id") if isinstance(body, dict) else None
    known = isinstance(command_id, int) and not isinstance(command_id, bool)
    if known and isinstance(body.get("method"), str):
        return None
    message = "Protocol commands must include an integer id and string method."
    # A text is said back, so that its sender knows what was refused.
    return failure(command_id if known or isinstance(command_id, str) else None, "invalid_argument", message)


def success(command_id: int, result: Mapping[str, Any], seq: int = 0) -> dict[str, Any]:
    return {"type": "success", "id": command_id, "result": result, "meta": {"applied_through_seq": seq}}


def failure(command_id: int | str | None, code: str, message: str) -> dict[str, Any]:
    return {"type": "error", "id": command_id, "error": code, "message": message}


def refused(command_id: int, error: ApiError) -> dict[str, Any]:
    """The answer to a command that would have an answer of this status by itself."""
    return failure(command_id, "unknown_error", str(Refusal.of(error)))


async def answer(caller: Caller, command: Mapping[str, Any], seq: int = 0) -> dict[str, Any]:
    """Carry out a command that is one. Raises Draining: another process takes it."""
    params = command.get("params")
    try:
        return success(command["id"], await carry_out(caller, command["method"], _object(params)), seq)
    except CommandError as error:
        return failure(command["id"], error.code, error.message)


def _object(params: Any) -> Mapping[str, Any]:
    return params if isinstance(params, dict) else {}


async def carry_out(caller: Caller, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a command. Raises CommandError, and Draining: another process takes the command."""
    try:
        match method:
            case CommandMethod.START:
                return await start(caller, params)
            case CommandMethod.RESPOND:
                return await respond(caller, params)
            case CommandMethod.TREE:
                return {"tree": await tree(caller)}
            case CommandMethod.SUBSCRIBE | CommandMethod.UNSUBSCRIBE | CommandMethod.RECONNECT:
                raise CommandError("no_such_run", "Over HTTP, each request for events is a subscription.")
            case _:
                raise CommandError("unknown_command", f"Unknown protocol command: {method}")
    except Draining:
        raise
    except ApiError as error:
        raise CommandError("unknown_error", str(Refusal.of(error))) from error


async def start(caller: Caller, params: Mapping[str, Any]) -> dict[str, Any]:
    """Start a run, and its thread if there is none. Input for a thread that waits with a question answers it."""
    try:
        wish = RunStart.model_validate(params)
    except ValidationError as error:
        raise CommandError("invalid_argument", explain(error)) from None
    body = {
        "assistant_id": wish.assistant_id,
        "config": wish.config or {},
        "metadata": wish.metadata or {},
        "multitask_strategy": wish.strategy,
    }
    deadline = time.monotonic() + SETTLE_SECONDS
    reader = await reader_of(caller)
    while True:
        target = await _target(caller, reader) if wish.input is not None else None
        resumes = target is not None and not target.busy and bool(target.interrupts)
        late = time.monotonic() >= deadline
        if target is not None and target.busy and target.asking and not late:
            await asyncio.sleep(SETTLE_POLL_SECONDS)
            continue
        given = {"command": {"resume": wish.input}} if resumes else {"input": wish.input}
        new = await _prepare(caller, {**body, **given, "if_not_exists": "create"})
        if wish.input is not None and not late and (target is None or not target.busy):
            # Whether it is an answer is decided with the run's admission, or else again.
            expected = sorted(target.interrupts) if target is not None else []
            still = queries.still(new.owner, new.thread_id, new.run_id, expected)
            new = replace(new, condition=still)
        try:
            admitted = await caller.services.runtime.admit(new)
        except Overtaken:
            await asyncio.sleep(SETTLE_POLL_SECONDS)
            continue
        return {"run_id": str(admitted.row["run_id"])}


async def respond(caller: Caller, params: Mapping[str, Any]) -> dict[str, Any]:
    """Answer questions, all of them that are named with one run."""
    try:
        wish = InputRespond.model_validate(params)
    except ValidationError as error:
        raise CommandError("invalid_argument", explain(error)) from None
    if await _earlier(caller) is not None:
        return {}
    answers = wish.answers
    command = {"resume": answers, **({"update": wish.update} if wish.update is not None else {})}
    command |= {"goto": wish.goto} if wish.goto is not None else {}
    deadline = time.monotonic() + SETTLE_SECONDS
    reader = await reader_of(caller)
    while True:
        target = await _target(caller, reader)
        waiting = target.interrupts if target is not None and not target.busy else frozenset[str]()
        if unknown := [text for text in answers if text not in waiting]:
            if target is not None and target.asking and time.monotonic() < deadline:
                await asyncio.sleep(SETTLE_POLL_SECONDS)
                continue
            raise CommandError("no_such_interrupt", f"Unknown or already-consumed interrupt: {unknown[0]}")
        if target is None or target.assistant_id is None:
            raise CommandError("no_such_run", "No interrupted run is bound to this thread.")
        body = {
            "assistant_id": target.assistant_id,
            "command": command,
            "config": wish.config or {},
            "metadata": wish.metadata or {},
        }
        new = await _prepare(caller, body)
        still = queries.still(new.owner, new.thread_id, new.run_id, sorted(answers))
        try:
            await caller.services.runtime.admit(replace(new, condition=still))
        except Overtaken:
            await asyncio.sleep(SETTLE_POLL_SECONDS)
            continue
        return {}


async def tree(caller: Caller) -> dict[str, Any]:
    """Where the thread's newest run, and the graphs inside it, stand."""
    owner, thread_id = (await reader_of(caller)).owner, caller.thread_id
    found = await queries.newest_run(caller.services.database, owner, thread_id)
    branch = None
    if found is not None:
        start, end = found
        feed = Feed.of_run(caller.services.runtime.thread_log, owner, thread_id, start)
        with suppress(TimeoutError, StreamCut):
            async with asyncio.timeout(SETTLE_SECONDS), aclosing(feed.batches()) as batches:
                while feed.cursor < end:
                    await anext(batches)
        branch = feed.tree()
    if branch is None:
        raise CommandError("no_such_run", "No active run is bound to this thread.")
    return branch


async def _earlier(caller: Caller) -> Mapping[str, Any] | None:
    """The run of an earlier delivery of this command."""
    if caller.idempotency_key is None:
        return None
    return await caller.services.runtime.admitted_before(caller.principal.owner, caller.idempotency_key)


async def reader_of(caller: Caller) -> Principal:
    """As whom the caller reads the thread. Raises RefusedByAuth."""
    return await access.to_thread(caller.services, caller.principal, "read", caller.thread_id)


async def _target(caller: Caller, reader: Principal) -> CommandTarget | None:
    return await queries.look(caller.services.database, reader.owner, caller.thread_id)


async def _prepare(caller: Caller, body: Mapping[str, Any]) -> NewRun:
    config = dict(body["config"])
    config["configurable"] = {**(config.get("configurable") or {}), PROTOCOL_V2: True}
    try:
        run = RunCreate.model_validate(
            {**body, "config": config, "stream_subgraphs": True, "stream_resumable": True}
        )
    except ValidationError as error:
        raise CommandError("invalid_argument", explain(error)) from None
    new = await runs.prepare(
        caller.services, caller.principal, str(caller.thread_id), run, caller.idempotency_key
    )
    return replace(new, kwargs={**new.kwargs, "stream_mode": list(STREAM_MODES)})
