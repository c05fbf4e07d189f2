"""The graphs of a project, ready to be opened."""

from __future__ import annotations

import copy
import hashlib
import importlib
import importlib.util
import logging
import os
import re
import sys
import traceback
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from app.errors import GraphImportError, NotFound
from app.graphs.project import GraphSpec, Project

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.pregel import Pregel
    from langgraph.store.base import BaseStore
    from langgraph_sdk.runtime import AccessContext

    from app.graphs.factory import Factory

    Graph = Pregel[Any, Any, Any, Any]

log = logging.getLogger(__name__)

_UNNAMED = "LangGraph"
"""The name of every compiled graph that was not given one."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One of `graph` and `factory`."""

    spec: GraphSpec
    graph: Graph | None
    factory: Factory | None


class Graphs:
    """The graphs of this process, by id."""

    def __init__(self, entries: Mapping[str, _Entry]) -> None:
        self._entries = entries
        self.ids = tuple(entries)
        """In the order of `langgraph.json`."""

    @classmethod
    def load(cls, project: Path) -> Graphs:
        """Import every graph of the project at `project` (its folder, or its `langgraph.json`). Takes seconds.

        Changes `sys.path` and the environment as the project asks. Raises SettingsError if its file makes no
        sense, and GraphImportError, which names the graph, if one does not import.
        """
        read = Project.read(project)
        for warning in read.warnings:
            log.warning(warning, extra={"event": "project.ignored"})
        read.activate()
        return cls({spec.id: _entry(spec, _import(spec, read.root)) for spec in read.graphs})

    def __contains__(self, graph_id: object) -> bool:
        return graph_id in self._entries

    def require(self, graph_id: str) -> None:
        """Raises NotFound, which lists the graphs that there are."""
        if graph_id not in self._entries:
            raise NotFound(f"Graph '{graph_id}' not found. Expected one of: {sorted(self.ids)}")

    def description(self, graph_id: str) -> str | None:
        """The description in `langgraph.json`."""
        return self._entries[graph_id].spec.description

    def name(self, graph_id: str) -> str:
        """The name that the graph was compiled with, or else its id; a factory's graph has its id."""
        graph = self._entries[graph_id].graph
        return _name(graph, graph_id) if graph else graph_id

    @asynccontextmanager
    async def open(
        self,
        graph_id: str,
        *,
        config: RunnableConfig,
        access: AccessContext,
        checkpointer: BaseCheckpointSaver[Any] | None,
        store: BaseStore | None,
        context: Any = None,
    ) -> AsyncIterator[Graph]:
        """The graph with this checkpointer and store in place of its own.

        A factory runs each time; `config`, `access`, `store` and, for `threads.create_run`, `context` are what
        it may ask for. What it holds is released at the end. An exception from the body always comes out.
        Raises NotFound for an unknown id, `app.graphs.factory.NotAGraph`, and what the factory raises.
        """
        self.require(graph_id)
        entry = self._entries[graph_id]
        if entry.graph:
            yield _bind(entry.graph, graph_id, checkpointer, store)
        elif entry.factory:
            async with entry.factory.build(access, config, store, context) as graph:
                yield _bind(graph, graph_id, checkpointer, store)


def _bind(
    graph: Graph, graph_id: str, checkpointer: BaseCheckpointSaver[Any] | None, store: BaseStore | None
) -> Graph:
    # Not `graph.copy(update=…)`: it validates the graph again, and drops the allow-list of types that strict
    # deserialisation needs, together with the output mappers (langgraph 1.2.22).
    bound = copy.copy(graph)
    bound.checkpointer = checkpointer
    bound.store = store
    bound.name = _name(graph, graph_id)
    return bound


def _name(graph: Graph, graph_id: str) -> str:
    return graph_id if graph.name == _UNNAMED else graph.name


def _entry(spec: GraphSpec, value: object) -> _Entry:
    from langgraph.graph import StateGraph
    from langgraph.pregel import Pregel

    from app.graphs.factory import Factory

    try:
        if isinstance(value, StateGraph):
            value = value.compile()
        if isinstance(value, Pregel):
            return _Entry(spec, value, None)
        return _Entry(spec, None, Factory.detect(spec.id, value))
    except Exception as error:
        raise GraphImportError(f"Graph {spec.id!r} ({spec.source}): {str(error).rstrip('.')}.") from error


def _import(spec: GraphSpec, root: Path) -> object:
    """The value that a graph's entry names."""
    try:
        if isinstance(spec.location, Path):
            module = _import_file(spec.location, root)
        else:
            module = importlib.import_module(spec.location)
    except (Exception, SystemExit) as error:
        raise GraphImportError(
            f"Graph {spec.id!r} ({spec.source}) does not import: {_last_line(error)}{_hint(error, root)}"
        ) from error
    try:
        return getattr(module, spec.variable)
    except AttributeError:
        raise GraphImportError(
            f"Graph {spec.id!r} ({spec.source}): the module has nothing called {spec.variable!r}."
        ) from None


def _import_file(file: Path, root: Path) -> ModuleType:
    """The module in `file`, imported once, under a name that no other file has.

    The name goes into checkpoints with the classes that the file defines, and another process, perhaps with
    the project in another folder, must find them by it: it comes from the path inside the project.
    """
    inside = Path(os.path.relpath(file, root)).as_posix()
    digest = hashlib.sha256(inside.encode()).hexdigest()[:8]
    name = f"project_{re.sub(r'[^A-Za-z0-9]+', '_', inside.removesuffix('.py')).strip('_')}_{digest}"
    while name in sys.modules:
        if sys.modules[name].__file__ == str(file):
            return sys.modules[name]
        name += "_"  # the same path in another project, in one process
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # as it is for every name that ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Before it runs: its own dataclasses and annotations are looked up here.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _last_line(error: BaseException) -> str:
    line = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError):
        return f"{line} ({error.filename}, line {error.lineno})"
    return line


def _hint(error: BaseException, root: Path) -> str:
    """What to do about the one trap that the message does not explain."""
    if (
        isinstance(error, ImportError)
        and (error.name or "").partition(".")[0] == "app"
        and (root / "app").is_dir()
    ):
        return " (Slackwater itself is the package `app`: give the project's package another name)"
    return ""
