"""Items: put, read, found, expired; what a client puts is what the nodes of its runs see."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from langgraph.store.base import PutOp, SearchOp
from support.api import Api

from slackwater.errors import SettingsError
from slackwater.kit.labels import label_of
from slackwater.runtime.execution.store import GatedStore

PLACE = {"namespace": ["docs", "a"], "key": "k"}


async def put(http: httpx.AsyncClient, namespace: list[str], key: str, value: Any, **more: Any) -> None:
    answer = await http.put("/store/items", json={"namespace": namespace, "key": key, "value": value, **more})
    assert (answer.status_code, answer.content) == (204, b"")


async def get(http: httpx.AsyncClient, namespace: str, key: str, **params: Any) -> Any:
    answer = await http.get("/store/items", params={"namespace": namespace, "key": key, **params})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def keys(http: httpx.AsyncClient, namespace: list[str] | None, **query: Any) -> list[str]:
    answer = await http.post("/store/items/search", json={"namespace_prefix": namespace, **query})
    assert answer.status_code == 200, answer.text
    return [item["key"] for item in answer.json()["items"]]


async def names(http: httpx.AsyncClient, **query: Any) -> list[str]:
    answer = await http.post("/store/namespaces", json=query)
    assert answer.status_code == 200, answer.text
    return [".".join(namespace) for namespace in answer.json()["namespaces"]]


async def test_an_item_is_put_read_written_over_and_deleted(http: httpx.AsyncClient) -> None:
    assert await get(http, "docs.a", "k") is None
    await put(http, ["docs", "a"], "k", {"x": 1, "y": ["a", None, {"z": 2**60}], "text": "ä%_\\"})
    item = await get(http, "docs.a", "k")
    assert item["value"] == {"x": 1, "y": ["a", None, {"z": 2**60}], "text": "ä%_\\"}
    assert set(item) == {"namespace", "key", "value", "created_at", "updated_at"}
    assert (item["namespace"], item["key"]) == (["docs", "a"], "k")
    assert item["created_at"].endswith("+00:00")

    await put(http, ["docs", "a"], "k", {"x": 2})
    later = await get(http, "docs.a", "k")
    assert (later["value"], later["created_at"]) == ({"x": 2}, item["created_at"])
    assert later["updated_at"] > item["updated_at"]

    for _ in range(2):
        answer = await http.request("DELETE", "/store/items", json=PLACE)
        assert (answer.status_code, answer.content) == (204, b"")
    assert await get(http, "docs.a", "k") is None


async def test_a_search_finds_what_its_filter_says(http: httpx.AsyncClient) -> None:
    values: dict[str, dict[str, Any]] = {
        "nine": {"n": 9, "t": "b", "o": {"p": 1}},
        "ten": {"n": 10, "t": "a", "o": {"p": 2}},
        "text": {"n": "9", "t": None},
        "bare": {},
    }
    for key, value in values.items():
        await put(http, ["f"], key, value)

    async def found(filter_: dict[str, Any]) -> set[str]:
        return set(await keys(http, ["f"], filter=filter_))

    assert await found({"n": 9}) == {"nine"}
    assert await found({"n": {"$eq": "9"}}) == {"text"}
    assert await found({"n": {"$ne": 9}}) == {"ten", "text", "bare"}
    assert await found({"n": {"$gt": 9}}) == {"ten"}
    assert await found({"n": {"$gte": 9}}) == {"nine", "ten"}
    assert await found({"n": {"$lt": 10}}) == {"nine"}
    assert await found({"n": {"$gt": 8.5, "$lte": 9}}) == {"nine"}
    assert await found({"t": {"$gt": "a"}}) == {"nine"}
    assert await found({"o": {"p": 2}}) == {"ten"}
    assert await found({"o": {"p": 2}, "n": 9}) == set()
    assert await found({}) == set(values)


async def test_a_search_answers_in_pages_the_last_written_first(http: httpx.AsyncClient) -> None:
    for number in range(12):
        await put(http, ["p", f"{number % 2}"], str(number), {})
    await put(http, ["pp"], "another", {})

    assert await keys(http, ["p"]) == [str(number) for number in range(11, 1, -1)]
    assert await keys(http, ["p"], limit=0, offset=None) == await keys(http, ["p"])
    assert await keys(http, ["p"], limit=5, offset=10) == ["1", "0"]
    assert await keys(http, ["p", "1"], limit=2) == ["11", "9"]
    assert len(await keys(http, None, limit=100)) == len(await keys(http, [], limit=100)) == 13
    (item,) = (await http.post("/store/items/search", json={"namespace_prefix": ["pp"]})).json()["items"]
    assert (item["score"], item["namespace"]) == (None, ["pp"])


async def test_namespaces_are_listed_by_their_beginning_their_end_and_their_depth(
    http: httpx.AsyncClient,
) -> None:
    for namespace in ("a.b.c", "a.b.d", "a.x", "b.c", "c", "a_.b"):
        await put(http, namespace.split("."), "k", {})

    assert await names(http) == ["a.b.c", "a.b.d", "a.x", "a_.b", "b.c", "c"]
    assert await names(http, prefix=["a"]) == ["a.b.c", "a.b.d", "a.x"]
    assert await names(http, suffix=["c"]) == ["a.b.c", "b.c", "c"]
    assert await names(http, suffix=["b", "c"]) == ["a.b.c", "b.c"]
    assert await names(http, suffix=["*", "c"]) == ["a.b.c", "b.c"]
    assert await names(http, prefix=["*", "b"]) == ["a.b.c", "a.b.d", "a_.b"]
    assert await names(http, prefix=["a"], suffix=["d"]) == ["a.b.d"]
    assert await names(http, max_depth=1) == ["a", "a_", "b", "c"]
    assert await names(http, max_depth=2, limit=2, offset=1) == ["a.x", "a_.b"]
    assert await names(
        http, limit=None, offset=None, prefix=None, suffix=None, max_depth=None
    ) == await names(http)


async def test_wrong_requests_say_what_is_wrong(http: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    item = {**PLACE, "value": {}}
    wrong: list[tuple[int, str, dict[str, Any]]] = [
        (422, "must be a non-empty string without periods", {"namespace": ["a.b"]}),
        (422, "must be a non-empty string without periods", {"namespace": ["a", ""]}),
        (422, "namespace", {"namespace": "a"}),
        (422, "namespace", {"namespace": [1]}),
        (422, "namespace", {"namespace": None}),
        (400, "Namespace cannot be empty.", {"namespace": []}),
        (400, 'Root label for namespace cannot be "langgraph"', {"namespace": ["langgraph", "a"]}),
        (400, "Key is required", {"key": ""}),
        (422, "key", {"key": 1}),
        (422, "too long", {"key": "k" * 2001}),
        (422, "too long", {"namespace": ["ä" * 600, "b" * 900]}),
        (422, "value", {"value": []}),
        (422, "value", {"value": None}),
        (422, "index", {"index": True}),
        (422, "index", {"index": "text"}),
        (422, "index", {"index": [""]}),
        (422, "ttl", {"ttl": 0}),
        (422, "ttl", {"ttl": -1}),
        (422, "ttl", {"ttl": "5"}),
        (422, "ttl", {"ttl": True}),
        (422, "ttl", {"ttl": 1e300}),
    ]
    for status, words, change in wrong:
        with subtests.test(change=change):
            answer = await http.put("/store/items", json={**item, **change})
            assert answer.status_code == status, answer.text
            assert words in answer.json()["detail"]
    searches: list[tuple[int, dict[str, Any]]] = [
        (400, {"filter": {"a": {"$regex": "x"}}}),
        (400, {"filter": {"a": {"$gt": None}}}),
        (400, {"filter": {"a": {"$lt": True}}}),
        (400, {"filter": {"a": {"$gt": [1]}}}),
        (422, {"filter": []}),
        (422, {"limit": -1}),
        (422, {"limit": "10"}),
        (422, {"limit": 10_001}),
        (422, {"offset": -1}),
        (422, {"offset": 2**63}),
        (422, {"namespace_prefix": ["a.b"]}),
        (422, {"query": 1}),
        (422, {"refresh_ttl": "maybe"}),
    ]
    for status, change in searches:
        with subtests.test(search=change):
            answer = await http.post("/store/items/search", json={"namespace_prefix": [], **change})
            assert (answer.status_code, set(answer.json())) == (status, {"detail"})
    for change in ({"prefix": ["a."]}, {"suffix": [""]}, {"max_depth": 0}, {"limit": -1}, {"prefix": "a"}):
        with subtests.test(namespaces=change):
            assert (await http.post("/store/namespaces", json=change)).status_code == 422
    for status, query in (
        (400, "namespace=a"),
        (422, "key=k"),
        (422, "namespace=a..b&key=k"),
        (422, "namespace=a%00&key=k"),
        (422, "namespace=a&key=k%00"),
        (422, "namespace=a&key=k&refresh_ttl=maybe"),
    ):
        with subtests.test(query=query):
            assert (await http.get(f"/store/items?{query}")).status_code == status
    for body in ({"key": "k", "namespace": ["a.b"]}, {"namespace": ["a"]}):
        assert (await http.request("DELETE", "/store/items", json=body)).status_code == 422
    assert await names(http) == []


async def test_the_longest_place_can_be_written(http: httpx.AsyncClient) -> None:
    namespace, key = (
        ["".join(chr(0x4E00 + n) for n in range(330))],
        "".join(chr(0x5000 + n) for n in range(330)),
    )
    await put(http, namespace, key, {})
    assert await keys(http, []) == [key]


async def test_what_clients_put_is_what_nodes_see_and_the_other_way_round(http: httpx.AsyncClient) -> None:
    await put(http, ["graph-memory", "ann"], "k", {"v": "from the client"})

    for graph_input, previous, count in (
        ({"user": "ann", "key": "k", "value": "from the node"}, {"v": "from the client"}, 1),
        ({"user": "ann", "key": "other", "value": 1}, None, 2),
    ):
        run = {"assistant_id": "store", "input": graph_input}
        values = (await http.post("/runs/wait", json=run)).json()
        assert (values["previous"], values["count"]) == (previous, count)

    assert (await get(http, "graph-memory.ann", "k"))["value"] == {"v": "from the node"}
    assert await names(http) == ["graph-memory.ann"]


async def rows(api: Api) -> list[Any]:
    return await api.database.fetch("select key, expires_at, ttl_minutes from store order by key")


async def age(api: Api, minutes: int) -> None:
    await api.database.execute(
        "update store set expires_at = expires_at - make_interval(mins => %s)", (minutes,)
    )


async def test_an_item_expires_and_a_reader_keeps_it(api: Api, http: httpx.AsyncClient) -> None:
    for key, ttl in (("short", 1.5), ("long", 10), ("ever", None)):
        await put(http, ["t"], key, {}, ttl=ttl)
    assert [(row["key"], row["ttl_minutes"]) for row in await rows(api)] == [
        ("ever", None),
        ("long", 10),
        ("short", 2),
    ]
    # WHEN nine minutes pass, and somebody reads one of them without keeping it, or keeps it
    await age(api, 9)
    assert await get(http, "t", "short") is None
    assert set(await keys(http, ["t"], refresh_ttl=False)) == {"long", "ever"}
    await get(http, "t", "long", refresh_ttl="false")
    before = (await rows(api))[1]["expires_at"]
    await get(http, "t", "long")
    assert (await rows(api))[1]["expires_at"] > before
    await age(api, 9)
    assert set(await keys(http, ["t"])) == {"long", "ever"}
    await age(api, 9)
    assert set(await keys(http, ["t"], refresh_ttl=False)) == {"long", "ever"}
    # THEN at the end it is gone, and the sweep takes the rows away
    await age(api, 9)
    assert await keys(http, ["t"]) == ["ever"]
    assert await names(http) == ["t"]
    await api.services.runtime.sweep()
    assert [row["key"] for row in await rows(api)] == ["ever"]


async def test_the_project_says_how_long_items_live(serve: Any, tmp_path: Any) -> None:
    ttl = {"default_ttl": 5, "refresh_on_read": False, "sweep_interval_minutes": 1}
    async with serve(project=project(tmp_path, {"ttl": ttl})) as api:
        http = api.client()
        await put(http, ["t"], "default", {})
        await put(http, ["t"], "ever", {}, ttl=None)
        await put(http, ["t"], "own", {}, ttl=7)
        before = await rows(api)
        assert [row["ttl_minutes"] for row in before] == [5, None, 7]
        await get(http, "t", "own")
        assert await rows(api) == before
        await get(http, "t", "own", refresh_ttl="true")
        assert await rows(api) != before


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ({"path": "./mine.py:store"}, "store.path"),
        ([1], "store must be an object"),
        ({"ttl": {"default_ttl": "5"}}, "default_ttl"),
        ({"ttl": {"refresh_on_read": 1}}, "refresh_on_read"),
        ({"index": {"dims": 0, "embed": "a:b"}}, "dims"),
        ({"index": {"dims": 3, "embed": "nothing"}}, "embed"),
        ({"index": {"dims": 3, "embed": "a:b", "fields": "text"}}, "fields"),
        ({"index": {"dims": 3, "embed": "a:b", "distance_type": "far"}}, "distance_type"),
    ],
)
async def test_a_project_that_asks_for_another_store_does_not_start(
    serve: Any, tmp_path: Any, store: Any, words: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        async with serve(project=project(tmp_path, store)):
            pass
    assert words in caught.value.message


def test_no_two_owners_have_a_label_in_common() -> None:
    owners = ["a", "A", "a.b", "a%2Eb", "@a", "*", "#", "a" * 300, "a" * 301, "jwt:ä", "iam:arn:aws/x", "a b"]
    labels = [label_of(owner) for owner in owners]
    assert len(set(labels)) == len(owners)
    assert all(label.startswith("@") and "." not in label and len(label) <= 200 for label in labels)


def project(folder: Any, store: Any) -> Any:
    (folder / "agent.py").write_text(
        "from langgraph.graph import StateGraph\ngraph = StateGraph(dict).add_node('a', lambda s: s).set_entry_point('a').compile()\n"
    )
    (folder / "langgraph.json").write_text(
        json.dumps({"graphs": {"agent": "./agent.py:graph"}, "store": store})
    )
    return folder


async def test_a_page_is_whole_while_others_write(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = [f"{number:02}" for number in range(30)]
    for key in every:
        await put(http, ["notes"], key, {"n": key})
    carried_out = GatedStore._carried_out

    async def before_a_put(self: GatedStore, given: list[Any]) -> list[Any]:
        results = await carried_out(self, given)
        if isinstance(given[0], SearchOp):
            await carried_out(self, [PutOp(given[0].namespace_prefix, "later", {})])
        return results

    monkeypatch.setattr(GatedStore, "_carried_out", before_a_put)
    assert await keys(http, ["notes"], limit=30) == every[::-1]


async def test_a_page_that_is_too_large_is_refused_and_nothing_of_it_stays(http: httpx.AsyncClient) -> None:
    for number in range(7):
        await put(http, ["large"], str(number), {"text": "x" * 3_500_000})
    answer = await http.post("/store/items/search", json={"namespace_prefix": ["large"], "limit": 10})
    assert (answer.status_code, "limit" in answer.json()["detail"]) == (422, True)
    for _ in range(12):  # every connection of the pool serves as before
        assert await keys(http, ["large"], limit=2) == ["6", "5"]
