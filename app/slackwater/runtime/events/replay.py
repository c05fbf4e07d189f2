"""Drops what LangGraph streams a second time when a run continues from a checkpoint.

A run continues with the input `None`. LangGraph then streams again, first for the root graph and then for every
subgraph that it re-enters:

* the `values` of the checkpoint it continues from, and the checkpoint itself (`checkpoints`, `debug`);
* the start of every task of the superstep, and with `"__metadata__": {"cached": true}` the updates of those tasks
  that had finished;
* the interrupts of those tasks that had interrupted;
* messages that a subgraph's node returns although an earlier attempt streamed them.

A subgraph that was stopped before its first superstep even streams `values` that it never had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import blake2b
from typing import Any

import orjson

from slackwater.kit.json_format import dumps
from slackwater.kit.reserved import INTERRUPT

Said = tuple[tuple[str, ...], str, Any]
"""Namespace, mode and payload, as `astream` yields them."""

_METADATA = "__metadata__"


@dataclass(slots=True)
class Published:
    """What earlier attempts of a run have published, as far as LangGraph might stream it again.

    `clean`: the last attempt ended with `GraphDrained` and all its events were published, that is everything up to the
    boundary at which it stopped. Otherwise (a crash, a cancelled superstep) an event is dropped only if the very same
    one is found, so that an event that was lost between checkpoint and publication is published now.
    """

    clean: bool
    namespaces: set[str] = field(default_factory=set)
    marks: Counter[tuple[str, ...]] = field(default_factory=Counter)
    spans: Spans = field(default_factory=lambda: Spans())

    @classmethod
    def of(cls, events: Iterable[tuple[str, bytes]], *, clean: bool) -> Published:
        """From the names and data of the run's events.

        The events since the third last root `values` (or `checkpoints`) are enough: a crash under durability `async`
        loses two supersteps at most. More do no harm.
        """
        published = cls(clean=clean)
        for name, data in events:
            mode, _, ns = name.partition("|")
            if ns:
                published.namespaces.add(ns)
            if name == "events":
                published.spans.note(orjson.loads(data))
            published.marks.update(_marks_of(mode, name, data))
        return published

    def take(self, *mark: str) -> bool:
        """Whether the marked event was published. Each is found as often as it was published."""
        if self.marks[mark] <= 0:
            return False
        self.marks[mark] -= 1
        return True


@dataclass(slots=True)
class Spans:
    """The spans that `astream_events` started and did not end: the subgraphs in which an attempt stopped.

    A later attempt re-enters them under new ids; readers know them by the old ones.
    """

    _open: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """LangChain's run id → what identifies the span across attempts."""
    _renamed: dict[str, str] = field(default_factory=dict)

    def note(self, record: Mapping[str, Any]) -> None:
        """Take a record that was published."""
        if record["event"].endswith("_start"):
            self._open[record["run_id"]] = _span_of(record)
        elif record["event"].endswith(("_end", "_error")):
            self._open.pop(record["run_id"], None)

    def admit(self, record: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """A record of a later attempt under the ids that readers know; None if they have seen it."""
        if record["event"].endswith("_start"):
            span = _span_of(record)
            known = next((run_id for run_id, other in self._open.items() if other == span), None)
            if known is not None:
                del self._open[known]
                self._renamed[record["run_id"]] = known
                return None
        if not self._renamed:
            return record
        rename = self._renamed.get
        parents = [rename(parent, parent) for parent in record.get("parent_ids") or ()]
        return {**record, "run_id": rename(record["run_id"], record["run_id"]), "parent_ids": parents}


def _span_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    namespace = (record.get("metadata") or {}).get("langgraph_checkpoint_ns") or ""
    return record["event"], record["name"], namespace, str(len(record.get("parent_ids") or ()))


class _Stage(Enum):
    """How far this attempt has come in one namespace."""

    SILENT = auto()
    """Nothing has been streamed yet."""
    ENTERED = auto()
    """`values` came first, so it continues from a checkpoint, which comes next."""
    AGAIN = auto()
    """In the superstep that an earlier attempt may have started."""
    LIVE = auto()
    """Everything is new."""


@dataclass(slots=True)
class _Space:
    stage: _Stage = _Stage.SILENT
    held: list[Said] = field(default_factory=list)
    checkpoint_id: str | None = None
    announced: bool = False


class Resumption:
    """Filters the first chunks of a continuing attempt: lets only new ones pass.

    Without `published` the last attempt counts as clean, and every namespace as known.
    """

    def __init__(self, published: Published | None) -> None:
        self.over = False
        """The root graph has reached a new boundary: everything from now on is new."""
        self._published = published
        self._clean = published is None or published.clean
        self._spaces: dict[tuple[str, ...], _Space] = {}

    def admit(self, ns: tuple[str, ...], mode: str, chunk: Any) -> list[Said]:
        """The chunks to publish: this one, one that was held back before it, both or none."""
        space = self._spaces.setdefault(ns, _Space())
        said = (ns, mode, chunk)
        match space.stage:
            case _Stage.SILENT:
                passed = self._at_entry(space, said)
            case _Stage.ENTERED:
                passed = self._at_checkpoint(space, said)
            case _Stage.AGAIN:
                passed = self._in_superstep(space, said)
            case _Stage.LIVE:
                passed = [said]
        if not ns and space.stage is _Stage.LIVE:
            self.over = True
        return passed

    def _at_entry(self, space: _Space, said: Said) -> list[Said]:
        ns, mode, chunk = said
        if mode != "values":
            # A graph that starts streams its input checkpoint first; one without a checkpointer streams none.
            space.stage = _Stage.LIVE
            return [said]
        space.stage = _Stage.ENTERED
        space.announced = self._clean and self._knows(ns)
        if not space.announced and not self._was_published(*_mark_of_data(_name("values", ns), dumps(chunk))):
            space.held.append(said)  # the checkpoint that follows tells whether these values ever existed
        return []

    def _at_checkpoint(self, space: _Space, said: Said) -> list[Said]:
        _, mode, chunk = said
        held, space.held = space.held, []
        if mode != "checkpoints":
            # A subgraph without a checkpointer that has just started.
            space.stage = _Stage.LIVE
            return [*held, said]
        space.stage = _Stage.AGAIN
        space.checkpoint_id = _checkpoint_id(chunk)
        if chunk["metadata"].get("source") == "input":
            held = []  # the input was stored but not applied: these are values from before it
        return [*held, *self._unless_announced(space, said)]

    def _in_superstep(self, space: _Space, said: Said) -> list[Said]:
        ns, mode, chunk = said
        debug = mode == "debug"
        payload = chunk["payload"] if debug else chunk
        if mode == "checkpoints" or (debug and chunk["type"] == "checkpoint"):
            if _checkpoint_id(payload) == space.checkpoint_id:
                return self._unless_announced(space, said)
            space.stage = _Stage.LIVE
            return [said]
        name = _name(mode, ns)
        match mode:
            case "values" | "updates" if _is_interrupt(chunk):
                return self._unless_published(said, _mark_of_data(name, dumps(chunk)))
            case "updates" if _is_cached(chunk):
                if self._published is None:
                    return []
                update = {key: value for key, value in chunk.items() if key != _METADATA}
                return self._unless_published(said, _mark_of_data(name, dumps(update)))
            case "tasks" | "debug" if self._clean and (mark := _mark_of_task(name, payload)):
                return self._unless_published(said, mark)  # after a crash the tasks really start again
            case "messages" if not type(chunk[0]).__name__.endswith("Chunk"):
                return self._unless_published(said, ("message", chunk[0].id or ""))
        return [said]

    def _unless_announced(self, space: _Space, said: Said) -> list[Said]:
        ns, mode, _ = said
        if space.announced:
            return []
        return self._unless_published(said, (_name(mode, ns), space.checkpoint_id or ""))

    def _unless_published(self, said: Said, mark: tuple[str, ...]) -> list[Said]:
        return [] if self._was_published(*mark) else [said]

    def _was_published(self, *mark: str) -> bool:
        return self._published is not None and self._published.take(*mark)

    def _knows(self, ns: tuple[str, ...]) -> bool:
        return self._published is None or not ns or "|".join(ns) in self._published.namespaces


def _name(mode: str, ns: tuple[str, ...]) -> str:
    return "|".join((mode, *ns))


def _checkpoint_id(payload: Mapping[str, Any]) -> str:
    return str(payload["config"]["configurable"].get("checkpoint_id"))


def _is_interrupt(chunk: Any) -> bool:
    return isinstance(chunk, dict) and INTERRUPT in chunk


def _is_cached(chunk: Any) -> bool:
    return isinstance(chunk, dict) and bool((chunk.get(_METADATA) or {}).get("cached"))


def _mark_of_data(name: str, data: bytes) -> tuple[str, ...]:
    return (name, blake2b(data, digest_size=16).hexdigest())


def _mark_of_task(name: str, payload: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The mark of a task's start, or of its end with an interrupt: after any other end it does not run again."""
    if "result" not in payload:
        return (name, "start", payload["id"])
    return (name, "interrupt", payload["id"]) if payload["interrupts"] else None


def _marks_of(mode: str, name: str, data: bytes) -> list[tuple[str, ...]]:
    match mode:
        case "values" | "updates":
            return [_mark_of_data(name, data)]
        case "checkpoints":
            return [(name, _checkpoint_id(orjson.loads(data)))]
        case "tasks" | "debug":
            chunk = orjson.loads(data)
            payload = chunk["payload"] if mode == "debug" else chunk
            if mode == "debug" and chunk["type"] == "checkpoint":
                return [(name, _checkpoint_id(payload))]
            mark = _mark_of_task(name, payload)
            return [mark] if mark else []
        case "messages/metadata":
            return [("message", message_id) for message_id in orjson.loads(data)]
        case "messages":
            return [("message", orjson.loads(data)[0]["id"] or "")]
    return []
