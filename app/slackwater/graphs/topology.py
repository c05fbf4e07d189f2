"""What a compiled graph looks like: its nodes, its subgraphs, its schemas, its drawing. Nothing is run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from slackwater.errors import Invalid

if TYPE_CHECKING:
    from langgraph.pregel import Pregel
    from langgraph.pregel.protocol import PregelProtocol

    Graph = Pregel[Any, Any, Any, Any]


def subgraph_at(graph: Graph, path: tuple[str, ...]) -> Graph | None:
    """The graph inside the node that `path` names, outermost first; `graph` itself for `()`.

    `path` is a checkpoint namespace without its task ids: `child:1f0…|inner:8c2…` is `("child", "inner")`.
    None if a node is missing, holds no graph, or holds one that runs elsewhere.
    """
    from langgraph.pregel import Pregel

    here: object = graph
    for name in path:
        node = here.nodes.get(name) if isinstance(here, Pregel) else None
        if node is None or not node.subgraphs:
            return None
        here = node.subgraphs[0]
    return here if isinstance(here, Pregel) else None


async def subgraphs(graph: Graph, namespace: str | None, recurse: bool) -> dict[str, dict[str, Any]]:
    """The schemas of the graph's subgraphs by namespace (`child`, nested `child|grand`)."""
    found = graph.aget_subgraphs(namespace=namespace, recurse=recurse)
    return {name: schemas(inner) async for name, inner in found}


def schemas(graph: PregelProtocol[Any, Any, Any, Any]) -> dict[str, Any]:
    """The graph's JSON schemas by the API's names; one that cannot be made is None."""
    from langgraph.pregel import Pregel

    if not isinstance(graph, Pregel):  # it runs elsewhere
        return dict.fromkeys(_SCHEMAS)
    return {name: _attempt(make, graph) for name, make in _SCHEMAS.items()}


def input_schema(graph: PregelProtocol[Any, Any, Any, Any]) -> dict[str, Any] | None:
    """The JSON schema of the graph's input; None if it cannot be made."""
    from langgraph.pregel import Pregel

    if not isinstance(graph, Pregel):  # it runs elsewhere
        return None
    schema: dict[str, Any] | None = _attempt(_SCHEMAS["input_schema"], graph)
    return schema


async def drawing(graph: Graph, xray: int | bool) -> dict[str, Any]:
    """The graph as `{"nodes", "edges"}`; `xray` is how many levels of subgraphs are drawn, True all.

    Raises Invalid if a node's graph cannot be drawn from here.
    """
    try:
        drawn = (await graph.aget_graph(xray=xray)).to_json()
    except NotImplementedError:
        raise Invalid("The graph does not support visualization") from None
    for node in drawn["nodes"]:
        if isinstance(data := node.get("data"), dict):
            data.pop("id", None)
    return drawn


def _state_schema(graph: Graph) -> dict[str, Any]:
    """One optional field for each channel; a channel whose type has no schema takes anything."""
    from pydantic import Field, create_model

    fields: dict[str, Any] = {}
    for number, channel in enumerate(graph.stream_channels_list):
        kind = getattr(graph.channels[channel], "UpdateType", Any)
        # By alias, since a channel may be called `copy`, `schema` or `__root__`, which no model's field may.
        fields[f"field_{number}"] = (kind if _has_schema(kind) else Any, Field(None, alias=channel))
    schema: dict[str, Any] = create_model(graph.get_name("state"), **fields).model_json_schema()
    return schema


def _has_schema(kind: Any) -> bool:
    from pydantic import TypeAdapter

    return _attempt(lambda kind: TypeAdapter(kind).json_schema(), kind) is not None


_SCHEMAS: dict[str, Callable[[Graph], Any]] = {
    "input_schema": lambda graph: graph.get_input_jsonschema(),
    "output_schema": lambda graph: graph.get_output_jsonschema(),
    "state_schema": _state_schema,
    "config_schema": lambda graph: graph.get_context_jsonschema() or {},
    "context_schema": lambda graph: graph.get_context_jsonschema(),
}


def _attempt(make: Callable[[Any], Any], of: Any) -> Any:
    try:
        return make(of)
    except Exception:  # a state may hold types that have no schema, and pydantic has many errors for that
        return None
