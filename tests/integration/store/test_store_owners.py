"""Two owners with the same namespaces and keys: neither sees, changes or finds anything of the other's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from support.api import Api

from slackwater.kit.labels import label_of

PLACE = {"namespace": ["notes"], "key": "k"}
READ = {"namespace": "notes", "key": "k"}


@pytest.fixture
async def api(serve: Any) -> AsyncIterator[Api]:
    """Two of the names are such that text alone would not tell them apart."""
    async with serve(names=("alice", "alice.notes", "bob")) as api:
        yield api


async def told(client: httpx.AsyncClient) -> list[Any]:
    """Everything that the store tells somebody."""
    answers = [
        await client.get("/store/items", params=READ),
        await client.post("/store/items/search", json={"namespace_prefix": [], "limit": 100}),
        await client.post("/store/items/search", json={"namespace_prefix": ["notes"]}),
        await client.post("/store/items/search", json={"namespace_prefix": ["*"]}),
        await client.post("/store/items/search", json={"namespace_prefix": [], "filter": {"whose": "alice"}}),
        await client.post("/store/namespaces", json={}),
        await client.post("/store/namespaces", json={"prefix": ["*"], "suffix": ["*"]}),
        await client.post("/store/namespaces", json={"suffix": ["notes"], "max_depth": 1}),
    ]
    for name in ("alice", "alice.notes"):
        inside = [label_of(name), "notes"]
        answers += [
            await client.get("/store/items", params={"namespace": ".".join(inside), "key": "k"}),
            await client.post("/store/items/search", json={"namespace_prefix": inside}),
            await client.post("/store/namespaces", json={"prefix": inside}),
            await client.post("/store/namespaces", json={"suffix": inside}),
        ]
    return [(answer.status_code, answer.text) for answer in answers]


async def test_an_owner_sees_nothing_of_another(api: Api) -> None:
    alice, bob, dotted = api.client("alice"), api.client("bob"), api.client("alice.notes")
    before = await told(bob)
    assert all(text in ("null", '{"items":[]}', '{"namespaces":[]}') for _, text in before)
    await alice.put("/store/items", json={**PLACE, "value": {"whose": "alice"}, "ttl": 5})
    await alice.put("/store/items", json={"namespace": ["k"], "key": "k", "value": {}})

    assert await told(bob) == before
    assert await told(dotted) == before
    assert await told(alice) != before


async def test_an_owner_changes_nothing_of_another(api: Api) -> None:
    alice, others = api.client("alice"), (api.client("bob"), api.client("alice.notes"))
    await alice.put("/store/items", json={**PLACE, "value": {"whose": "alice"}, "ttl": 5})
    query = "select * from store where prefix = %s"
    before = await api.database.fetch(query, ("@alice.notes",))
    assert len(before) == 1
    for other in others:
        places = (
            PLACE,
            {"namespace": ["@alice", "notes"], "key": "k"},
            {"namespace": ["@alice"], "key": "k"},
        )
        for place in places:
            await other.put("/store/items", json={**place, "value": {"whose": "another"}})
            await other.request("DELETE", "/store/items", json=place)
            await other.put("/store/items", json={**place, "value": {"whose": "another"}})
        await told(other)  # which keeps what it finds

    assert await api.database.fetch(query, ("@alice.notes",)) == before


async def test_the_nodes_of_a_run_see_its_owners_items(api: Api) -> None:
    alice, bob = api.client("alice"), api.client("bob")
    item = {"namespace": ["graph-memory", "u"], "key": "k", "value": {"v": "alice's"}}
    await alice.put("/store/items", json=item)
    run = {"assistant_id": "store", "input": {"user": "u", "key": "k", "value": "new"}}

    his = (await bob.post("/runs/wait", json=run)).json()
    hers = (await alice.post("/runs/wait", json=run)).json()

    assert (his["previous"], his["count"]) == (None, 1)
    assert (hers["previous"], hers["count"]) == ({"v": "alice's"}, 1)
