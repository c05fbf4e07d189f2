"""The rules of A2A: a context is a thread, a task is a run on it, and every answer is read from their rows.

So any process answers, whichever one works on the run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from slackwater.api.assistants import service as assistants
from slackwater.api.assistants.row import AssistantRow
from slackwater.api.runs import service as runs
from slackwater.api.runs.models import Command, RunCreate
from slackwater.errors import Invalid, NotFound, ThreadBusy
from slackwater.graphs import topology
from slackwater.identity.custom import access
from slackwater.identity.custom.queries import Visible, visible
from slackwater.identity.principal import Principal
from slackwater.kit.ids import parse_uuid, uuid7
from slackwater.kit.reserved import INTERRUPT
from slackwater.protocols.a2a import queries, tasks
from slackwater.protocols.a2a.card import card_of
from slackwater.protocols.a2a.models import GivenMessage, ListTasks, Message, SendMessage, Task, TaskState
from slackwater.protocols.jsonrpc import INVALID_PARAMS, RpcError
from slackwater.runtime.events.journal import Event, EventId
from slackwater.runtime.events.run_reader import RunGone, StreamCut
from slackwater.runtime.queue.cancel import CancelAction

if TYPE_CHECKING:
    from slackwater.services import Services

TASK_NOT_FOUND = -32001
NOT_CANCELABLE = -32002
NO_PUSH = -32003
UNSUPPORTED = -32004
UNSUPPORTED_VERSION = -32009

CANCEL_SECONDS = 5.0
"""How long a cancel waits for the run to have stopped, before it answers with how things are."""

_PARTIAL = ("messages/partial", "messages/complete")


@dataclass(frozen=True, slots=True)
class Agent:
    """An assistant for one caller. `whole_context`: the history of a task is that of its thread."""

    services: Services
    principal: Principal
    assistant: AssistantRow
    whole_context: bool = True


async def agent(
    services: Services, principal: Principal, assistant_id: str, *, whole_context: bool = True
) -> Agent:
    """The agent of an assistant, by its id or its graph's. Raises Invalid and NotFound."""
    if assistant_id not in services.graphs:
        parse_uuid(assistant_id, "assistant")
    try:
        assistant = await assistants.resolve(services, principal, assistant_id)
    except NotFound:
        raise NotFound(f"Assistant {assistant_id} not found") from None
    return Agent(services, principal, assistant, whole_context)


async def card(agent: Agent, url: str) -> dict[str, Any]:
    """The agent's card."""
    settings = agent.services.settings
    return card_of(
        agent.assistant,
        url,
        speaks=await _speaks(agent),
        keys=settings.has_keys,
        tokens=settings.signs_tokens,
    )


async def send(agent: Agent, request: SendMessage, *, stream: bool) -> Task:
    """Take in a message: it begins a task, or answers one that has asked. The task as it begins.

    The same message delivered twice is the task of the first time: a message is identified by its id and its whole content.
    """
    services, principal, message = agent.services, agent.principal, request.message
    configuration = request.configuration
    if configuration.pushNotificationConfig or configuration.taskPushNotificationConfig:
        raise RpcError(NO_PUSH, "Push notifications are not supported: use a stream, or poll the task")
    said = [str(agent.assistant.assistant_id), message.model_dump(exclude_unset=True)]
    key = f"a2a:{sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()}"
    if (before := await queries.delivered(services.database, principal.owner, key)) is not None:
        return await find(agent, tasks.begun(before).task_id)
    asked = await find(agent, message.taskId) if message.taskId is not None else None
    thread_id = _context(message, asked)
    # Messages are streamed only if somebody may listen; otherwise values are enough.
    listened = stream or not request.waits
    body = RunCreate(
        assistant_id=str(agent.assistant.assistant_id),
        stream_mode=["values", "messages"] if listened else ["values"],
        if_not_exists="create",
    )
    if asked is None:
        if tasks.speaks(message) and not await _speaks(agent):
            raise RpcError(
                INVALID_PARAMS, "The graph's input has no messages: send a data part with its keys"
            )
        body.input = tasks.input_of(message)
    else:
        body.command = Command(resume=tasks.answer_of(message))
        body.metadata = {queries.TASK: asked.task_id.partition(":")[2]}
        body.multitask_strategy = "reject"  # two answers at once: one of them comes too late
    try:
        created = await runs.create(services, principal, str(thread_id), body, key, told=True)
    except ThreadBusy:
        raise RpcError(UNSUPPORTED, "The task no longer waits for an answer") from None
    return tasks.begun(created.row)


def _context(message: GivenMessage, asked: Task | None) -> UUID:
    """The thread that a message belongs to. Raises RpcError where it cannot be answered with it."""
    if asked is None:
        return uuid7() if message.contextId is None else parse_uuid(message.contextId, "context")
    if message.contextId is not None and message.contextId != asked.context_id:
        raise RpcError(INVALID_PARAMS, "message.contextId: must be that of the task")
    if asked.state is not TaskState.INPUT_REQUIRED:
        raise RpcError(
            UNSUPPORTED,
            f"The task is {asked.state.value} and does not wait for an answer: leave out taskId to start a new task",
        )
    return UUID(asked.context_id)


async def find(agent: Agent, task_id: str) -> Task:
    """The task as it is. Raises RpcError."""
    services = agent.services
    thread, _, run = task_id.partition(":")
    try:
        thread_id, run_id = UUID(thread), UUID(run)
    except ValueError:
        raise not_found(task_id) from None
    reader = await runs.reader_of(services, agent.principal, thread_id, run_id)
    row = await queries.newest(
        services.database, reader.owner, agent.assistant.assistant_id, thread_id, run_id
    )
    if row is None:
        raise not_found(task_id)
    return (await _tasks(agent, [row]))[0]


async def list_(agent: Agent, query: ListTasks) -> tuple[list[Task], int, str]:
    """A page of tasks, the newest first; how many there are, and where the next page begins, or an empty text."""
    token = query.pageToken or "0"
    if not (token.isascii() and token.isdecimal() and len(token) < 10):
        raise Invalid("pageToken: was not made by this server")
    offset = int(token)
    reader, seen = await _listed(agent, query)
    rows = await queries.list_(
        agent.services.database,
        reader.owner,
        agent.assistant.assistant_id,
        thread_id=parse_uuid(query.contextId, "context") if query.contextId else None,
        state=_state(query.status),
        after=_moment(query.statusTimestampAfter),
        limit=query.pageSize,
        offset=offset,
        seen=seen,
    )
    total = rows[0]["total"] if rows else 0
    following = str(offset + len(rows)) if offset + len(rows) < total else ""
    return await _tasks(agent, rows), total, following


async def _listed(agent: Agent, query: ListTasks) -> tuple[Principal, Visible]:
    """As whom the caller lists tasks, and on which threads: on one that others share, or on all of their own."""
    thread_id = parse_uuid(query.contextId, "context") if query.contextId else None
    value: dict[str, Any] = {"thread_id": thread_id, "metadata": {}}
    filter_ = await access.decide(agent.services, agent.principal, "threads", "search", value)
    reader = agent.principal
    if thread_id is not None:
        reader = await access.on_thread(agent.services, reader, thread_id, filter_)
    return reader, visible(filter_)


async def finished(agent: Agent, task: Task, *, until: float | None) -> Task:
    """The task when nothing more comes of its run.

    Raises StreamCut when this process leaves before, or at the monotonic second `until`.
    """
    # Only the end matters here, not earlier events.
    cursor = await agent.services.runtime.newest(task.run_id)
    async with aclosing(events(agent, task, cursor, until=until, messages=False)) as said:
        async for _ in said:
            pass
    return await find(agent, task.task_id)


async def events(
    agent: Agent, task: Task, cursor: EventId, *, until: float | None, messages: bool = True
) -> AsyncGenerator[tuple[str, Message]]:
    """What the agent says after `cursor`, as it says it: the id of the event, and the whole message so far. Without
    `messages` it only waits.

    Ends with the run. Raises StreamCut as `finished` does.
    """
    said: dict[str, Message] = {}
    try:
        async with aclosing(agent.services.runtime.follow(task.run_id, cursor)) as batches:
            while (batch := await _next(batches, until)) is not None:
                for message_event in batch if messages else ():
                    if message_event.name not in _PARTIAL:
                        continue
                    for given in orjson.loads(message_event.data):
                        message = tasks.spoken_by(given)
                        if message is None or message.role != "agent":
                            continue
                        if said.get(message.message_id) != message:
                            said[message.message_id] = message
                            yield str(message_event.id), message
    except RunGone:
        raise not_found(task.task_id) from None


async def _next(batches: AsyncGenerator[list[Event]], until: float | None) -> list[Event] | None:
    """The next batch, or None at the end. Raises StreamCut at the monotonic second `until`."""
    try:
        async with asyncio.timeout(None if until is None else until - time.monotonic()) as patience:
            return await anext(batches, None)
    except TimeoutError:
        if patience.expired():
            raise StreamCut from None
        raise


async def cancel(agent: Agent, task_id: str) -> Task:
    """Stop a task, wherever it runs; it is `canceled` when its run has stopped, which takes a second. Raises RpcError."""
    task = await find(agent, task_id)
    late = RpcError(NOT_CANCELABLE, f"The task is {task.state.value}: nothing is running")
    if task.state not in (TaskState.SUBMITTED, TaskState.WORKING):
        raise late
    try:
        await runs.cancel(
            agent.services, agent.principal, task.context_id, [str(task.run_id)], CancelAction.INTERRUPT
        )
        return await finished(agent, task, until=time.monotonic() + CANCEL_SECONDS)
    except NotFound:
        raise late from None  # it has ended meanwhile
    except StreamCut:
        return await find(agent, task_id)


def not_found(task_id: str) -> RpcError:
    return RpcError(TASK_NOT_FOUND, f"Task not found: {task_id}")


async def _tasks(agent: Agent, rows: list[queries.Row]) -> list[Task]:
    superseded = [row["run_id"] for row in rows if row["values"] is None and TaskState(row["state"]).over]
    last = await queries.last_values(agent.services.database, superseded)
    found = []
    for row in rows:
        values = row["values"]
        if values is None and (data := last.get(row["run_id"])) is not None:
            values = orjson.loads(data)
            if isinstance(values, dict):
                values.pop(INTERRUPT, None)
        task = tasks.task_of(row, values)
        if not agent.whole_context:
            task = replace(task, history=tasks.since(task.history, tasks.first_message_id(row)))
        found.append(task)
    return found


async def _speaks(agent: Agent) -> bool:
    """Whether the agent's graph takes messages."""
    async with assistants.open_graph_of(agent.services, agent.principal, agent.assistant) as graph:
        schema = topology.input_schema(graph)
    return schema is None or tasks.MESSAGES in (schema.get("properties") or {})


def _state(text: str | None) -> str | None:
    if text in (None, "", "TASK_STATE_UNSPECIFIED"):
        return None
    try:
        return TaskState.named(str(text)).value
    except ValueError:
        raise Invalid(f"status: {text!r} is not one of {', '.join(s.value for s in TaskState)}") from None


def _moment(text: Any) -> datetime | None:
    if text in (None, ""):
        return None
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise Invalid("statusTimestampAfter: must be a time in ISO 8601") from None
    if moment.tzinfo is None:
        raise Invalid("statusTimestampAfter: must have a UTC offset, or Z")
    return moment
