"""A2A's messages, tasks and requests, in the shapes of its versions 0.3 and 1.0.

Here they are one thing; which version a client speaks shows in the method that it calls, and decides how they are written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_PAGE = 100

Count = Annotated[int, Field(ge=0)]


class ProtocolVersion(Enum):
    """The version of the protocol that a call is written in."""

    V03 = "0.3"
    V10 = "1.0"


class A2aMethod(StrEnum):
    """What may be asked, as 1.0 calls it."""

    SEND = "SendMessage"
    SEND_STREAMING = "SendStreamingMessage"
    GET_TASK = "GetTask"
    CANCEL_TASK = "CancelTask"
    LIST_TASKS = "ListTasks"
    SUBSCRIBE = "SubscribeToTask"
    GET_CARD = "GetExtendedAgentCard"


OLD_NAMES = {
    "message/send": A2aMethod.SEND,
    "message/stream": A2aMethod.SEND_STREAMING,
    "tasks/get": A2aMethod.GET_TASK,
    "tasks/cancel": A2aMethod.CANCEL_TASK,
    "tasks/list": A2aMethod.LIST_TASKS,
    "tasks/resubscribe": A2aMethod.SUBSCRIBE,
    "agent/getAuthenticatedExtendedCard": A2aMethod.GET_CARD,
}
"""What 0.3 calls them."""


class TaskState(Enum):
    """What a task is doing; the values are those of 0.3."""

    SUBMITTED = "submitted"
    """Its run has not begun."""
    WORKING = "working"
    """Its run has begun, and goes on, perhaps in another process than before."""
    INPUT_REQUIRED = "input-required"
    """Its run has stopped to ask: a message with the task's id answers, and the same task goes on."""
    COMPLETED = "completed"
    CANCELED = "canceled"
    FAILED = "failed"

    @property
    def over(self) -> bool:
        """Whether nothing more comes, whatever anybody sends."""
        return self in (TaskState.COMPLETED, TaskState.CANCELED, TaskState.FAILED)

    def shown(self, version: ProtocolVersion) -> str:
        if version is ProtocolVersion.V03:
            return self.value
        return f"TASK_STATE_{self.name}"

    @classmethod
    def named(cls, text: str) -> TaskState:
        """The state that either version calls so. Raises ValueError."""
        return cls(text.removeprefix("TASK_STATE_").replace("_", "-").lower())


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a message: exactly one of text, data, or a file by its bytes or its URL."""

    text: str | None = None
    data: Any = None
    raw: str | None = None
    """Base64."""
    url: str | None = None
    media_type: str | None = None
    name: str | None = None

    @property
    def is_file(self) -> bool:
        return self.raw is not None or self.url is not None

    def shown(self, version: ProtocolVersion) -> dict[str, Any]:
        if self.text is not None:
            return (
                {"kind": "text", "text": self.text} if version is ProtocolVersion.V03 else {"text": self.text}
            )
        if not self.is_file:
            # 0.3 knows objects only.
            data = {"value": self.data} if not isinstance(self.data, dict) else self.data
            return {"kind": "data", "data": data} if version is ProtocolVersion.V03 else {"data": self.data}
        if version is ProtocolVersion.V03:
            file = {"bytes": self.raw, "uri": self.url, "mimeType": self.media_type, "name": self.name}
            return {"kind": "file", "file": _set(file)}
        return _set({"raw": self.raw, "url": self.url, "mediaType": self.media_type, "filename": self.name})


@dataclass(frozen=True, slots=True)
class Message:
    """What one side says."""

    message_id: str
    role: Literal["user", "agent"]
    parts: list[Part]

    def shown(self, version: ProtocolVersion, task: Task) -> dict[str, Any]:
        old = version is ProtocolVersion.V03
        return {
            **({"kind": "message"} if old else {}),
            "messageId": self.message_id,
            "role": self.role if old else f"ROLE_{self.role.upper()}",
            "parts": [part.shown(version) for part in self.parts],
            "taskId": task.task_id,
            "contextId": task.context_id,
        }


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a task has made."""

    artifact_id: str
    parts: list[Part]

    def shown(self, version: ProtocolVersion) -> dict[str, Any]:
        return {
            "artifactId": self.artifact_id,
            "name": "response",
            "parts": [part.shown(version) for part in self.parts],
        }


@dataclass(frozen=True, slots=True)
class Task:
    """A run, or a chain of runs of which each answers what the one before has asked."""

    context_id: str
    """The thread's id."""
    task_id: str
    """`<thread_id>:<id of the first run>`."""
    run_id: UUID
    """Of the newest run."""
    state: TaskState
    timestamp: str
    said: Message | None = None
    """What there is to say of the state: a question, or what went wrong."""
    history: list[Message] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)

    def shown(
        self, version: ProtocolVersion, *, history: int | None = None, artifacts: bool = True
    ) -> dict[str, Any]:
        """The task with its last `history` messages; None is all."""
        kept = (
            self.history
            if history is None
            else self.history[len(self.history) - history :]
            if history
            else []
        )
        return {
            **({"kind": "task"} if version is ProtocolVersion.V03 else {}),
            "id": self.task_id,
            "contextId": self.context_id,
            "status": self._status(version, self.state, self.said),
            "history": [message.shown(version, self) for message in kept],
            **({"artifacts": [a.shown(version) for a in self.artifacts]} if artifacts else {}),
        }

    def update(self, version: ProtocolVersion) -> dict[str, Any]:
        """The event that tells the task's state, and in 0.3 whether it is the last one."""
        return self._update(version, self.state, self.said)

    def working(self, version: ProtocolVersion, said: Message) -> dict[str, Any]:
        """The event that tells what has been said so far."""
        return self._update(version, TaskState.WORKING, said)

    def artifact_updates(self, version: ProtocolVersion) -> list[dict[str, Any]]:
        """The events that hand over what was made."""
        return [
            self._event(version, "artifact", artifact=a.shown(version), append=False, lastChunk=True)
            for a in self.artifacts
        ]

    def _update(self, version: ProtocolVersion, state: TaskState, said: Message | None) -> dict[str, Any]:
        status = self._status(version, state, said)
        if version is ProtocolVersion.V10:
            return self._event(version, "status", status=status)
        return self._event(version, "status", status=status, final=state is not TaskState.WORKING)

    def _event(self, version: ProtocolVersion, kind: str, **what: Any) -> dict[str, Any]:
        event = {"taskId": self.task_id, "contextId": self.context_id, **what}
        if version is ProtocolVersion.V03:
            return {"kind": f"{kind}-update", **event}
        return {f"{kind}Update": event}

    def _status(self, version: ProtocolVersion, state: TaskState, said: Message | None) -> dict[str, Any]:
        status: dict[str, Any] = {"state": state.shown(version), "timestamp": self.timestamp}
        if said is not None:
            status["message"] = said.shown(version, self)
        return status


def _set(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


# What requests say. Either version's shapes are understood in both, and what means nothing here is ignored.


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore")


class GivenFile(_Request):
    """A file as 0.3 has it."""

    bytes: str | None = None
    uri: str | None = None
    mimeType: str | None = None
    name: str | None = None


class GivenPart(_Request):
    text: str | None = None
    data: Any = None
    raw: str | None = None
    url: str | None = None
    mediaType: str | None = None
    filename: str | None = None
    file: GivenFile | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> GivenPart:
        kinds = {"text", "data", "raw", "url", "file"} & self.model_fields_set
        file = self.file
        if len(kinds) != 1 or (file is not None and (file.bytes is None) == (file.uri is None)):
            raise ValueError("must have exactly one of text, data, or a file (its bytes or its URL)")
        return self

    def part(self) -> Part:
        if self.file is not None:
            file = self.file
            return Part(raw=file.bytes, url=file.uri, media_type=file.mimeType, name=file.name)
        return Part(self.text, _whole(self.data), self.raw, self.url, self.mediaType, self.filename)


def _whole(value: Any) -> Any:
    """Data with its whole numbers as such: to the official clients all are doubles, and they send 2 as 2.0."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    return value


class GivenMessage(_Request):
    messageId: Annotated[str, Field(min_length=1)]
    parts: Annotated[list[GivenPart], Field(min_length=1, max_length=1000, fail_fast=True)]
    contextId: str | None = None
    taskId: str | None = None


class Configuration(_Request):
    historyLength: Count | None = None
    blocking: bool = True
    returnImmediately: bool = False
    pushNotificationConfig: Any = None
    taskPushNotificationConfig: Any = None


class SendMessage(_Request):
    message: GivenMessage
    configuration: Configuration = Configuration()

    @property
    def waits(self) -> bool:
        return self.configuration.blocking and not self.configuration.returnImmediately


class TaskQuery(_Request):
    id: str
    historyLength: Count | None = None


class ListTasks(_Request):
    contextId: str | None = None
    status: str | None = None
    pageSize: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50
    pageToken: str | None = None
    historyLength: Count | None = None
    includeArtifacts: bool = False
    statusTimestampAfter: Any = None
