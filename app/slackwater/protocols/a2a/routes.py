"""A2A: assistants as agents, over JSON-RPC, in its versions 0.3 and 1.0."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from slackwater.errors import ApiError, BadRequest, Draining, Invalid, TooManyRuns
from slackwater.identity.principal import CurrentPrincipal
from slackwater.kit import json_format, sse
from slackwater.protocols import jsonrpc
from slackwater.protocols.a2a import service
from slackwater.protocols.a2a.card import HISTORY_SCOPE
from slackwater.protocols.a2a.models import (
    OLD_NAMES,
    A2aMethod,
    ListTasks,
    ProtocolVersion,
    SendMessage,
    Task,
    TaskQuery,
    TaskState,
)
from slackwater.protocols.a2a.service import Agent
from slackwater.protocols.jsonrpc import Call, RpcError
from slackwater.runtime.events.journal import BEGINNING, EventId
from slackwater.runtime.events.run_reader import StreamCut
from slackwater.web.http import CurrentServices, JsonRoute, json_response
from slackwater.web.streams.bounds import Bounds, CurrentBounds
from slackwater.web.streams.response import OpenResponse

if TYPE_CHECKING:
    from slackwater.services import Services

router = APIRouter(tags=["a2a"], route_class=JsonRoute)

_SPOKEN = ("0.3", "1.0")

HistoryScope = Annotated[str, Header(alias=HISTORY_SCOPE)]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID")]
SpokenVersion = Annotated[str | None, Header(alias="A2A-Version")]


@router.get("/.well-known/agent-card.json")
async def root_card(
    request: Request, services: CurrentServices, principal: CurrentPrincipal, assistant_id: str | None = None
) -> Response:
    """The card of the agent named in the query; there is one for each assistant."""
    if assistant_id is None:
        raise BadRequest("Which assistant's card? Add ?assistant_id=")
    return await card(request, assistant_id, services, principal)


@router.get("/a2a/{assistant_id}")
@router.get("/a2a/{assistant_id}/.well-known/agent-card.json")
@router.get("/a2a/{assistant_id}/.well-known/agent.json", include_in_schema=False)
async def card(
    request: Request, assistant_id: str, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """The agent's card."""
    agent = await service.agent(services, principal, assistant_id)
    return json_response(await service.card(agent, _url(request, agent)))


@router.post("/a2a/{assistant_id}")
@router.post("/a2a/{assistant_id}/", include_in_schema=False)
async def message(
    request: Request,
    assistant_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    history_scope: HistoryScope = "context",
    last_event_id: LastEventId = None,
    version: SpokenVersion = None,
) -> Response:
    """One JSON-RPC request; errors are JSON-RPC errors with status 200."""
    if history_scope not in ("context", "task"):
        raise Invalid(f"{HISTORY_SCOPE}: must be context or task")
    agent = await service.agent(services, principal, assistant_id, whole_context=history_scope == "context")
    try:
        call = await jsonrpc.read(request)
    except RpcError as error:
        return json_response(jsonrpc.failure(None, error))
    if not call.expects:
        return Response(status_code=202)
    try:
        if version and ".".join(version.split(".")[:2]) not in _SPOKEN:
            raise RpcError(
                service.UNSUPPORTED_VERSION, f"A2A-Version: {version} is not one of {', '.join(_SPOKEN)}"
            )
        return await _Answer(request, agent, call, bounds, last_event_id).give()
    except RpcError as error:
        return json_response(call.failure(error))
    except (Draining, TooManyRuns):  # a status that says when to try again
        raise
    except ApiError as error:
        return json_response(call.failure(RpcError.of(error)))


def _url(request: Request, agent: Agent) -> str:
    return f"{str(request.base_url).rstrip('/')}/a2a/{agent.assistant.assistant_id}"


class _Answer:
    """The answer to one call."""

    def __init__(
        self, request: Request, agent: Agent, call: Call, bounds: Bounds | None, last_event_id: str | None
    ) -> None:
        self._request = request
        self._agent = agent
        self._call = call
        self._bounds = bounds
        self._last_event_id = last_event_id
        self._version = ProtocolVersion.V03 if call.method in OLD_NAMES else ProtocolVersion.V10

    @property
    def _collected(self) -> bool:
        """Whether nothing is read of the answer before its end."""
        return self._bounds is not None and not self._bounds.live

    @property
    def _until(self) -> float | None:
        return None if self._bounds is None else self._bounds.wait_until

    async def give(self) -> Response:
        agent, call = self._agent, self._call
        match OLD_NAMES.get(call.method, call.method):
            case A2aMethod.SEND:
                return await self._sent(call.read(SendMessage))
            case A2aMethod.SEND_STREAMING:
                sent = call.read(SendMessage)
                self._expects_stream()
                return await self._stream(await service.send(agent, sent, stream=True), BEGINNING)
            case A2aMethod.SUBSCRIBE:
                return await self._subscribed(call.read(TaskQuery))
            case A2aMethod.GET_TASK:
                query = call.read(TaskQuery)
                task = await service.find(agent, query.id)
                return self._result(task.shown(self._version, history=query.historyLength))
            case A2aMethod.CANCEL_TASK:
                task = await service.cancel(agent, call.read(TaskQuery).id)
                return self._result(task.shown(self._version))
            case A2aMethod.LIST_TASKS:
                return await self._list(call.read(ListTasks))
            case A2aMethod.GET_CARD:
                return self._result(await service.card(agent, _url(self._request, agent)))
        if "PushNotificationConfig" in call.method or "pushNotificationConfig" in call.method:
            raise RpcError(service.NO_PUSH, "Push notifications are not supported")
        raise RpcError(jsonrpc.METHOD_NOT_FOUND, f"Method not found: {call.method}")

    def _result(self, value: object) -> Response:
        return json_response(self._call.result(value))

    def _expects_stream(self) -> None:
        accept = self._request.headers.get("accept", "*/*")
        if sse.MEDIA_TYPE not in accept and "*/*" not in accept:
            raise RpcError(jsonrpc.INVALID_REQUEST, f"Accept must name {sse.MEDIA_TYPE}")

    def _shown(self, task: Task, history: int | None = None) -> dict[str, Any]:
        """A task as the result of a call that sends."""
        shown = task.shown(self._version, history=history)
        return shown if self._version is ProtocolVersion.V03 else {"task": shown}

    async def _sent(self, sent: SendMessage) -> Response:
        agent, history = self._agent, sent.configuration.historyLength
        task = await service.send(agent, sent, stream=False)
        if not sent.waits:
            return self._result(self._shown(task, history))

        async def last() -> dict[str, Any]:
            try:
                ended = await service.finished(agent, task, until=self._until)
            except StreamCut:
                # It goes on elsewhere, or for longer than may be waited: what it comes to is asked for by its id.
                ended = replace(task, state=TaskState.WORKING)
            except RpcError as error:
                return self._call.failure(error)
            return self._call.result(self._shown(ended, history))

        if self._collected:
            return json_response(await last())

        async def whole() -> AsyncGenerator[bytes]:
            yield b"\n"  # at once, as heartbeats: JSON may begin with them
            yield json_format.dumps(await last())

        return self._open(whole(), "application/json", b"\n")

    async def _subscribed(self, query: TaskQuery) -> Response:
        self._expects_stream()
        task = await service.find(self._agent, query.id)
        if task.state.over:
            raise RpcError(service.UNSUPPORTED, f"The task is {task.state.value}: it produces no more events")
        cursor = EventId.parse(self._last_event_id) if self._last_event_id else None
        return await self._stream(task, cursor or BEGINNING)

    async def _stream(self, task: Task, cursor: EventId) -> Response:
        frames = self._frames(task, cursor)
        if self._collected:
            return Response(
                b"".join([f async for f in frames]), headers=sse.HEADERS, media_type=sse.MEDIA_TYPE
            )
        return self._open(frames, sse.MEDIA_TYPE, sse.HEARTBEAT)

    async def _frames(self, task: Task, cursor: EventId) -> AsyncGenerator[bytes]:
        yield self._frame(self._shown(task))
        if task.state not in (TaskState.SUBMITTED, TaskState.WORKING):
            return
        try:
            # A collected response has no reader for partial messages.
            said = service.events(self._agent, task, cursor, until=self._until, messages=not self._collected)
            async for event_id, so_far in said:
                yield self._frame(task.working(self._version, so_far), event_id)
            ended = await service.find(self._agent, task.task_id)
        except RpcError as error:
            yield jsonrpc.frame(self._call.failure(error))
            return
        except StreamCut:
            if self._collected or not self._agent.services.runtime.draining:
                yield self._frame(replace(task, state=TaskState.WORKING).update(self._version))
                return  # its time is up: clients subscribe to the task for more
            raise  # aborted, as an end would look like that of the task
        for made in ended.artifact_updates(self._version):
            yield self._frame(made)
        yield self._frame(ended.update(self._version))

    def _frame(self, value: object, event_id: str | None = None) -> bytes:
        return jsonrpc.frame(self._call.result(value), event_id)

    def _open(self, chunks: AsyncGenerator[bytes], media_type: str, heartbeat: bytes) -> Response:
        services: Services = self._agent.services
        # A task does not end with its reader: that is what `CancelTask` is for.
        return OpenResponse(
            chunks,
            media_type=media_type,
            headers=sse.HEADERS,
            heartbeat=heartbeat,
            seconds=services.settings.heartbeat_seconds,
        )

    async def _list(self, query: ListTasks) -> Response:
        found, total, following = await service.list_(self._agent, query)
        return self._result(
            {
                "tasks": [
                    task.shown(self._version, history=query.historyLength, artifacts=query.includeArtifacts)
                    for task in found
                ],
                "totalSize": total,
                "pageSize": query.pageSize,
                "nextPageToken": following,
            }
        )
