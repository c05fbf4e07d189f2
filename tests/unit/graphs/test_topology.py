from __future__ import annotations

import operator
from typing import Annotated, Any

import pytest
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel
from typing_extensions import TypedDict  # pydantic makes no schema of the other before Python 3.12

from slackwater.errors import Invalid
from slackwater.graphs import topology


class State(TypedDict, total=False):
    text: str
    trail: Annotated[list[str], operator.add]


class Context(TypedDict):
    model: str


class Opaque:
    """A type without a JSON schema."""


class Model(BaseModel):
    number: int = 0


class Odd(TypedDict, total=False):
    copy: str
    model_config: int
    schema: Model
    opaque: Opaque


def touch(_: Any) -> State:
    return {"trail": ["here"]}


def chain(*nodes: tuple[str, Any]) -> Any:
    builder = StateGraph(State, context_schema=Context)
    for (name, node), before in zip(nodes, [START, *(name for name, _ in nodes)], strict=False):
        builder.add_node(name, node)
        builder.add_edge(before, name)
    return builder.add_edge(nodes[-1][0], END).compile(name="flow")


GRAPH = chain(("plain", touch), ("child", chain(("grand", chain(("leaf", touch))), ("aside", touch))))


def test_a_subgraph_is_found_by_the_names_of_its_nodes() -> None:
    child = topology.subgraph_at(GRAPH, ("child",))
    grand = topology.subgraph_at(GRAPH, ("child", "grand"))

    assert topology.subgraph_at(GRAPH, ()) is GRAPH
    assert child is not None
    assert set(child.nodes) == {"__start__", "grand", "aside"}
    assert grand is not None
    assert set(grand.nodes) == {"__start__", "leaf"}


@pytest.mark.parametrize("path", [("gone",), ("plain",), ("child", "aside"), ("child", "grand", "leaf")])
def test_where_no_subgraph_is_there_is_none(path: tuple[str, ...]) -> None:
    assert topology.subgraph_at(GRAPH, path) is None


async def test_subgraphs_are_listed_with_their_schemas() -> None:
    assert list(await topology.subgraphs(GRAPH, None, recurse=False)) == ["child"]
    assert list(await topology.subgraphs(GRAPH, None, recurse=True)) == ["child", "child|grand"]
    assert await topology.subgraphs(GRAPH, "gone", recurse=True) == {}
    found = await topology.subgraphs(GRAPH, "child|grand", recurse=True)
    assert list(found["child|grand"]) == [
        "input_schema",
        "output_schema",
        "state_schema",
        "config_schema",
        "context_schema",
    ]


def test_schemas_describe_input_output_state_and_context() -> None:
    schemas = topology.schemas(GRAPH)

    assert schemas["input_schema"]["properties"]["text"]["type"] == "string"
    assert schemas["state_schema"] == {
        "properties": {
            "text": {"default": None, "title": "Text", "type": "string"},
            "trail": {"default": None, "items": {"type": "string"}, "title": "Trail", "type": "array"},
        },
        "title": "flow_state",
        "type": "object",
    }
    assert schemas["context_schema"] == schemas["config_schema"]
    assert schemas["context_schema"]["required"] == ["model"]


def test_channels_with_any_name_and_any_type_have_a_place_in_the_state_schema() -> None:
    graph: Any = StateGraph(Odd).add_node("touch", touch).add_edge(START, "touch").compile()

    state = topology.schemas(graph)["state_schema"]

    assert list(state["properties"]) == ["copy", "model_config", "schema", "opaque"]
    assert state["properties"]["opaque"] == {"default": None, "title": "Opaque"}


def test_a_schema_that_cannot_be_made_is_null() -> None:
    graph: Any = StateGraph(Odd).add_node("touch", touch).add_edge(START, "touch").compile()
    schemas = topology.schemas(graph)

    assert schemas["input_schema"] is None
    assert schemas["config_schema"] == {}
    assert schemas["context_schema"] is None


def test_the_functional_api_has_a_topology_too() -> None:
    @entrypoint()
    def flow(number: int) -> str:
        return str(number)

    assert set(flow.nodes) == {"flow"}
    assert topology.schemas(flow)["input_schema"]["type"] == "integer"


async def test_a_drawing_has_nodes_and_edges_and_as_many_levels_as_asked_for() -> None:
    flat = await topology.drawing(GRAPH, False)
    one = await topology.drawing(GRAPH, 1)
    deep = await topology.drawing(GRAPH, True)

    assert flat["nodes"][0] == {"id": "__start__", "type": "runnable", "data": {"name": "__start__"}}
    assert {"id": "__end__"} in flat["nodes"]
    assert {"source": "plain", "target": "child"} in flat["edges"]
    assert {node["id"] for node in one["nodes"]} >= {"plain", "child:grand", "child:aside"}
    assert {node["id"] for node in deep["nodes"]} >= {"plain", "child:grand:leaf", "child:aside"}


async def test_a_graph_that_cannot_be_drawn_is_a_422() -> None:
    class Undrawable:
        async def aget_graph(self, **_: Any) -> Any:
            raise NotImplementedError

    with pytest.raises(Invalid, match="does not support visualization"):
        await topology.drawing(Undrawable(), False)  # type: ignore[arg-type]
