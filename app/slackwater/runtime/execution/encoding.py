"""From what LangGraph streams to what the SDKs read: stream modes, event names, and the JSON of each event.

Nothing here imports LangGraph before a run needs it: the modes are validated on the cold path.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from slackwater.errors import Invalid
from slackwater.kit.json_format import dumps
from slackwater.kit.reserved import INTERRUPT
from slackwater.runtime.events.deltas import PARTIAL
from slackwater.runtime.events.replay import Published, Resumption

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

SEPARATOR = "|"

PROTOCOL_V2 = "__event_streaming_v2"
"""In the `configurable` of runs that protocol v2 has started, as on the official server."""

_LANGGRAPH_MODES = {
    "values": "values",
    "updates": "updates",
    "messages": "messages",
    "messages-tuple": "messages",
    "events": None,
    "debug": "debug",
    "tasks": "tasks",
    "checkpoints": "checkpoints",
    "custom": "custom",
    "tools": "tools",
}
# What the server needs whatever the client asked for: the final values; the breakpoints, which only `updates`
# shows; and an event per finished task, so that a slow reader of events slows the graph down.
_ALWAYS = ("values", "updates")

_HIDDEN = "langsmith:hidden"
_PRIVATE = frozenset({"langgraph_auth_user", "langgraph_auth_permissions"})


@dataclass(frozen=True, slots=True)
class StreamPart:
    """One event of a run: `values`, `updates|child:<uuid>`, `messages/partial`, … and its data as JSON."""

    name: str
    data: bytes
    series: str | None = None
    """Each event of it says what the one before has said, and something new: the id of a partial message, or for a state
    the event's own name."""


class Chunk(NamedTuple):
    """What `astream` says in one step, whether or not it was asked for subgraphs."""

    ns: tuple[str, ...]
    mode: str
    payload: Any


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What to ask of LangGraph for the stream modes of a run."""

    public: tuple[str, ...]
    """The modes that the client asked for; `("values",)` if none. Only these are published."""
    langgraph: tuple[str, ...]
    """Their names in LangGraph, and those that the server needs itself."""
    subgraphs: bool
    use_events: bool
    """`events` was asked for: drive the graph with `astream_events(version="v2")`."""
    blocks: bool = False
    """Messages are logged with their content blocks where only LangChain can tell them apart."""

    @classmethod
    def of(
        cls, stream_mode: str | Collection[str] | None, *, subgraphs: bool, blocks: bool = False
    ) -> StreamPlan:
        """Raises `Invalid` on a mode that is not one of the SDK's."""
        asked = (stream_mode,) if isinstance(stream_mode, str) else tuple(stream_mode or ())
        public = tuple(dict.fromkeys(asked)) or ("values",)
        for mode in public:
            if mode not in _LANGGRAPH_MODES:
                known = ", ".join(_LANGGRAPH_MODES)
                raise Invalid(f"Invalid stream mode: {mode!r}. Expected one of: {known}.")
        wanted = (name for mode in public if (name := _LANGGRAPH_MODES[mode]))
        return cls(
            public=public,
            langgraph=tuple(dict.fromkeys((*_ALWAYS, *wanted))),
            subgraphs=subgraphs,
            use_events="events" in public,
            blocks=blocks,
        )

    def chunk(self, item: tuple[Any, ...]) -> Chunk:
        """`(ns, mode, payload)` or, without subgraphs, `(mode, payload)`."""
        return Chunk(*item) if self.subgraphs else Chunk((), *item)


def matches(event_name: str, asked: Collection[str]) -> bool:
    """Whether a reader who joined with these stream modes gets the event; no modes means every event.

    A mode matches events of its own name, in any namespace, and both message modes match `messages/…`.
    Errors, and the notice that trimmed events were skipped, reach every reader.
    """
    if not asked or event_name in ("error", "gap") or event_name in asked:
        return True
    if event_name.startswith("messages"):
        return "messages" in asked or "messages-tuple" in asked
    return event_name.partition(SEPARATOR)[0] in asked


class Encoder:
    """One attempt of one run: takes what LangGraph yields and returns the events to publish, in order.

    `resumed` says that the attempt continues from a checkpoint of this run; `published` is then what earlier
    attempts have published (see `Resumption`).
    """

    def __init__(
        self, plan: StreamPlan, *, run_id: str, resumed: bool, published: Published | None = None
    ) -> None:
        self.plan = plan
        self.interrupted = False
        """A root-level interrupt was seen: of `interrupt()`, or the empty one of a static breakpoint."""
        self.step: int | None = None
        """The step of the root graph's newest checkpoint, in an attempt that continues."""
        self._run_id = run_id
        self._plain = frozenset(plan.public) - {"messages", "messages-tuple", "events"}
        self._tuples = "messages-tuple" in plan.public
        self._messages: dict[str | None, BaseMessage] = {}
        self._names: dict[tuple[str, tuple[str, ...]], str] = {}
        self._values: Any = None
        self._values_json: bytes | None = None
        self._values_seen = False
        self._resumed = resumed
        self._resumption = Resumption(published) if resumed else None
        # What a superstep that runs again says, it says again.
        self._spans = published.spans if resumed and published is not None and published.clean else None

    @property
    def modes(self) -> list[str]:
        """What to pass as `stream_mode`: a list, for with any other sequence `astream` yields bare payloads.

        An attempt that continues also asks for its checkpoints: they tell what was said before.
        """
        return list(
            dict.fromkeys((*self.plan.langgraph, "checkpoints") if self._resumed else self.plan.langgraph)
        )

    @property
    def last_values(self) -> bytes | None:
        """The last `values` of the root graph that hold no interrupt, as JSON, also when nobody asked for them."""
        if self._values_json is None and self._values_seen:
            self._values_json = dumps(self._values)
        return self._values_json

    def feed(self, ns: tuple[str, ...], mode: str, chunk: Any) -> list[StreamPart]:
        """The events of one chunk of `astream`; `ns` is empty without subgraphs."""
        if not ns:
            self._observe(mode, chunk)
        if self._resumption is None:
            return self._encode(ns, mode, chunk)
        events = [event for said in self._resumption.admit(ns, mode, chunk) for event in self._encode(*said)]
        if self._resumption.over:
            self._resumption = None
        return events

    def feed_event(self, record: Mapping[str, Any]) -> list[StreamPart]:
        """The events of one record of `astream_events`: itself, or what the root graph streamed in it."""
        if _HIDDEN in record["tags"]:
            return []
        if record["run_id"] == self._run_id:
            if record["event"] == "on_chain_stream":
                return self.feed(*self.plan.chunk(record["data"]["chunk"]))
            if record["event"] == "on_chain_start" and self._resumed:
                return []  # the run started in its first attempt
        known = self._spans.admit(record) if self._spans is not None else record
        return [StreamPart("events", dumps(known))] if self.plan.use_events and known is not None else []

    def _observe(self, mode: str, chunk: Any) -> None:
        if mode == "values":
            if isinstance(chunk, dict) and INTERRUPT in chunk:
                self.interrupted = True
            else:
                self._values, self._values_json, self._values_seen = chunk, None, True
        elif mode == "updates" and isinstance(chunk, dict) and INTERRUPT in chunk:
            self.interrupted = True
        elif mode == "checkpoints":
            self.step = chunk["metadata"]["step"]

    def _encode(self, ns: tuple[str, ...], mode: str, chunk: Any) -> list[StreamPart]:
        if mode == "messages":
            return self._encode_message(ns, chunk)
        if mode not in self._plain:
            return []
        if mode == "values":
            return [self._encode_values(ns, chunk)]
        if mode == "checkpoints":
            data = dumps(_public_checkpoint(chunk))
        elif mode == "debug" and chunk["type"] == "checkpoint":
            data = dumps({**chunk, "payload": _debug_checkpoint(chunk["payload"])})
        else:
            data = dumps(chunk)
        return [StreamPart(self._name(mode, ns), data)]

    def _encode_values(self, ns: tuple[str, ...], chunk: Any) -> StreamPart:
        name = self._name("values", ns)
        if isinstance(chunk, dict) and INTERRUPT in chunk:
            return StreamPart(name, dumps(chunk))
        data = self.last_values if chunk is self._values and not ns else None
        return StreamPart(name, dumps(chunk) if data is None else data, name)

    def _encode_message(
        self, ns: tuple[str, ...], chunk: tuple[BaseMessage, dict[str, Any]]
    ) -> list[StreamPart]:
        if self._tuples:
            said = (_with_blocks(chunk[0]), chunk[1]) if self.plan.blocks else chunk
            return [StreamPart(self._name("messages", ns), dumps(said))]
        from langchain_core.messages import BaseMessageChunk, message_chunk_to_message

        message, metadata = chunk
        known = self._messages.get(message.id)
        events = []
        if known is None:
            events.append(StreamPart("messages/metadata", dumps({message.id: {"metadata": metadata}})))
        if not isinstance(message, BaseMessageChunk):
            self._messages[message.id] = message
            events.append(StreamPart("messages/complete", dumps([message])))
            return events
        whole = known + message if isinstance(known, BaseMessageChunk) else message
        self._messages[message.id] = whole
        events.append(StreamPart(PARTIAL, dumps([message_chunk_to_message(whole)]), message.id))
        return events

    def _name(self, mode: str, ns: tuple[str, ...]) -> str:
        if not ns:
            return mode
        name = self._names.get((mode, ns))
        if name is None:
            name = self._names[mode, ns] = SEPARATOR.join((mode, *ns))
        return name


def _with_blocks(message: BaseMessage) -> object:
    """The message, or its JSON with its blocks: each provider has ways of its own to say that a model thinks."""
    if isinstance(message.content, str) and not message.additional_kwargs:
        return message
    try:
        return {**message.model_dump(), "content_blocks": message.content_blocks}
    except Exception:  # a provider's content that its own translator does not know
        return message


def _public_checkpoint(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint without the server's own keys; a subgraph's config is its task's `checkpoint`."""
    return {
        **payload,
        "config": _public_config(payload.get("config")),
        "parent_config": _public_config(payload.get("parent_config")),
        "metadata": _public_keys(payload.get("metadata") or {}),
        "tasks": [_public_task(task) for task in payload.get("tasks") or ()],
    }


def _debug_checkpoint(payload: Mapping[str, Any]) -> dict[str, Any]:
    shown = _public_checkpoint(payload)
    shown["checkpoint"] = _checkpoint_of(shown["config"])
    shown["parent_checkpoint"] = _checkpoint_of(shown["parent_config"])
    return shown


def _checkpoint_of(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    configurable = (config or {}).get("configurable") or {}
    if not configurable.get("checkpoint_id") or not configurable.get("thread_id"):
        return None
    keys = ("checkpoint_id", "thread_id", "checkpoint_ns", "checkpoint_map")
    return {key: configurable[key] for key in keys if key in configurable}


def _public_task(task: Mapping[str, Any]) -> Mapping[str, Any]:
    state = task.get("state")
    if not isinstance(state, Mapping) or "configurable" not in state:
        return task
    shown = {key: value for key, value in task.items() if key != "state"}
    return {**shown, "checkpoint": state["configurable"]}


def _public_config(config: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if config is None:
        return None
    return {**config, "configurable": _public_keys(config.get("configurable") or {})}


def _public_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not key.startswith("__") and key not in _PRIVATE}
