"""Runs the test graphs as an executor would, with real LangGraph, and makes their events comparable."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

from langchain_core.callbacks import BaseCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from slackwater.runtime.events.replay import Published
from slackwater.runtime.execution.encoding import Encoder, StreamPlan

PROJECT = Path(__file__).parents[2] / "graphs"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("slackwater_test_graphs", PROJECT / "graphs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # type hints are resolved through it
    spec.loader.exec_module(module)
    return module


graphs = _load()

Logged = list[tuple[str, bytes]]


class Cut(Exception):
    """The process died here."""


class Saver(InMemorySaver):
    """Takes no more writes from a process that has died, as a database takes none from a killed one."""

    dead = False

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        return config if self.dead else await super().aput(config, checkpoint, metadata, new_versions)

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        if not self.dead:
            await super().aput_writes(config, writes, task_id, task_path)


class Steps(BaseCallbackHandler):
    """Calls back at every start and end of a node: more places to ask for a drain than chunks are."""

    run_inline = True

    def __init__(self, on_step: Callable[[], None]) -> None:
        self.on_step = on_step

    def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
        self.on_step()

    def on_chain_end(self, *args: Any, **kwargs: Any) -> None:
        self.on_step()


@dataclass
class Run:
    """One run over all its attempts. `log` is what its clients have been sent."""

    graph: Any
    modes: str | Sequence[str] | None = None
    subgraphs: bool = False
    durability: str = "async"
    thread_id: str = field(default_factory=lambda: str(uuid4()))
    run_id: UUID = field(default_factory=uuid4)
    log: Logged = field(default_factory=list)
    attempts: int = 0
    encoder: Encoder | None = None
    """The encoder of the newest attempt."""
    told: bool = True
    """The encoder of a later attempt is told what the earlier ones have published."""

    async def attempt(
        self,
        given: Any,
        *,
        resumed: bool = False,
        clean: bool = True,
        drain_at_chunk: int | None = None,
        drain_at_step: int | None = None,
        cut_at_chunk: int | None = None,
        **options: Any,
    ) -> Encoder:
        """Raises `GraphDrained` or `Cut` if it did not get to the end. Chunks and steps are counted from 0."""
        self.attempts += 1
        if self.graph.checkpointer is not None:
            self.graph.checkpointer.dead = False
        control = RunControl()
        steps = -1

        def on_step() -> None:
            nonlocal steps
            steps += 1
            if steps == drain_at_step:
                control.request_drain("test")

        plan = StreamPlan.of(self.modes, subgraphs=self.subgraphs)
        encoder = self.encoder = Encoder(
            plan,
            run_id=str(self.run_id),
            resumed=resumed,
            published=Published.of(self.log, clean=clean) if resumed and self.told else None,
        )
        config = {
            "configurable": {"thread_id": self.thread_id, "run_id": str(self.run_id), "__secret": "x"},
            "metadata": {"run_id": str(self.run_id), "run_attempt": self.attempts},
            "run_id": self.run_id,
            "callbacks": [Steps(on_step)],
        }
        settings = {
            "stream_mode": encoder.modes,
            "subgraphs": plan.subgraphs,
            "control": control,
            "durability": self.durability if self.graph.checkpointer else None,
            **options,
        }
        drive = self.graph.astream_events if plan.use_events else self.graph.astream
        async with aclosing(drive(given, config, **settings)) as items:
            n = -1
            async for item in items:
                n += 1
                if n == cut_at_chunk:
                    self.graph.checkpointer.dead = True
                    raise Cut
                if n == drain_at_chunk:
                    control.request_drain("test")
                events = encoder.feed_event(item) if plan.use_events else encoder.feed(*plan.chunk(item))
                self.log += [(event.name, event.data) for event in events]
        return encoder

    async def to_end(self, given: Any, *, every: dict[str, int] | None = None, **first: Any) -> Encoder:
        """Start, and go on with `None` as often as it was stopped; `first` stops the first attempt, `every` each."""
        try:
            return await self.attempt(given, **{**(every or {}), **first})
        except GraphDrained:
            clean = True
        except Cut:
            clean = False
        while self.attempts < 60:
            try:
                return await self.attempt(None, resumed=True, clean=clean, **(every or {}))
            except GraphDrained:
                clean = True
        raise AssertionError("makes no progress")


def run_of(name: str, modes: str | Sequence[str] | None = None, **options: Any) -> Run:
    """A run of a test graph on a fresh thread."""
    return Run(with_saver(getattr(graphs, name)), modes, **options)


def with_saver(graph: Any) -> Any:
    return graph.copy(update={"checkpointer": Saver()})


_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00")
_ATTEMPT = re.compile(r'"run_attempt":\d+')


def shown(log: Iterable[tuple[str, bytes]]) -> list[str]:
    """The events as text in which ids are numbered in the order of their first appearance, and times are gone."""
    numbers: dict[str, str] = {}
    lines = []
    for name, data in log:
        line = _ATTEMPT.sub('"run_attempt":0', _TIME.sub("<time>", f"{name} {data.decode()}"))
        lines.append(_ID.sub(lambda m: numbers.setdefault(m[0], f"<{len(numbers)}>"), line))
    return lines


def unordered(log: Iterable[tuple[str, bytes]]) -> dict[str, list[str]]:
    """Per event name the events as sorted text without ids and times: what holds for branches side by side."""
    by_name: dict[str, list[str]] = {}
    for name, data in log:
        line = _ATTEMPT.sub('"run_attempt":0', _TIME.sub("<time>", data.decode()))
        by_name.setdefault(_ID.sub("<id>", name), []).append(_ID.sub("<id>", line))
    return {name: sorted(lines) for name, lines in by_name.items()}


def names(log: Iterable[tuple[str, bytes]]) -> list[str]:
    return [_ID.sub("<id>", name) for name, _ in log]


def data_of(log: Iterable[tuple[str, bytes]], name: str) -> list[Any]:
    return [json.loads(data) for got, data in log if got == name]
