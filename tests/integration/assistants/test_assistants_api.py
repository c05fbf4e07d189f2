from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from slackwater.api.assistants import service

Client = Callable[..., httpx.AsyncClient]

UNKNOWN = "00000000-0000-4000-8000-000000000000"
KEYS = [
    "assistant_id",
    "graph_id",
    "config",
    "context",
    "metadata",
    "name",
    "created_at",
    "updated_at",
    "version",
    "description",
]


async def make(http: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await http.post("/assistants", json={"graph_id": "flow", **body})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def detail(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    (text,) = answer.json().values()
    assert isinstance(text, str)
    return text


# --------------------------------------------------------------------------------------------------- create, get


async def test_an_assistant_is_made_with_all_its_keys_and_read_again(http: httpx.AsyncClient) -> None:
    made = await make(http, metadata={"team": "red"}, name="One", description="First.")

    assert list(made) == KEYS
    assert UUID(made["assistant_id"]).version == 4
    assert (made["graph_id"], made["name"], made["description"], made["version"]) == (
        "flow",
        "One",
        "First.",
        1,
    )
    assert (made["config"], made["context"], made["metadata"]) == ({}, {}, {"team": "red"})
    assert datetime.fromisoformat(made["created_at"]).utcoffset() is not None
    assert (await http.get(f"/assistants/{made['assistant_id']}")).json() == made


async def test_without_a_name_it_is_untitled(http: httpx.AsyncClient) -> None:
    assert (await make(http))["name"] == "Untitled"


async def test_config_and_context_mirror_each_other(http: httpx.AsyncClient) -> None:
    by_context = await make(http, context={"prefix": "<"}, config={"tags": ["a"], "recursion_limit": 7})
    by_config = await make(http, config={"configurable": {"prefix": ">"}})

    assert by_context["config"] == {"tags": ["a"], "recursion_limit": 7, "configurable": {"prefix": "<"}}
    assert (by_config["config"], by_config["context"]) == ({"configurable": {"prefix": ">"}}, {"prefix": ">"})


async def test_giving_both_config_and_context_is_refused(http: httpx.AsyncClient) -> None:
    body = {"graph_id": "flow", "config": {"configurable": {"a": 1}}, "context": {"a": 1}}

    assert detail(await http.post("/assistants", json=body), 400) == service.CONFIG_OR_CONTEXT


async def test_an_id_is_given_out_once(http: httpx.AsyncClient) -> None:
    made = await make(http, assistant_id=str(uuid4()), metadata={"a": 1})
    body = {"graph_id": "flow", "assistant_id": made["assistant_id"], "metadata": {"b": 2}}
    taken = f"Assistant {made['assistant_id']} already exists"

    assert detail(await http.post("/assistants", json=body), 409) == taken
    assert detail(await http.post("/assistants", json={**body, "if_exists": "raise"}), 409) == taken
    assert (await http.post("/assistants", json={**body, "if_exists": "do_nothing"})).json() == made


async def test_reserved_keys_are_dropped(http: httpx.AsyncClient) -> None:
    made = await make(
        http,
        metadata={"run_id": "x", "kept": 1},
        config={"configurable": {"langgraph_auth_user": {"identity": "root"}, "kept": 2}},
    )

    assert made["metadata"] == {"kept": 1}
    assert made["config"]["configurable"] == made["context"] == {"kept": 2}


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"graph_id": "nope"}, 404, "Graph 'nope' not found. Expected one of: ['factory', 'flow']"),
        ({"name": "x"}, 422, "graph_id: Field required"),
        ({"graph_id": 7}, 422, "graph_id"),
        ({"graph_id": "flow", "assistant_id": "x"}, 422, "assistant_id"),
        ({"graph_id": "flow", "if_exists": "maybe"}, 422, "if_exists"),
        ({"graph_id": "flow", "metadata": None}, 422, "metadata"),
        ({"graph_id": "flow", "config": None}, 422, "config"),
        ({"graph_id": "flow", "config": {"tags": "x"}}, 422, "tags"),
        ({"graph_id": "flow", "config": {"configurable": []}}, 422, "configurable"),
    ],
)
async def test_a_wrong_body_is_refused_and_nothing_is_made(
    http: httpx.AsyncClient, body: dict[str, Any], status: int, text: str
) -> None:
    before = (await http.post("/assistants/count", json={})).json()

    assert text in detail(await http.post("/assistants", json=body), status)
    assert (await http.post("/assistants/count", json={})).json() == before


@pytest.mark.parametrize("content", [b"", b"{", b'{"graph_id": "\xff"}'])
async def test_what_is_not_json_is_refused(http: httpx.AsyncClient, content: bytes) -> None:
    answer = await http.post("/assistants", content=content, headers={"content-type": "application/json"})

    assert detail(answer, 422) == "Invalid JSON in request body"


async def test_nul_in_a_text_is_replaced(http: httpx.AsyncClient) -> None:
    made = await make(http, name="a\x00b", metadata={"a": "\x00"})

    assert (made["name"], made["metadata"]) == ("a\ufffdb", {"a": "\ufffd"})


@pytest.mark.parametrize("path", ["", "/graph", "/schemas", "/subgraphs", "/subgraphs/child"])
async def test_an_unknown_assistant_is_a_404_and_a_wrong_id_a_422(http: httpx.AsyncClient, path: str) -> None:
    assert detail(await http.get(f"/assistants/{UNKNOWN}{path}"), 404) == "Not Found"
    assert detail(await http.get(f"/assistants/nope{path}"), 422) == "Invalid assistant ID: must be a UUID"


async def test_an_assistant_whose_graph_is_gone_is_absent(
    http: httpx.AsyncClient, running: Any, load: Callable[..., Any]
) -> None:
    made = await make(http)
    running.graphs = load({"factory": "./graphs.py:factory"})

    answer = await http.get(f"/assistants/{made['assistant_id']}")

    assert detail(answer, 404) == f"assistant {made['assistant_id']} not found"
    assert [row["graph_id"] for row in (await http.post("/assistants/search", json={})).json()] == ["factory"]


# ------------------------------------------------------------------------------------------------- search, count


async def found(http: httpx.AsyncClient, **body: Any) -> list[Any]:
    answer = await http.post("/assistants/search", json=body)
    assert answer.status_code == 200, answer.text
    rows: list[Any] = answer.json()
    assert (await http.post("/assistants/count", json=body)).json() >= len(rows)
    return rows


async def test_search_filters_by_metadata_graph_and_name(http: httpx.AsyncClient) -> None:
    one = await make(http, name="Zebra 100%", metadata={"tag": "t", "deep": {"a": 1, "b": 2}})
    two = await make(http, name="Other", metadata={"tag": "t"}, graph_id="factory")

    assert await found(http, metadata={"tag": "t"}) == [two, one]
    assert await found(http, metadata={"deep": {"a": 1}}) == [one]
    assert await found(http, metadata={"tag": "t"}, graph_id="factory") == [two]
    assert await found(http, name="zebra 1") == [one]
    assert await found(http, name="0%") == [one]
    assert await found(http, name="_") == []
    assert (await http.post("/assistants/count", json={"metadata": {"tag": "t"}})).json() == 2


async def test_the_systems_assistants_are_found_by_their_metadata(http: httpx.AsyncClient) -> None:
    (system,) = await found(http, graph_id="flow", metadata={"created_by": "system"})

    assert (system["assistant_id"], system["name"]) == (str(service.system_id("flow")), "Flow")
    assert (await http.get(f"/assistants/{system['assistant_id']}")).json() == system


async def test_search_sorts_names_without_regard_to_case(http: httpx.AsyncClient) -> None:
    for name in ("b", "A", "C"):
        await make(http, name=name, metadata={"tag": "t"})

    async def names(**body: Any) -> list[Any]:
        return [row["name"] for row in await found(http, metadata={"tag": "t"}, **body)]

    assert await names(sort_by="name", sort_order="asc") == ["A", "b", "C"]
    assert await names(sort_by="name") == ["C", "b", "A"]
    assert await names() == ["C", "A", "b"]
    assert await names(sort_by="created_at", sort_order="asc") == ["b", "A", "C"]
    for column in ("assistant_id", "graph_id", "updated_at"):
        assert len(await names(sort_by=column)) == 3


async def test_select_returns_exactly_these_keys(http: httpx.AsyncClient) -> None:
    assert await found(http, graph_id="flow", select=["name", "graph_id"]) == [
        {"name": "Flow", "graph_id": "flow"}
    ]


async def test_pages_name_the_next_one_and_a_lower_bound_of_the_total(http: httpx.AsyncClient) -> None:
    for _ in range(3):
        await make(http, metadata={"tag": "t"})

    async def page(offset: int) -> tuple[int, str | None, str | None]:
        body = {"metadata": {"tag": "t"}, "limit": 2, "offset": offset}
        answer = await http.post("/assistants/search", json=body)
        headers = answer.headers
        return len(answer.json()), headers.get("x-pagination-next"), headers.get("x-pagination-total")

    assert await page(0) == (2, "2", "3")
    assert await page(2) == (1, None, "3")
    assert await page(100) == (0, None, "100")


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 0},
        {"limit": 1001},
        {"limit": "x"},
        {"limit": "5"},
        {"limit": True},
        {"offset": -1},
        {"offset": 2**63},
        {"sort_by": "version"},
        {"sort_order": "up"},
        {"select": ["owner"]},
        {"metadata": []},
    ],
)
async def test_a_search_that_makes_no_sense_is_a_422(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    detail(await http.post("/assistants/search", json=body), 422)


async def test_searching_or_counting_those_of_an_unknown_graph_is_a_404(
    http: httpx.AsyncClient,
) -> None:
    for path in ("/assistants/search", "/assistants/count"):
        answer = await http.post(path, json={"graph_id": "nope"})

        assert detail(answer, 404) == "Graph 'nope' not found. Expected one of: ['factory', 'flow']"


# ------------------------------------------------------------------------------------------------- patch, delete


async def test_a_patch_merges_metadata_replaces_the_rest_and_makes_a_version(http: httpx.AsyncClient) -> None:
    made = await make(
        http, name="one", description="d", metadata={"a": 1, "b": {"c": 1}}, context={"prefix": "<"}
    )
    path = f"/assistants/{made['assistant_id']}"

    patched = (await http.patch(path, json={"name": "two", "metadata": {"b": {"d": 2}}})).json()

    assert (patched["version"], patched["name"], patched["description"]) == (2, "two", "d")
    assert patched["metadata"] == {"a": 1, "b": {"d": 2}}
    assert patched["context"] == {"prefix": "<"}
    assert patched["created_at"] == made["created_at"]
    assert (await http.get(path)).json() == patched
    assert (await http.patch(path, json={})).json()["version"] == 3
    assert (await http.patch(path, json={"description": None})).json()["description"] is None
    assert (await http.patch(path, json={"graph_id": "factory"})).json()["graph_id"] == "factory"


async def test_a_patch_mirrors_config_and_context(http: httpx.AsyncClient) -> None:
    made = await make(http, config={"tags": ["a"], "configurable": {"prefix": "1"}})

    async def patched(**body: Any) -> tuple[Any, Any]:
        row = (await http.patch(f"/assistants/{made['assistant_id']}", json=body)).json()
        return row["config"], row["context"]

    assert await patched(context={"p": "2"}) == ({"tags": ["a"], "configurable": {"p": "2"}}, {"p": "2"})
    assert await patched(config={"configurable": {"p": "3"}}) == ({"configurable": {"p": "3"}}, {"p": "3"})
    # As measured: without `configurable` the old context stays.
    assert await patched(config={"recursion_limit": 9}) == ({"recursion_limit": 9}, {"p": "3"})
    assert await patched(config={"tags": ["b"]}, context={"p": "4"}) == (
        {"tags": ["b"], "configurable": {"p": "4"}},
        {"p": "4"},
    )
    body = {"config": {"configurable": {"p": 1}}, "context": {"p": 1}}
    detail(await http.patch(f"/assistants/{made['assistant_id']}", json=body), 400)


async def test_a_patch_of_nothing_or_to_nothing_is_a_404(http: httpx.AsyncClient) -> None:
    made = await make(http)

    assert (
        detail(await http.patch(f"/assistants/{UNKNOWN}", json={}), 404) == f"Assistant {UNKNOWN} not found"
    )
    detail(await http.patch(f"/assistants/{made['assistant_id']}", json={"graph_id": "nope"}), 404)


async def test_a_deleted_assistant_is_gone(http: httpx.AsyncClient) -> None:
    path = f"/assistants/{(made := await make(http))['assistant_id']}"

    assert (await http.delete(path)).status_code == 204
    assert (await http.get(path)).status_code == 404
    assert detail(await http.delete(path), 404) == f"Assistant with ID {made['assistant_id']} not found"


async def test_deleting_threads_along_is_refused_rather_than_left_undone(http: httpx.AsyncClient) -> None:
    path = f"/assistants/{(await make(http))['assistant_id']}"

    assert "not supported" in detail(await http.delete(path, params={"delete_threads": "true"}), 422)
    assert (await http.get(path)).status_code == 200


# -------------------------------------------------------------------------------------------------- the graph


async def test_the_graph_is_drawn_by_the_assistants_id_or_its_graphs_name(http: httpx.AsyncClient) -> None:
    made = await make(http)

    drawn = (await http.get("/assistants/flow/graph")).json()

    assert drawn == (await http.get(f"/assistants/{made['assistant_id']}/graph")).json()
    assert {"id": "__start__", "type": "runnable", "data": {"name": "__start__"}} in drawn["nodes"]
    assert {"id": "__end__"} in drawn["nodes"]
    assert {"source": "node", "target": "child", "conditional": True} in drawn["edges"]


@pytest.mark.parametrize(
    ("xray", "inside"), [("true", True), ("True", True), ("1", True), ("false", False), ("False", False)]
)
async def test_xray_draws_the_inside_of_subgraphs(http: httpx.AsyncClient, xray: str, inside: bool) -> None:
    drawn = (await http.get("/assistants/flow/graph", params={"xray": xray})).json()

    assert ("child:leaf" in {node["id"] for node in drawn["nodes"]}) is inside


@pytest.mark.parametrize("xray", ["0", "-1", "1.5", "maybe", "²", "9" * 5000])
async def test_another_xray_is_a_422(http: httpx.AsyncClient, xray: str) -> None:
    assert (
        detail(await http.get("/assistants/flow/graph", params={"xray": xray}), 422) == "Invalid xray value"
    )


async def test_schemas_are_those_of_the_graph(http: httpx.AsyncClient) -> None:
    made = await make(http)

    schemas = (await http.get(f"/assistants/{made['assistant_id']}/schemas")).json()

    assert list(schemas) == [
        "graph_id",
        "input_schema",
        "output_schema",
        "state_schema",
        "config_schema",
        "context_schema",
    ]
    assert schemas["graph_id"] == "flow"
    assert schemas["input_schema"]["properties"]["text"]["type"] == "string"
    assert schemas["context_schema"]["properties"] == {"prefix": {"title": "Prefix", "type": "string"}}


async def test_subgraphs_have_schemas_too(http: httpx.AsyncClient) -> None:
    path = f"/assistants/{service.system_id('flow')}/subgraphs"

    every = (await http.get(path, params={"recurse": "true"})).json()

    assert list(every) == ["child"]
    assert "graph_id" not in every["child"]
    assert every["child"]["state_schema"]["properties"].keys() == {"text", "trail"}
    assert (await http.get(f"{path}/child")).json() == every
    assert (await http.get(f"{path}/gone")).json() == {}


async def test_a_factory_gets_the_assistants_config(http: httpx.AsyncClient) -> None:
    made = await make(http, graph_id="factory", config={"configurable": {"flavor": "lime"}})

    drawn = (await http.get(f"/assistants/{made['assistant_id']}/graph")).json()

    assert [node["id"] for node in drawn["nodes"]] == ["__start__", "lime", "__end__"]


# ------------------------------------------------------------------------------------------------------- owners


async def test_anothers_assistant_answers_exactly_like_an_absent_one(client: Client) -> None:
    alice, bob = client("alice"), client("bob")
    mine = (await make(alice, metadata={"tag": "t"}))["assistant_id"]

    for method, path in [
        ("GET", ""),
        ("GET", "/graph"),
        ("GET", "/schemas"),
        ("GET", "/subgraphs"),
        ("PATCH", ""),
        ("DELETE", ""),
    ]:
        body = {"json": {"name": "stolen"}} if method == "PATCH" else {}
        foreign = await bob.request(method, f"/assistants/{mine}{path}", **body)
        absent = await bob.request(method, f"/assistants/{UNKNOWN}{path}", **body)
        assert (foreign.status_code, foreign.text) == (404, absent.text.replace(UNKNOWN, mine))
    assert await found(bob, metadata={"tag": "t"}) == []
    assert (await bob.post("/assistants/count", json={"metadata": {"tag": "t"}})).json() == 0
    for if_exists in ("raise", "do_nothing"):
        taken = await bob.post(
            "/assistants", json={"graph_id": "flow", "assistant_id": mine, "if_exists": if_exists}
        )
        assert taken.status_code == 409
    (kept,) = await found(alice, metadata={"tag": "t"})
    assert kept["name"] == "Untitled"


@pytest.mark.parametrize("owner", ["alice", "system"])
async def test_nobody_changes_or_deletes_the_systems_assistants(client: Client, owner: str) -> None:
    http, path = client(owner), f"/assistants/{service.system_id('flow')}"

    assert (await http.patch(path, json={"context": {"prefix": "!"}})).status_code == 404
    assert (await http.delete(path)).status_code == 404
    assert (await http.get(path)).json()["version"] == 1
