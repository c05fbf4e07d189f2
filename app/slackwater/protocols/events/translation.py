"""From the log of a thread to the events of protocol v2. Pure: the same log gives the same events, ids and numbers.

So it does not matter which process translates, or how often: a replay, a second connection and whoever takes over the
work after a hand-over say the same. Runs of the older API are translated as far as their stream modes reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from slackwater.kit import json_format
from slackwater.kit.reserved import INTERRUPT
from slackwater.protocols.events import states
from slackwater.protocols.events.content import StreamedMessage, tool_message, whole
from slackwater.runtime.events.thread_reader import RUN_DONE, ThreadEvent
from slackwater.runtime.execution.encoding import SEPARATOR

SPAN = 1_000_000_000
"""How far apart the numbers of two fences begin. A run's events are numbered from its first fence on, so neither what
retention trims nor a run that is deleted changes the number of any other event. They stay below 2**53, which is
JavaScript's limit, for nine million claims of a thread."""

Namespace = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event of protocol v2."""

    seq: int
    event_id: str
    method: str
    namespace: Namespace
    at: int
    """Milliseconds since the epoch."""
    data: Any
    """JSON: as an object, or as bytes where it goes out as it was logged."""
    node: str | None = None

    @property
    def channel(self) -> str:
        """The channel by which it is asked for."""
        return "input" if self.method == "input.requested" else self.method

    @property
    def extension(self) -> str | None:
        """The name by which one of `custom` is asked for: `custom:<name>`, an SDK's `thread.extensions[name]`."""
        name = self.data.get("name") if self.method == "custom" and isinstance(self.data, dict) else None
        return name if isinstance(name, str) and name else None

    def dumps(self) -> bytes:
        """Its JSON."""
        data = (
            orjson.loads(self.data) if self.method in _STATES and isinstance(self.data, bytes) else self.data
        )
        if self.method in _STATES:
            data = states.shown(data)
        elif isinstance(data, bytes):
            data = orjson.Fragment(data)
        params: dict[str, Any] = {"namespace": self.namespace, "timestamp": self.at, "data": data}
        if self.node is not None:
            params["node"] = self.node
        return json_format.dumps(
            {
                "type": "event",
                "event_id": self.event_id,
                "seq": self.seq,
                "method": self.method,
                "params": params,
            }
        )


_OF_A_MODEL = ("ls_model_type", "ls_provider", "ls_model_name")
"""What LangChain says of a message's model. One that does not stream says its message in one piece."""

_STATES = frozenset({"values", "updates"})

_INTERRUPT_KEY = f'"{INTERRUPT}"'.encode()
_ENDED = {"success": "completed", "error": "failed", "timeout": "failed", "interrupted": "interrupted"}


@dataclass(slots=True)
class _Space:
    """A graph inside the run's, or the run's own."""

    graph_name: str
    status: str
    task_id: str = ""
    """The task of the graph around it that it is the work of."""


@dataclass(slots=True)
class _Run:
    run_id: UUID
    graph_name: str
    base: int
    count: int = 0
    attempt: int = 1
    spaces: dict[Namespace, _Space] = field(default_factory=dict)
    interrupts: set[str] = field(default_factory=set)
    messages: dict[Namespace, dict[str, StreamedMessage]] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)
    """Messages that have ended."""
    tool_calls: dict[str, str] = field(default_factory=dict)
    """The call that a task carries out."""
    checkpoints: set[tuple[Namespace, str]] = field(default_factory=set)
    over: bool = False
    """Nothing more comes of it."""


class Translator:
    """Translates the log of one thread, from the beginning of a run on."""

    def __init__(self) -> None:
        self._run: _Run | None = None
        self._entry: ThreadEvent | None = None
        self._from_entry = 0
        self._out: list[Envelope] = []

    def feed(self, entry: ThreadEvent) -> list[Envelope]:
        """What the next entry of the log says."""
        self._entry, self._from_entry, self._out = entry, 0, []
        if entry.name == "gap":
            self._run = None
        elif entry.run_id is not None and entry.name != "state_update":
            self._translate(entry, entry.run_id)
        return self._out

    @property
    def resting(self) -> bool:
        """The newest run has ended."""
        return self._run is not None and self._run.over

    def tree(self) -> dict[str, Any] | None:
        """Where the newest run, and the graphs inside it, stand; None before there is one."""
        return self._branch(()) if self._run is not None and () in self._run.spaces else None

    def _branch(self, namespace: Namespace) -> dict[str, Any]:
        spaces = self._known.spaces
        space = spaces[namespace]
        inner = [ns for ns in spaces if len(ns) == len(namespace) + 1 and ns[:-1] == namespace]
        branch: dict[str, Any] = {
            "namespace": list(namespace),
            "status": space.status,
            "graph_name": space.graph_name,
        }
        if inner:
            branch["children"] = [self._branch(ns) for ns in sorted(inner)]
        return branch

    # One entry

    def _translate(self, entry: ThreadEvent, run_id: UUID) -> None:
        if self._run is None or self._run.run_id != run_id:
            if entry.name == RUN_DONE and entry.id.seq > 1:
                return  # all that it has said was trimmed
            self._run = _Run(run_id, entry.graph_id, (entry.id.fence - 1) * SPAN)
            self._root("running")
        method, *namespace = entry.name.split(SEPARATOR)
        ns = tuple(namespace)
        match method:
            case "metadata":
                self._begun(orjson.loads(entry.data))
            case "values":
                self._values(ns, entry.data)
            case "updates":
                self._updates(ns, orjson.loads(entry.data))
            case "messages" if entry.data.startswith(b"["):
                self._message(ns, *orjson.loads(entry.data))
            case "custom":
                self._custom(ns, entry.data)
            case "tasks":
                self._task(ns, orjson.loads(entry.data))
            case "checkpoints":
                self._checkpoint(ns, orjson.loads(entry.data))
            case "tools":
                self._tool(ns, orjson.loads(entry.data))
            case "error":
                self._end("failed", _text(orjson.loads(entry.data)))
            case _ if method == RUN_DONE:
                self._done(entry.status or "success")

    def _begun(self, data: Mapping[str, Any]) -> None:
        """An attempt. What it says again, after a process was lost or cut short, is announced."""
        run, attempt = self._known, data.get("attempt") or 1
        if attempt > 1:
            run.attempt = attempt
            self._break_off("The superstep that produced this message runs again.")
            for ns, space in run.spaces.items():
                if ns:
                    space.status = "lost"
            self._root("running", attempt=attempt)

    def _values(self, ns: Namespace, data: bytes) -> None:
        if _INTERRUPT_KEY in data:
            value = orjson.loads(data)
            if isinstance(value, dict) and INTERRUPT in value:
                self._ask(ns, value.pop(INTERRUPT))
                if value:
                    self._say("values", ns, value)
                return
        if data not in (b"{}", b"null"):
            self._say("values", ns, data)

    def _updates(self, ns: Namespace, data: Any) -> None:
        if not isinstance(data, dict):
            return
        if INTERRUPT in data:
            self._ask(ns, data[INTERRUPT])
            return
        [*nodes] = data
        node = nodes[0] if len(nodes) == 1 else None
        values = data if node is None else data[node]
        values = values if isinstance(values, dict) else {"value": values}
        if values:
            self._say("updates", ns, values, node=node)

    def _custom(self, ns: Namespace, data: bytes) -> None:
        """What a node wrote to the stream. With a `name` it is an event of that extension as it stands, as officially."""
        written = orjson.loads(data) if data.startswith(b"{") else None
        named = isinstance(written, dict) and isinstance(written.get("name"), str) and written["name"]
        self._say("custom", ns, written if named else {"payload": orjson.Fragment(data)})

    def _ask(self, ns: Namespace, interrupts: Any) -> None:
        """Questions that the run has stopped with. One comes up through every graph around it, and is asked once."""
        run, asked = self._known, False
        for interrupt in interrupts if isinstance(interrupts, list) else ():
            interrupt_id = interrupt.get("id") if isinstance(interrupt, dict) else None
            if isinstance(interrupt_id, str) and interrupt_id not in run.interrupts:
                run.interrupts.add(interrupt_id)
                value = interrupt.get("value")
                # The protocol calls it `payload`, and the Python SDK reads `value`.
                data = {"interrupt_id": interrupt_id, "payload": value, "value": value}
                self._say("input.requested", ns, data, ("input", _key(ns), interrupt_id))
                asked = True
        if asked and run.spaces[()].status != "interrupted":
            self._root("interrupted")

    def _message(self, ns: Namespace, message: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        run = self._known
        kind = message.get("type")
        node = metadata.get("langgraph_node")
        place = str(metadata.get("langgraph_checkpoint_ns") or "")
        message_id = message.get("id") or place
        if kind not in ("AIMessageChunk", "ai") or message_id in run.said:
            return
        if kind == "ai" and not any(key in metadata for key in _OF_A_MODEL):
            return  # a node has returned it: it is in `values`, and officially nowhere else
        if kind == "ai":
            run.said.add(message_id)
            for data in whole(message, message_id):
                self._say("messages", ns, data, node=node)
            return
        spoken = run.messages.setdefault(ns, {})
        if message_id not in spoken:
            spoken[message_id] = StreamedMessage(message_id, node, place.rpartition(":")[2])
        speaking = spoken[message_id]
        self._speak(ns, speaking, speaking.add(message))
        if message.get("chunk_position") == "last":
            self._finish(ns, speaking)

    def _speak(self, ns: Namespace, message: StreamedMessage, said: Iterable[dict[str, Any]]) -> None:
        for data in said:
            if len(self._known.messages[ns]) > 1 and data["event"] != "message-start":
                # The two SDKs' ways to tell apart what models say at the same time.
                data = {**data, "message_id": message.id, "run_id": message.id}
            self._say("messages", ns, data, node=message.node)

    def _finish(self, ns: Namespace, message: StreamedMessage, error: str | None = None) -> None:
        end = message.finish() if error is None else [{"event": "error", "message": error}]
        self._speak(ns, message, end)
        del self._known.messages[ns][message.id]
        self._known.said.add(message.id)

    def _break_off(self, error: str) -> None:
        """Whatever is being said is not said to its end."""
        for ns, messages in list(self._known.messages.items()):
            for message in list(messages.values()):
                self._finish(ns, message, error)

    def _task(self, ns: Namespace, data: Mapping[str, Any]) -> None:
        run, task_id = self._known, str(data.get("id"))
        if "result" not in data:
            if (call := _tool_call(data.get("input"))) is not None:
                run.tool_calls[task_id] = call
            self._started(ns, data.get("metadata") or {})
        else:
            error = _text(data["error"]) if data.get("error") else None
            for message in [m for m in run.messages.get(ns, {}).values() if m.task_id == task_id]:
                self._finish(ns, message, error)
            for inner, space in list(run.spaces.items()):
                if inner[:-1] == ns and inner and space.task_id == task_id and space.status == "started":
                    status = "interrupted" if data.get("interrupts") else "failed" if error else "completed"
                    self._closed(inner, status, error if status == "failed" else None)
        self._say("tasks", ns, orjson.Fragment(self._now.data))

    def _started(self, ns: Namespace, metadata: Mapping[str, Any]) -> None:
        """The first task of a graph inside another one."""
        run = self._known
        known = run.spaces.get(ns)
        if not ns or (known is not None and known.status != "lost"):
            return
        name, _, task_id = ns[-1].partition(":")
        if not task_id:
            return  # a further call of a graph by the same task: nothing tells its end
        agent = metadata.get("lc_agent_name")
        graph_name = agent if isinstance(agent, str) else name
        data: dict[str, Any] = {
            "event": "started",
            "namespace": list(ns),
            "graph_name": graph_name,
            "trigger_call_id": task_id,
        }
        if isinstance(agent, str) and task_id in run.tool_calls:
            data["cause"] = {"type": "toolCall", "tool_call_id": run.tool_calls[task_id]}
        run.spaces[ns] = _Space(graph_name, "started", task_id)
        self._say("lifecycle", ns, data)

    def _closed(self, ns: Namespace, status: str, error: str | None = None) -> None:
        space = self._known.spaces[ns]
        space.status = status
        data = {"event": status, "graph_name": space.graph_name}
        if error is not None:
            data["error"] = error
        self._say("lifecycle", ns, data, self._stage(ns, status))

    def _checkpoint(self, ns: Namespace, data: Mapping[str, Any]) -> None:
        checkpoint_id = _checkpoint_id(data.get("config"))
        if checkpoint_id is None or (ns, checkpoint_id) in self._known.checkpoints:
            return
        self._known.checkpoints.add((ns, checkpoint_id))
        metadata = data.get("metadata") or {}
        said = {"id": checkpoint_id, "step": metadata.get("step"), "source": metadata.get("source")}
        if (parent := _checkpoint_id(data.get("parent_config"))) is not None:
            said["parent_id"] = parent
        self._say("checkpoints", ns, said, ("checkpoint", _key(ns), checkpoint_id))

    def _tool(self, ns: Namespace, data: Mapping[str, Any]) -> None:
        self._say("tools", ns, orjson.Fragment(self._now.data))
        output = data.get("output")
        if data.get("event") == "tool-finished" and isinstance(output, dict):
            call = data.get("tool_call_id")
            inner = (*ns, f"tools:{call}") if isinstance(call, str) else ns
            for said in tool_message(output, call if isinstance(call, str) else None):
                self._say("messages", inner, said)

    def _done(self, status: str) -> None:
        run = self._known
        asked = status == "success" and bool(run.interrupts)
        self._end("interrupted" if asked else _ENDED.get(status, "completed"))

    def _end(self, status: str, error: str | None = None) -> None:
        """The run has ended, and all that is inside it."""
        run = self._known
        if run.over:
            return
        run.over = True
        for ns, messages in list(run.messages.items()):
            for message in list(messages.values()):
                self._finish(ns, message, error if status == "failed" else None)
        for ns in sorted(
            (ns for ns, space in run.spaces.items() if ns and space.status == "started"), key=len
        )[::-1]:
            self._closed(ns, status, error)
        if run.spaces[()].status != status:
            self._root(status, error=error)

    # What goes out

    def _root(self, status: str, *, attempt: int | None = None, error: str | None = None) -> None:
        run = self._known
        run.spaces[()] = _Space(run.graph_name, status)
        data: dict[str, Any] = {"event": status, "graph_name": run.graph_name}
        if attempt is not None:
            data["attempt"] = attempt
        if error is not None:
            data["error"] = error
        self._say("lifecycle", (), data, self._stage((), status))

    def _stage(self, ns: Namespace, status: str) -> tuple[str, ...]:
        """What tells a stage of a graph's life from others; a later attempt goes through some of them once more."""
        attempt = self._known.attempt
        return ("lc", _key(ns), status, *([str(attempt)] if attempt > 1 else []))

    def _say(
        self,
        method: str,
        ns: Namespace,
        data: Any,
        synthesized: tuple[str, ...] | None = None,
        *,
        node: str | None = None,
    ) -> None:
        run, entry = self._known, self._now
        run.count += 1
        if synthesized is not None:
            event_id = f"synth:{run.run_id}:{'|'.join(synthesized)}"
        else:
            event_id = f"{entry.id}.{self._from_entry}" if self._from_entry else str(entry.id)
            self._from_entry += 1
        self._out.append(Envelope(run.base + run.count, event_id, method, ns, entry.at, data, node))

    @property
    def _known(self) -> _Run:
        assert self._run is not None
        return self._run

    @property
    def _now(self) -> ThreadEvent:
        assert self._entry is not None
        return self._entry


def translate(entries: Iterable[ThreadEvent]) -> Iterator[Envelope]:
    """All that a log says."""
    translator = Translator()
    for entry in entries:
        yield from translator.feed(entry)


def first_fence(since: int) -> int:
    """The fence under which the run began whose event has this number."""
    return since // SPAN + 1


def _key(ns: Namespace) -> str:
    return "\N{NULL}".join(ns)


def _text(error: Any) -> str:
    """What an error object says."""
    said = (error.get("message") or error.get("error")) if isinstance(error, dict) else error
    return str(said if said is not None else error)


def _checkpoint_id(config: Any) -> str | None:
    configurable = (config or {}).get("configurable") or {}
    found = configurable.get("checkpoint_id")
    return found if isinstance(found, str) else None


def _tool_call(given: Any) -> str | None:
    """The id of the tool call that a task was started for; LangGraph has two ways to say it."""
    call = (
        given.get("tool_call")
        if isinstance(given, dict)
        else given[0]
        if isinstance(given, list) and given
        else None
    )
    found = call.get("id") if isinstance(call, dict) else None
    return found if isinstance(found, str) else None
