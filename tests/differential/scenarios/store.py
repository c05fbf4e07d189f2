"""The store: items, searches, namespaces, and what is refused."""

from __future__ import annotations

from tests.differential.scenario import scenario
from tests.differential.script import Script


@scenario("store.items")
async def items(s: Script) -> None:
    where = [s.tag.replace(".", "-"), "deep"]
    item = {"namespace": where, "key": "k", "value": {"a": 1, "text": "x"}}
    at = f"/store/items?namespace={'.'.join(where)}&key=k"
    await s.get(at)
    await s.put("/store/items", item)
    await s.get(at)
    await s.put("/store/items", {**item, "value": {"b": 2}})
    await s.get(at)
    await s.get(f"{at}&refresh_ttl=true")
    await s.put("/store/items", {**item, "key": "no index", "index": False})
    await s.put("/store/items", {**item, "key": "fields", "index": ["text"]})
    await s.put("/store/items", {**item, "key": "ttl", "ttl": 10})
    found = await s.ask("POST", "/store/items/search", {"namespace_prefix": where})
    # In no order that anybody has promised.
    s.note("POST /store/items/search", sorted(found["items"], key=lambda one: str(one["key"])))
    await s.delete("/store/items", {"namespace": where, "key": "k"})
    await s.get(at)
    await s.delete("/store/items", {"namespace": where, "key": "k"})
    s.note("sdk.store.put_item", await s.sdk.store.put_item(where, "sdk", {"v": 1}))
    s.note("sdk.store.get_item", await s.sdk.store.get_item(where, "sdk"))
    s.note("sdk.store.search_items", await s.sdk.store.search_items(where, filter={"v": 1}))
    await s.sdk.store.delete_item(where, "sdk")


@scenario("store.search")
async def search(s: Script) -> None:
    root = s.tag.replace(".", "-")
    for number in range(4):
        place = [root, "even" if number % 2 == 0 else "odd", str(number)]
        value = {"n": number, "kind": "thing", "deep": {"x": number}, "tags": ["a", str(number)]}
        await s.ask("PUT", "/store/items", {"namespace": place, "key": f"k{number}", "value": value})

    async def found(label: str, **body: object) -> None:
        answer = await s.ask("POST", "/store/items/search", body)
        shown = answer.body
        if isinstance(shown, dict) and "items" in shown:
            shown = sorted(item["key"] for item in shown["items"])
        s.note(f"search {label}", {"status": answer.status, "found": shown})

    await found("everything", namespace_prefix=[root])
    await found("even", namespace_prefix=[root, "even"])
    await found("nowhere", namespace_prefix=[root, "nowhere"])
    for label, condition in (
        ("equal", {"n": 1}),
        ("eq", {"n": {"$eq": 1}}),
        ("ne", {"n": {"$ne": 1}}),
        ("gt", {"n": {"$gt": 1}}),
        ("gte", {"n": {"$gte": 1}}),
        ("lt", {"n": {"$lt": 1}}),
        ("lte", {"n": {"$lte": 1}}),
        ("two", {"n": {"$gt": 0}, "kind": "thing"}),
        ("deep", {"deep": {"x": 1}}),
        ("missing", {"nothing": 1}),
        ("unknown operator", {"n": {"$near": 1}}),
    ):
        await found(label, namespace_prefix=[root], filter=condition)
    answer = await s.ask("POST", "/store/items/search", {"namespace_prefix": [root], "limit": 2})
    s.note("search limit 2", len(answer["items"]))
    answer = await s.ask("POST", "/store/items/search", {"namespace_prefix": [root], "limit": 2, "offset": 3})
    s.note("search offset 3", len(answer["items"]))
    await found("limit 0", namespace_prefix=[root], limit=0)
    await found("limit -1", namespace_prefix=[root], limit=-1)
    await found("no prefix")
    await found("null prefix", namespace_prefix=None)
    await found("prefix of a text", namespace_prefix="x")
    await found("query", namespace_prefix=[root], query="thing")

    for body in (
        {"prefix": [root]},
        {"prefix": [root], "max_depth": 2},
        {"prefix": [root], "suffix": ["1"]},
        {"prefix": [root, "*", "2"]},
        {"prefix": [root], "limit": 1, "offset": 1},
        {"prefix": [root, "nowhere"]},
        {"prefix": "x"},
    ):
        answer = await s.ask("POST", "/store/namespaces", body)
        shown = answer.body
        if isinstance(shown, dict) and "namespaces" in shown and "limit" not in body:
            shown = sorted(shown["namespaces"])
        s.note(f"namespaces {body}", {"status": answer.status, "found": shown})
    for number in range(4):
        place = [root, "even" if number % 2 == 0 else "odd", str(number)]
        await s.ask("DELETE", "/store/items", {"namespace": place, "key": f"k{number}"})


@scenario("store.refusals")
async def refusals(s: Script) -> None:
    good = {"namespace": [s.tag.replace(".", "-")], "key": "k", "value": {}}
    for bad in (
        {},
        {**good, "namespace": []},
        {**good, "namespace": ["a.b"]},
        {**good, "namespace": [""]},
        {**good, "namespace": ["langgraph", "x"]},
        {**good, "namespace": "text"},
        {**good, "namespace": [1]},
        {**good, "value": None},
        {**good, "value": "text"},
        {**good, "key": 1},
        {**good, "index": "yes"},
    ):
        await s.put("/store/items", bad)
    await s.get("/store/items")
    await s.get("/store/items?key=k")
    await s.get("/store/items?namespace=a..b&key=k")
    await s.get("/store/items?namespace=a")
    await s.delete("/store/items", {})
    await s.delete("/store/items", {"namespace": ["a.b"], "key": "k"})
    await s.post("/store/items/search", b"")
    await s.post("/store/namespaces", b"")
    await s.post("/store/namespaces", {"prefix": ["a.b"]})
