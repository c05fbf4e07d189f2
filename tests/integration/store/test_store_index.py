"""Search by meaning: an embedding of the project's own, pgvector, and what is said when one of them is missing."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.api import Api

from slackwater.errors import GraphImportError, SchemaError
from slackwater.postgres import schema, vectors

EMBED = """
calls = []

def embed(texts):
    calls.append(list(texts))
    return [[float(text.count(letter)) for letter in "abc"] + [0.1] for text in texts]
"""

AGENT = """
from langgraph.graph import StateGraph

async def find(state, *, store):
    await store.aput(("docs",), "node", {"text": "cc", "other": "aaaa"})
    found = await store.asearch(("docs",), query=state["query"], limit=2)
    return {"found": [item.key for item in found], "scores": [item.score for item in found]}

graph = StateGraph(dict).add_node("find", find).set_entry_point("find").compile()
"""

INDEX = {"dims": 4, "embed": "./embed.py:embed", "fields": ["text"]}


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    def project(**change: Any) -> Path:
        (tmp_path / "embed.py").write_text(EMBED)
        (tmp_path / "agent.py").write_text(AGENT)
        content = {"graphs": {"agent": "./agent.py:graph"}, "store": {"index": {**INDEX, **change}}}
        (tmp_path / "langgraph.json").write_text(json.dumps(content))
        return tmp_path

    return project


@pytest.fixture
async def api(serve: Any, project: Callable[..., Path], database_uri: str) -> AsyncIterator[Api]:
    assert await schema.migrate(database_uri, 4) == [vectors.NAME]
    assert await schema.migrate(database_uri, 4) == []
    async with serve(project=project(), names=("alice", "bob")) as api:
        yield api


async def put(http: httpx.AsyncClient, key: str, text: Any, **more: Any) -> None:
    body = {"namespace": ["docs"], "key": key, "value": {"text": text, "size": len(text)}, **more}
    assert (await http.put("/store/items", json=body)).status_code == 204


async def found(http: httpx.AsyncClient, query: str, **more: Any) -> list[tuple[str, float]]:
    body = {"namespace_prefix": ["docs"], "query": query, **more}
    answer = await http.post("/store/items/search", json=body)
    assert answer.status_code == 200, answer.text
    return [(item["key"], item["score"]) for item in answer.json()["items"]]


async def test_the_most_similar_are_found_among_ones_own(api: Api) -> None:
    alice, bob = api.client("alice"), api.client("bob")
    for key, text in (("a", "aaa"), ("b", "bbb"), ("ab", "ab")):
        await put(alice, key, text)
    await put(alice, "hidden", "aaa", index=False)
    for number in range(60):  # more than an index over everybody's vectors would look at
        await put(bob, f"his{number}", "aaa")

    assert [key for key, _ in await found(alice, "aaa")] == ["a", "ab", "b"]
    best, *others = await found(alice, "aaa")
    assert best[1] == pytest.approx(1.0)
    assert all(score < 1 for _, score in others)
    assert [key for key, _ in await found(alice, "aaa", limit=1, offset=1)] == ["ab"]
    assert [key for key, _ in await found(alice, "aaa", filter={"size": {"$lt": 3}})] == ["ab"]
    assert [key for key, _ in await found(bob, "b", limit=1)] != ["b"]
    # Without a query: as ever, the last written first.
    plain = await alice.post("/store/items/search", json={"namespace_prefix": []})
    assert [(item["key"], item["score"]) for item in plain.json()["items"]] == [
        ("hidden", None),
        ("ab", None),
        ("b", None),
        ("a", None),
    ]
    # What is deleted, or says something else, is found no more.
    await alice.request("DELETE", "/store/items", json={"namespace": ["docs"], "key": "a"})
    await put(alice, "ab", "ccc")
    assert [key for key, _ in await found(alice, "ccc", limit=1)] == ["ab"]


async def test_an_item_says_which_of_its_fields_are_looked_at(api: Api) -> None:
    alice = api.client("alice")
    value = {"text": "aaa", "notes": ["bbb", "ccc"]}
    body = {"namespace": ["docs"], "key": "k", "value": value, "index": ["notes[*]"]}
    await alice.put("/store/items", json=body)

    ((key, score),) = await found(alice, "ccc")
    assert (key, score) == ("k", pytest.approx(1.0))


async def test_nodes_search_and_fill_the_same_index(api: Api) -> None:
    alice = api.client("alice")
    await put(alice, "a", "aaa")
    values = (await alice.post("/runs/wait", json={"assistant_id": "agent", "input": {"query": "c"}})).json()

    assert values["found"] == ["node", "a"]
    assert values["scores"][0] > 0.9
    assert [key for key, _ in await found(alice, "c")] == ["node", "a"]


async def test_a_provider_is_not_asked_while_a_connection_waits(api: Api) -> None:
    in_use: list[int] = []

    def embed(texts: list[str]) -> list[list[float]]:
        in_use.append(api.database.gate.in_flight)
        return [[1.0, 0.0, 0.0, 0.0] for _ in texts]

    api.services.runtime.store._model.func = embed  # type: ignore[union-attr]
    await put(api.client("alice"), "a", "aaa")
    await found(api.client("alice"), "a")
    assert in_use == [0, 0]


async def test_a_database_without_a_place_for_vectors_stops_the_start(
    serve: Any, project: Callable[..., Path], database_uri: str
) -> None:
    with pytest.raises(SchemaError, match="has no table for it: run `slackwater migrate`"):
        async with serve(project=project()):
            pass
    await schema.migrate(database_uri, 4)
    with pytest.raises(SchemaError, match=r"vectors have 4 dimensions, but store\.index\.dims is 5"):
        async with serve(project=project(dims=5)):
            pass


async def test_a_server_without_pgvector_is_told_in_a_sentence(
    database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = vectors._AVAILABLE.replace("'vector'", "'no_such_extension'")
    monkeypatch.setattr(vectors, "_AVAILABLE", missing)
    with pytest.raises(SchemaError, match="this Postgres has no pgvector: install its extension"):
        await schema.migrate(database_uri, 4)


@pytest.mark.parametrize(
    ("embed", "words"),
    [("./nowhere.py:embed", "nowhere.py"), ("./embed.py:nothing", "has no 'nothing'")],
)
async def test_an_embedding_that_does_not_import_stops_the_start(
    serve: Any, project: Callable[..., Path], database_uri: str, embed: str, words: str
) -> None:
    await schema.migrate(database_uri, 4)
    with pytest.raises(GraphImportError) as caught:
        async with serve(project=project(embed=embed)):
            pass
    assert "store.index.embed" in caught.value.message
    assert words in caught.value.message


async def test_a_provider_without_langchain_stops_the_start(
    serve: Any, project: Callable[..., Path], database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "langchain"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "langchain", None)
    await schema.migrate(database_uri, 4)
    with pytest.raises(
        GraphImportError, match=r"store.index.embed \(openai:text-embedding-3-small\).*langchain"
    ):
        async with serve(project=project(embed="openai:text-embedding-3-small")):
            pass


async def test_a_search_finds_all_that_it_may_however_large_they_are(api: Api) -> None:
    alice, calls = api.client("alice"), []
    embed = api.services.runtime.store._model.func  # type: ignore[union-attr]
    api.services.runtime.store._model.func = lambda texts: calls.append(texts) or embed(texts)  # type: ignore[union-attr]
    for number in range(20):
        body = {
            "namespace": ["docs"],
            "key": f"{number:02}",
            "value": {"text": "a" + "b" * number, "large": "x" * 300_000},
        }
        assert (await alice.put("/store/items", json=body)).status_code == 204
    calls.clear()

    every = [f"{number:02}" for number in range(20)]
    assert [key for key, _ in await found(alice, "aaa", limit=20)] == every
    # AND what is looked for is made a vector once
    assert calls == [["aaa"]]
