"""What a row of a run is as a task, and what messages are as a graph's input. Nothing here asks or waits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from slackwater.errors import Invalid
from slackwater.kit import json_format
from slackwater.protocols.a2a.models import Artifact, GivenMessage, Message, Part, Task, TaskState
from slackwater.protocols.a2a.queries import TASK

MESSAGES = "messages"

_KINDS = ("image", "audio", "video")
_SAYS = {"timeout": "The run exceeded its time limit."}


def task_id(thread_id: UUID, run_id: UUID | str) -> str:
    return f"{thread_id}:{run_id}"


def task_of(row: Mapping[str, Any], values: Any) -> Task:
    """The task whose newest run the row is; `values` are what that run has come to, as far as is known."""
    state = TaskState(row["state"])
    thread_id, run_id = row["thread_id"], row["run_id"]
    said = _said(row, state)
    artifacts = []
    if state is TaskState.COMPLETED and (parts := _made(values)):
        artifacts = [Artifact(str(run_id), parts)]
    return Task(
        context_id=str(thread_id),
        task_id=task_id(thread_id, row["first_run_id"]),
        run_id=run_id,
        state=state,
        timestamp=json_format.timestamp(row["updated_at"]),
        said=Message(f"{run_id}-status", "agent", said) if said else None,
        history=history_of(values) or history_of(row["kwargs"].get("input")),
        artifacts=artifacts,
    )


def begun(row: Mapping[str, Any]) -> Task:
    """The task of a run that has just been admitted, by what is known without asking again."""
    first = row["metadata"].get(TASK) or row["run_id"]
    return Task(
        context_id=str(row["thread_id"]),
        task_id=task_id(row["thread_id"], first),
        run_id=row["run_id"],
        state=TaskState.SUBMITTED,
        timestamp=json_format.timestamp(row["updated_at"]),
        history=history_of(row["kwargs"].get("input")),
    )


def history_of(values: Any) -> list[Message]:
    """What people and the agent have said, in a state or an input; what tools and systems said stays inside."""
    messages = values.get(MESSAGES) if isinstance(values, dict) else None
    spoken = [spoken_by(message) for message in messages] if isinstance(messages, list) else []
    return [message for message in spoken if message is not None]


def since(history: list[Message], message_id: str | None) -> list[Message]:
    """The part of a context's history that begins with a message: that of its task."""
    ids = [message.message_id for message in history]
    return history[ids.index(message_id) :] if message_id in ids else history


def first_message_id(row: Mapping[str, Any]) -> str | None:
    """The id of the message that a run began with."""
    given = history_of(row["kwargs"].get("input"))
    return given[-1].message_id if given else None


def spoken_by(message: Any) -> Message | None:
    """A message of a state, if it says something to somebody."""
    if not isinstance(message, dict):
        return None
    kind = message.get("type") or message.get("role")
    if kind in ("human", "user"):
        return _message(message, "user")
    if kind in ("ai", "assistant", "AIMessageChunk"):
        return _message(message, "agent")
    return None


def _message(message: dict[str, Any], role: Any) -> Message | None:
    content = message.get("content")
    blocks = content if isinstance(content, list) else [content]
    parts = [part for block in blocks if (part := _part(block)) is not None]
    return Message(str(message.get("id") or ""), role, parts) if parts else None


def _part(block: Any) -> Part | None:
    """A block of a message's content; None for what is not said aloud, such as calls of tools and thoughts."""
    if isinstance(block, str):
        return Part(text=block) if block else None
    if not isinstance(block, dict):
        return None
    kind = block.get("type")
    if kind == "text":
        return Part(text=block["text"]) if block.get("text") else None
    if kind in (*_KINDS, "file") and (block.get("url") or block.get("base64")):
        name = (block.get("extras") or {}).get("filename")
        return Part(
            raw=block.get("base64"), url=block.get("url"), media_type=block.get("mime_type"), name=name
        )
    if kind == "non_standard" and isinstance(block.get("value"), dict):
        return Part(data=block["value"])
    return None


def _made(values: Any) -> list[Part]:
    """What the user gets: the last thing that the agent has said, or else the whole state."""
    if isinstance(values, dict) and isinstance(values.get(MESSAGES), list):
        spoken = history_of(values)
        return spoken[-1].parts if spoken and spoken[-1].role == "agent" else []
    return [] if values is None else [Part(data=values)]


def _said(row: Mapping[str, Any], state: TaskState) -> list[Part]:
    if state is TaskState.INPUT_REQUIRED:
        questions = [asked for of_task in (row["interrupts"] or {}).values() for asked in of_task]
        if len(questions) == 1 and isinstance(question := questions[0].get("value"), str):
            return [Part(text=question)]
        return [Part(data={"id": asked.get("id"), "value": asked.get("value")}) for asked in questions]
    if state is TaskState.FAILED:
        error = row["error"] or {}
        text = f"{error.get('error')}: {error.get('message')}" if error else _SAYS.get(row["status"], "")
        return [Part(text=text)] if text else []
    return []


def input_of(message: GivenMessage) -> dict[str, Any]:
    """The graph's input: objects as they are, and what is said as a message. Raises Invalid."""
    parts = [given.part() for given in message.parts]
    given: dict[str, Any] = {}
    for part in parts:
        if part.text is None and not part.is_file:
            if not isinstance(part.data, dict):
                raise Invalid("message.parts: data must be an object with the keys of the graph's input")
            given |= part.data
    said = [part for part in parts if part.text is not None or part.is_file]
    if said:
        content = "\n".join(part.text for part in said if part.text is not None)
        whole = content if not any(part.is_file for part in said) else [_block(part) for part in said]
        given[MESSAGES] = [{"role": "user", "content": whole, "id": message.messageId}]
    return given


def speaks(message: GivenMessage) -> bool:
    """Whether the graph has to take messages: text or files are said."""
    parts = [given.part() for given in message.parts]
    return any(part.text is not None or part.is_file for part in parts)


def answer_of(message: GivenMessage) -> Any:
    """The answer to a task that waits for input: a string, or the data of one part, for which the official server's form is
    `{"resume": …}`. Raises Invalid.
    """
    parts = [given.part() for given in message.parts]
    texts = [part.text for part in parts if part.text is not None]
    if len(texts) == len(parts):
        return "\n".join(texts)
    if len(parts) == 1 and not parts[0].is_file:
        given = parts[0].data
        return given["resume"] if isinstance(given, dict) and given.keys() == {"resume"} else given
    raise Invalid("message.parts: an answer to a task must be text, or one data part")


def _block(part: Part) -> dict[str, Any]:
    """A part as a block of LangChain's content."""
    if part.text is not None:
        return {"type": "text", "text": part.text}
    kind = (part.media_type or "").partition("/")[0]
    block: dict[str, Any] = {"type": kind if kind in _KINDS else "file"}
    block |= {"url": part.url} if part.url is not None else {"base64": part.raw}
    if part.media_type is not None:
        block["mime_type"] = part.media_type
    if part.name is not None:
        block["extras"] = {"filename": part.name}
    return block
