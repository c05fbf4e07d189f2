"""Assistants as tools: their names, their schemas, and what a run comes to. Nothing here asks or waits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from slackwater.api.assistants.row import AssistantRow
from slackwater.kit import json_format
from slackwater.runtime.queue.states import RunStatus

MAX_NAME = 64
"""Characters that a tool's name may have where it counts: model providers refuse longer ones."""

MESSAGES = "messages"
WRAPPED = "input"
"""What an input that is no object is called among the arguments, which always are one."""

_STRANGE = re.compile(r"[^A-Za-z0-9_-]")

_ANNOTATIONS = {
    "readOnlyHint": False,
    "destructiveHint": False,
    "idempotentHint": False,
    "openWorldHint": True,
}
"""What may be said of a graph that nobody has looked into."""

_SAYS = {
    RunStatus.INTERRUPTED: "The run was cancelled.",
    RunStatus.TIMEOUT: "The run exceeded its time limit.",
}


def names(assistants: Iterable[AssistantRow]) -> dict[str, AssistantRow]:
    """Each assistant by a name of its own, oldest first: later ones of the same name have a part of their id in it.

    So a new assistant never takes a name away, and a call never means two.
    """
    named: dict[str, AssistantRow] = {}
    for assistant in assistants:
        name = clean(assistant.name)
        if name in named:
            name = numbered(name, assistant.assistant_id)
        named[name] = assistant
    return named


def clean(name: str) -> str:
    """What is left of a name in the characters that tools may be called by."""
    return _STRANGE.sub("", name.strip().replace(" ", "_"))[:MAX_NAME] or "assistant"


def numbered(name: str, assistant_id: UUID) -> str:
    tail = f"_{assistant_id.hex[-12:]}"
    return name[: MAX_NAME - len(tail)] + tail


def tool(name: str, assistant: AssistantRow, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """The assistant as MCP lists it; `schema` is that of its graph's input."""
    return {
        "name": name,
        "title": assistant.name,
        "description": assistant.description or f"Runs the assistant {assistant.name}.",
        "inputSchema": arguments_schema(schema),
        "annotations": _ANNOTATIONS,
    }


def arguments_schema(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a tool's arguments look like.

    Messages are one text: that is what a model has to say, and their whole schema has some hundred lines. An input that
    is no object becomes one property of the arguments.
    """
    if schema is None:
        return {"type": "object"}
    if not takes_object(schema):
        return {"type": "object", "properties": {WRAPPED: dict(schema)}, "required": [WRAPPED]}
    properties = dict(schema.get("properties") or {})
    rest = {key: value for key, value in schema.items() if key not in ("type", "properties")}
    if takes_messages(schema):
        properties[MESSAGES] = {"type": "string", "title": "Messages", "description": "What the user says."}
        if not any(_refers(value) for value in properties.values()):
            rest.pop("$defs", None)
    return {"type": "object", "properties": properties, **rest}


def takes_object(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("type", "object") == "object")


def takes_messages(schema: Mapping[str, Any] | None) -> bool:
    """Whether the input has a list of messages."""
    return schema is not None and MESSAGES in (schema.get("properties") or {})


def input_of(arguments: dict[str, Any], schema: Mapping[str, Any] | None) -> Any:
    """The graph's input in a tool's arguments."""
    if schema is not None and not takes_object(schema) and arguments.keys() == {WRAPPED}:
        return arguments[WRAPPED]
    if takes_messages(schema) and isinstance(text := arguments.get(MESSAGES), str):
        return {**arguments, MESSAGES: [{"role": "user", "content": text}]}
    return arguments


def result(values: Any, status: str | None) -> dict[str, Any]:
    """What a call comes to: `values` as `/wait` has them, as JSON text, and as they are if they are an object."""
    if isinstance(values, dict) and isinstance(error := values.get("__error__"), dict):
        return failed(f"{error.get('error')}: {error.get('message')}")
    if status in _SAYS:
        return failed(_SAYS[RunStatus(status)])
    answer: dict[str, Any] = {"content": [_text(json_format.dumps(values).decode())], "isError": False}
    if isinstance(values, dict):
        answer["structuredContent"] = values
    return answer


def failed(why: str) -> dict[str, Any]:
    """A call that has failed, for the model to read."""
    return {"content": [_text(why)], "isError": True}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _refers(value: Any) -> bool:
    return b'"$ref"' in json_format.dumps(value)
