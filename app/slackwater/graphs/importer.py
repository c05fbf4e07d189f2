"""From an entry of `langgraph.json` to the value that it names."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from slackwater.errors import GraphImportError
from slackwater.project.project import GraphSpec

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.pregel import Pregel
    from langgraph.store.base import BaseStore
    from langgraph_sdk.runtime import AccessContext

    from slackwater.graphs.factory import Factory
    from slackwater.graphs.run_context import RunContext
    from slackwater.project.auth import AuthSpec
    from slackwater.project.http import AppSpec
    from slackwater.project.run_context import RunContextSpec


@dataclass(frozen=True, slots=True)
class Imported:
    """One of `graph` and `factory`."""

    graph: Pregel[Any, Any, Any, Any] | None
    factory: Factory | None

    def build(
        self, access: AccessContext, config: RunnableConfig, store: BaseStore | None, context: Any
    ) -> AbstractAsyncContextManager[Pregel[Any, Any, Any, Any]]:
        """The graph for one access, as `Factory.build` makes it."""
        if self.factory is not None:
            return self.factory.build(access, config, store, context)
        assert self.graph is not None
        return nullcontext(self.graph)


def import_graph(spec: GraphSpec, root: Path) -> Imported:
    """Import what `spec` names in the project at `root`. Takes seconds. Raises GraphImportError, which names the graph."""
    value = _import(f"Graph {spec.id!r} ({spec.source})", spec.location, spec.variable, root)
    from langgraph.graph import StateGraph
    from langgraph.pregel import Pregel

    from slackwater.graphs.factory import Factory

    try:
        if isinstance(value, StateGraph):
            value = value.compile()
        if isinstance(value, Pregel):
            return Imported(value, None)
        return Imported(None, Factory.detect(spec.id, value))
    except Exception as error:
        raise GraphImportError(f"Graph {spec.id!r} ({spec.source}): {str(error).rstrip('.')}.") from error


def import_embedding(embed: str, root: Path) -> Any:
    """What turns texts into vectors: a function or a LangChain object from a file, or `embed` itself for LangChain.

    Raises GraphImportError.
    """
    location, _, variable = embed.rpartition(":")
    if not location.endswith(".py"):
        return embed
    return _import(f"store.index.embed ({embed})", (root / location).resolve(), variable, root)


def import_app(spec: AppSpec, root: Path) -> Any:
    """What `http.app` names. Raises GraphImportError."""
    return _import(f"http.app ({spec.source})", spec.location, spec.variable, root)


def import_auth(spec: AuthSpec, root: Path) -> Any:
    """What `auth.path` names. Raises GraphImportError."""
    return _import(f"auth ({spec.source})", spec.location, spec.variable, root)


def import_run_context(spec: RunContextSpec, root: Path) -> RunContext:
    """What `run_context` names. Raises GraphImportError."""
    from slackwater.graphs.run_context import RunContext

    value = _import(f"run_context ({spec.source})", spec.location, spec.variable, root)
    return RunContext(value, spec.source)


def _import(what: str, location: Path | str, variable: str, root: Path) -> Any:
    """The value that an entry names; `what` is it for messages."""
    try:
        if isinstance(location, Path):
            module = _import_file(location, root)
        else:
            module = importlib.import_module(location)
    except (Exception, SystemExit) as error:
        raise GraphImportError(f"{what} cannot be imported: {_last_line(error)}") from error
    try:
        return getattr(module, variable)
    except AttributeError:
        raise GraphImportError(f"{what}: the module has no {variable!r}.") from None


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
