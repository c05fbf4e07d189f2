"""What the routes of assistants answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from slackwater.errors import (
    BadRequest,
    Conflict,
    GraphBroken,
    GraphSilent,
    NotAGraph,
    NotFound,
    PageTooLarge,
    RunContextFailed,
)
from slackwater.web.openapi.parameters import ASSISTANT, MOMENT
from slackwater.web.openapi.pieces import NO_CONTENT, PART, Operation, Response, Shape, page

TAG = "A graph with a configuration for its runs; each graph has a default one."


class AssistantVersion(Shape):
    """One version of an assistant. A version never changes."""

    assistant_id: UUID
    graph_id: str
    config: dict[str, Any]
    context: dict[str, Any]
    metadata: dict[str, Any]
    name: str
    created_at: datetime
    version: int
    description: str | None


class Assistant(AssistantVersion):
    """A graph with a configuration for its runs."""

    updated_at: datetime


class AssistantPart(Assistant):
    """The requested keys of an assistant."""

    model_config = PART


class GraphNode(Shape):
    id: str | int
    type: str | None = None
    data: Any = None
    metadata: Any = None


class GraphEdge(Shape):
    source: str | int
    target: str | int
    data: Any = None
    conditional: bool = False


class GraphDrawing(Shape):
    """A graph as nodes and edges."""

    nodes: list[GraphNode]
    edges: list[GraphEdge]


class Schemas(Shape):
    """JSON schemas; null where there is none."""

    input_schema: dict[str, Any] | None
    output_schema: dict[str, Any] | None
    state_schema: dict[str, Any] | None
    config_schema: dict[str, Any] | None
    context_schema: dict[str, Any] | None


class GraphSchemas(Schemas):
    """A graph's JSON schemas; null where there is none."""

    graph_id: str


ONE = {
    "assistant_id": ASSISTANT,
    "graph_id": "agent",
    "config": {},
    "context": {},
    "metadata": {"created_by": "system"},
    "name": "agent",
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "version": 1,
    "description": None,
}
_SCHEMA = {"type": "object", "properties": {"messages": {"type": "array"}}}
SCHEMAS = {
    "input_schema": _SCHEMA,
    "output_schema": _SCHEMA,
    "state_schema": _SCHEMA,
    "config_schema": {},
    "context_schema": None,
}
_GIVES = {"assistant_id": "$response.body#/assistant_id"}
_SHOWN = Response("The assistant.", Assistant, ONE, gives=_GIVES)
BROKEN = (NotFound, GraphBroken, GraphSilent, NotAGraph, RunContextFailed)
"""What is said of whatever opens a graph."""
BY_NAME = {"description": "The id of an assistant or of a graph.", "schema": {"type": "string"}}
_BOOLEAN = {"type": "string", "enum": ["true", "True", "false", "False", ""]}
XRAY = {
    "description": "How many levels of subgraphs to draw; `true` draws all of them.",
    "schema": {
        "anyOf": [_BOOLEAN, {"type": "integer", "minimum": 1, "maximum": 999_999_999}],
        "default": "false",
    },
}
_SUBGRAPHS = Response(
    "The schemas by namespace: `child`, or `child|grandchild` for nested subgraphs.",
    dict[str, Schemas],
    {"child": SCHEMAS},
)
_RECURSE = {
    "recurse": {
        "description": "If `true`, nested subgraphs are included.",
        "example": "true",
    }
}
_NAMESPACE = {
    "namespace": {"description": "The namespace of a subgraph: return only this one.", "example": "child"}
}
_CONFIGURED = {
    "graph_id": "agent",
    "name": "brief",
    "context": {"model": "small"},
    "metadata": {"team": "support"},
}

OPERATIONS: Mapping[str, Operation] = {
    "POST /assistants": Operation(
        id="create_assistant",
        responses={200: _SHOWN},
        errors=(BadRequest, NotFound, Conflict),
        bodies={"a graph with a context": _CONFIGURED},
    ),
    "POST /assistants/search": Operation(
        id="search_assistants",
        responses={200: page(AssistantPart, ONE)},
        errors=(NotFound, PageTooLarge),
        bodies={"by metadata": {"metadata": {"created_by": "system"}, "limit": 10, "sort_by": "name"}},
    ),
    "POST /assistants/count": Operation(
        id="count_assistants",
        responses={200: Response("The number of matches.", int, 3)},
        errors=(NotFound,),
        bodies={"of a graph": {"graph_id": "agent"}},
    ),
    "GET /assistants/{assistant_id}": Operation(
        id="get_assistant", responses={200: _SHOWN}, errors=(NotFound,)
    ),
    "PATCH /assistants/{assistant_id}": Operation(
        id="update_assistant",
        responses={200: _SHOWN},
        errors=(BadRequest, NotFound),
        bodies={"another context": {"context": {"model": "large"}}},
    ),
    "DELETE /assistants/{assistant_id}": Operation(
        id="delete_assistant",
        responses={204: NO_CONTENT},
        errors=(NotFound,),
        parameters={
            "delete_threads": {
                "description": "Not supported: delete the threads one by one.",
                "schema": {"type": "boolean", "const": False, "default": False},
            }
        },
    ),
    "POST /assistants/{assistant_id}/versions": Operation(
        id="list_assistant_versions",
        responses={
            200: Response(
                "The versions, newest first.",
                list[AssistantVersion],
                [{name: value for name, value in ONE.items() if name != "updated_at"}],
            )
        },
        errors=(NotFound, PageTooLarge),
        bodies={"the newest": {"limit": 1}},
    ),
    "POST /assistants/{assistant_id}/latest": Operation(
        id="set_latest_assistant_version",
        responses={200: _SHOWN},
        errors=(NotFound,),
        bodies={"the first": {"version": 1}},
    ),
    "GET /assistants/{assistant_id}/graph": Operation(
        id="get_assistant_graph",
        responses={
            200: Response(
                "The drawing.",
                GraphDrawing,
                {
                    "nodes": [
                        {"id": "__start__", "type": "runnable", "data": {"name": "__start__"}},
                        {"id": "__end__"},
                    ],
                    "edges": [{"source": "__start__", "target": "__end__"}],
                },
            )
        },
        errors=BROKEN,
        parameters={
            "assistant_id": BY_NAME,
            "xray": XRAY,
        },
    ),
    "GET /assistants/{assistant_id}/schemas": Operation(
        id="get_assistant_schemas",
        responses={200: Response("The schemas.", GraphSchemas, {"graph_id": "agent", **SCHEMAS})},
        errors=BROKEN,
    ),
    "GET /assistants/{assistant_id}/subgraphs": Operation(
        id="get_assistant_subgraphs",
        responses={200: _SUBGRAPHS},
        errors=BROKEN,
        parameters={**_RECURSE, **_NAMESPACE},
    ),
    "GET /assistants/{assistant_id}/subgraphs/{namespace}": Operation(
        id="get_assistant_subgraph",
        responses={200: _SUBGRAPHS},
        errors=BROKEN,
        parameters={**_RECURSE, **_NAMESPACE},
    ),
}
