"""Messages as content blocks: what a model says, token by token, in the words of protocol v2.

Works on JSON as it is logged, and knows nothing of providers: blocks that only LangChain can tell apart are logged as
`content_blocks` beside a message's content (see `slackwater.runtime.execution.encoding`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

Said = dict[str, Any]
"""The data of one `messages` event."""

_CHUNKS = frozenset({"tool_call_chunk", "server_tool_call_chunk"})
_HEAVY = frozenset({"args", "data", "output", "transcript", "value"})
"""What is said once, when a block that comes whole has ended."""

_TEXTS = {"text": "text", "reasoning": "reasoning"}
"""Blocks that grow by text, and where it is."""


@dataclass(slots=True)
class _Block:
    index: int
    whole: dict[str, Any]


@dataclass(slots=True)
class StreamedMessage:
    """A message that a model is saying."""

    id: str
    node: str | None
    task_id: str
    """The task that said it: when it has ended, so has the message."""
    usage: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    _blocks: dict[Any, _Block] = field(default_factory=dict)
    _begun: bool = False

    def add(self, chunk: Mapping[str, Any]) -> list[Said]:
        """What its next chunk says."""
        self.metadata.update(chunk.get("response_metadata") or {})
        _add_usage(self.usage, chunk.get("usage_metadata") or {})
        said: list[Said] = []
        if not self._begun:
            self._begun = True
            said.append(_start(self.id, "ai", self.metadata))
        for key, block in _keyed(blocks_of(chunk)):
            known = self._blocks.get(key)
            if known is None:
                known = self._blocks[key] = _Block(len(self._blocks), dict(block))
                said.append({"event": "content-block-start", "index": known.index, "content": _empty(block)})
            else:
                _grow(known.whole, block)
            if (delta := _delta(block)) is not None:
                said.append({"event": "content-block-delta", "index": known.index, "delta": delta})
        return said

    def finish(self) -> list[Said]:
        """That it has ended."""
        said = [
            {"event": "content-block-finish", "index": block.index, "content": _finished(block.whole)}
            for block in self._blocks.values()
        ]
        end: Said = {"event": "message-finish"}
        if self.usage:
            end["usage"] = self.usage
        if self.metadata:
            end["metadata"] = self.metadata
        return [*said, end]


def whole(message: Mapping[str, Any], message_id: str) -> list[Said]:
    """A message that comes in one piece."""
    saying = StreamedMessage(message_id, None, "")
    return [*saying.add(message), *saying.finish()]


def tool_message(output: Mapping[str, Any], tool_call_id: str | None) -> list[Said]:
    """The message that a tool's end stands for; nothing if it has neither an id nor a call."""
    own = output.get("id")
    message_id = own if isinstance(own, str) and own else f"tool-{tool_call_id}" if tool_call_id else None
    if message_id is None:
        return []
    content = output.get("content")
    text = content if isinstance(content, str) else "" if content is None else orjson.dumps(content).decode()
    start = _start(message_id, "tool", {})
    if tool_call_id is not None:
        start["tool_call_id"] = tool_call_id
    return [
        start,
        {"event": "content-block-start", "index": 0, "content": {"type": "text", "text": ""}},
        {"event": "content-block-delta", "index": 0, "delta": {"type": "text-delta", "text": text}},
        {"event": "content-block-finish", "index": 0, "content": {"type": "text", "text": text}},
        {"event": "message-finish"},
    ]


def blocks_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The content blocks of a message, or the slices that a chunk of one adds to them."""
    logged = message.get("content_blocks")
    if isinstance(logged, list):
        return [block for block in logged if isinstance(block, dict)]
    content = message.get("content")
    blocks: list[dict[str, Any]] = []
    if isinstance(content, str):
        if content:
            blocks.append({"type": "text", "text": content})
    elif isinstance(content, list):
        blocks = [
            b for item in content if (b := {"type": "text", "text": item} if isinstance(item, str) else item)
        ]
    chunks = message.get("tool_call_chunks")
    calls = chunks if chunks is not None else message.get("tool_calls")
    known = {block.get("id") for block in blocks if block.get("type") in ("tool_call", *_CHUNKS)}
    kind = "tool_call" if chunks is None else "tool_call_chunk"
    blocks += [
        {**call, "type": kind} for call in calls or () if call.get("id") is None or call["id"] not in known
    ]
    if chunks is None:
        blocks += [{**call, "type": "invalid_tool_call"} for call in message.get("invalid_tool_calls") or ()]
    return blocks


def _keyed(blocks: Iterable[dict[str, Any]]) -> Iterable[tuple[Any, dict[str, Any]]]:
    """Which block of its message each is: by its own index, or else by kind and place."""
    for place, block in enumerate(blocks):
        index = block.get("index")
        yield (block.get("type"), place) if index is None else index, block


def _start(message_id: str, role: str, metadata: Mapping[str, Any]) -> Said:
    start: Said = {"event": "message-start", "role": role, "id": message_id}
    names = {"provider": "model_provider", "model": "model_name"}
    about = {name: metadata[key] for name, key in names.items() if metadata.get(key)}
    return {**start, "metadata": about} if about else start


def _empty(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block that begins, before anything of it has been said."""
    kind = block.get("type")
    if kind in _TEXTS:
        text = _TEXTS[str(kind)]
        kept = {key: value for key, value in block.items() if key not in (text, "index", "annotations")}
        return {**kept, text: ""}
    if kind in _CHUNKS:
        known = {key: block[key] for key in ("index",) if block.get(key) is not None}
        return {"type": kind, "id": block.get("id"), "name": block.get("name"), "args": "", **known}
    empty = {key: value for key, value in block.items() if key not in _HEAVY}
    if kind in ("tool_call", "server_tool_call"):
        empty["args"] = {}
    elif kind == "non_standard":
        empty["value"] = {}
    return empty


def _delta(block: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = block.get("type")
    if kind in _TEXTS:
        text = block.get(_TEXTS[str(kind)])
        return {"type": f"{kind}-delta", _TEXTS[str(kind)]: text} if text else None
    if kind in _CHUNKS:
        return {"type": "tool-call-delta", "args": block["args"]} if block.get("args") else None
    if block.get("data"):
        encoding = {"encoding": "base64"} if block.get("encoding") == "base64" else {}
        return {"type": "data-delta", "data": block["data"], **encoding}
    return None


def _grow(whole: dict[str, Any], block: Mapping[str, Any]) -> None:
    kind = whole.get("type")
    grows = _TEXTS.get(str(kind)) or ("args" if kind in _CHUNKS else "data" if "data" in block else None)
    if grows is None or block.get("type") != kind:
        whole.clear()
        whole.update(block)
        return
    text = (whole.get(grows) or "") + (block.get(grows) or "")
    for key, value in block.items():
        if value is not None and key not in ("type", grows):
            whole[key] = {**(whole.get(key) or {}), **value} if key == "extras" else value
    whole[grows] = text


def _finished(block: Mapping[str, Any]) -> dict[str, Any]:
    kind = block.get("type")
    if kind not in _CHUNKS:
        return {key: value for key, value in block.items() if key != "index" or kind not in _TEXTS}
    rest = {
        key: value
        for key, value in block.items()
        if value is not None and key not in ("type", "id", "name", "args")
    }
    if kind == "tool_call_chunk":
        rest.pop("index", None)
    text = block.get("args") or "{}"
    try:
        args = orjson.loads(text)
    except orjson.JSONDecodeError:
        error = "Failed to parse tool call arguments as JSON"
        ids = {"id": block.get("id"), "name": block.get("name")}
        return {"type": "invalid_tool_call", **ids, "args": text, "error": error, **rest}
    ids = {"id": block.get("id") or "", "name": block.get("name") or ""}
    return {"type": kind.removesuffix("_chunk"), **ids, "args": args, **rest}


def _add_usage(usage: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name in ("input_tokens", "output_tokens", "total_tokens"):
        if isinstance(more.get(name), int):
            usage[name] = usage.get(name, 0) + more[name]
    for name in ("input_token_details", "output_token_details"):
        if more.get(name):
            usage[name] = {**usage.get(name, {}), **more[name]}
