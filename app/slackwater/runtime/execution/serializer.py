"""What a checkpoint may bring back: data, of types that are known.

A checkpoint names the classes of its values. LangGraph imports and calls whatever it names (and warns, since 1.2); who can
write to the database could have any function called by whoever reads a thread.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Collection, Container, Iterable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from langgraph._internal import _serde
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer, _create_msgpack_ext_hook
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from pydantic import BaseModel

if TYPE_CHECKING:
    from slackwater.project.serde import SerdeSpec

log = logging.getLogger(__name__)

TypeName = tuple[str, ...]
"""`(module, name)`."""

_LIBRARIES = (
    "langchain_core.messages",
    "langchain_core.documents",
    "langchain_core.outputs",
    "langchain_core.agents",
    "langchain_core.prompt_values",
    "langgraph.types",
)
"""What graphs hand from node to node without declaring it, besides LangGraph's own list."""

_INSTALLED = frozenset({"site-packages", "dist-packages"})

_reported: set[TypeName] = set()
"""Refused types that the log has named; few, since each had to be stored."""


class CheckpointSerializer(JsonPlusSerializer):
    """Brings back values of known types only: LangGraph's own list, and those that it learns. Others come back as they are
    stored: the fields of a class as a dict, the value of an enum.
    """

    def __init__(self) -> None:
        super().__init__(allowed_msgpack_modules=None)
        self._sources: list[Container[TypeName]] = [_Loaded(in_packages=_LIBRARIES)]
        self._known: set[TypeName] = set()
        # It asks `in`, as of the set that it expects.
        self._unpack_ext_hook = _create_msgpack_ext_hook(cast("Any", self))

    def __contains__(self, name: object) -> bool:
        if name in self._known:
            return True
        typed = cast("TypeName", name)
        if any(typed in source for source in self._sources):
            self._known.add(typed)
            return True
        if typed not in _reported:
            _reported.add(typed)
            log.warning(
                "%s was read from a checkpoint as plain data because it is not a known type. Declare it in the state's schema, "
                'or add ["%s", "%s"] to checkpointer.serde.allowed_msgpack_modules in langgraph.json.',
                ".".join(typed),
                *typed,
                extra={"event": "checkpoint.unknown_type"},
            )
        return False

    def learn(self, graph: Pregel[Any, Any, Any, Any], spec: SerdeSpec, folders: Collection[Path]) -> None:
        """Know the types of a graph's state, of the project in `folders`, and what its `langgraph.json` names."""
        if spec.msgpack is True:
            self._unpack_ext_hook = _create_msgpack_ext_hook(True)
        self._allowed_json_modules = spec.json if spec.json is True else set(spec.json) or None
        self.pickle_fallback = spec.pickle
        if spec.msgpack is not True:
            self._sources += [spec.msgpack, _Loaded(in_folders=folders), _Declared(graph)]

    def with_msgpack_allowlist(self, extra_allowlist: Iterable[TypeName | type]) -> CheckpointSerializer:
        """Know these, too; the same object."""
        self._known |= {
            (item.__module__, item.__name__) if isinstance(item, type) else item for item in extra_allowlist
        }
        return self


class _Loaded(Container[TypeName]):
    """Types that do nothing but hold data, in modules that are imported already: nothing is imported for a checkpoint."""

    def __init__(self, *, in_packages: Collection[str] = (), in_folders: Collection[Path] = ()) -> None:
        self._packages = tuple(in_packages)
        self._folders = tuple(in_folders)

    def __contains__(self, name: object) -> bool:
        module_name, attribute = cast("TypeName", name)
        module = sys.modules.get(module_name)
        if module is None or not _holds_data(getattr(module, attribute, None)):
            return False
        if any(module_name == package or module_name.startswith(f"{package}.") for package in self._packages):
            return True
        file = getattr(module, "__file__", None)
        return file is not None and any(_is_source(Path(file), folder) for folder in self._folders)


class _Declared(Container[TypeName]):
    """The types in the schemas of a graph and of those inside it. Looked for when one is asked for that nobody else knows."""

    def __init__(self, graph: Pregel[Any, Any, Any, Any]) -> None:
        self._graph = graph
        self._types: set[TypeName] | None = None

    def __contains__(self, name: object) -> bool:
        if self._types is None:
            inside = [subgraph for _, subgraph in self._graph.get_subgraphs(recurse=True)]
            graphs = [self._graph, *(graph for graph in inside if isinstance(graph, Pregel))]
            self._types = set[TypeName]().union(*map(declared_by, graphs))
        return name in self._types


def declared_by(graph: Pregel[Any, Any, Any, Any]) -> set[TypeName]:
    """The types in a graph's schemas and channels, as LangGraph collects them where LANGGRAPH_STRICT_MSGPACK is set."""
    schemas: list[Any] = [graph.context_schema]
    if isinstance(graph, CompiledStateGraph):
        builder = graph.builder
        schemas += [builder.state_schema, builder.input_schema, builder.output_schema]
        schemas += [node.input_schema for node in builder.nodes.values()]
        schemas += [branch.input_schema for named in builder.branches.values() for branch in named.values()]
    return _serde.build_serde_allowlist(schemas=schemas, channels=dict(graph.channels))


def _holds_data(value: object) -> bool:
    if not isinstance(value, type):
        return False
    if issubclass(value, BaseModel | Enum) or dataclasses.is_dataclass(value):
        return True
    # A named tuple, or a model of pydantic's first version, whose import would warn.
    return (issubclass(value, tuple) and hasattr(value, "_fields")) or hasattr(value, "__fields__")


def _is_source(file: Path, folder: Path) -> bool:
    """Whether it is the project's: a virtual environment in its folder is not."""
    return file.is_relative_to(folder) and not _INSTALLED & set(file.relative_to(folder).parts)
