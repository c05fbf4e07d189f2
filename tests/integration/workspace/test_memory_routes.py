"""The memory over HTTP (1.21, Z2, I1; deerflow-clients.md 5), and two processes that change it at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from support.api import Api

from slackwater.kit.labels import label_of
from slackwater.owners.erase import erase
from slackwater.postgres.pool import Database
from tests.support.at_once import at_once

NOTHING = {"summary": "", "updatedAt": ""}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture
async def api(serve: Callable[..., Any]) -> AsyncIterator[Api]:
    async with serve(gateway=True, names=("alice", "bob")) as api:
        yield api


async def memory_of(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/api/memory")
    assert answer.status_code == 200, answer.text
    # deerflow-clients.md 1: the page's own handler passes the headers on, and not the coding
    assert "content-encoding" not in answer.headers
    found: dict[str, Any] = answer.json()
    return found


async def test_facts_are_added_changed_and_deleted(api: Api) -> None:
    """Z2, 1.21: every answer is the whole memory, of its owner only; the exact shape and sentences of section 5."""
    alice, bob = api.client("alice"), api.client("bob")
    empty = await memory_of(alice)
    assert list(empty) == ["version", "lastUpdated", "user", "history", "facts"]
    assert (empty["version"], empty["facts"]) == ("1.0", [])
    assert empty["user"] == {"workContext": NOTHING, "personalContext": NOTHING, "topOfMind": NOTHING}
    assert empty["history"] == {
        "recentMonths": NOTHING,
        "earlierContext": NOTHING,
        "longTermBackground": NOTHING,
    }
    assert MOMENT.fullmatch(empty["lastUpdated"])

    # WHEN a fact is added, THEN the answer is the memory with it
    added = await alice.post("/api/memory/facts", json={"content": "  Likes tea "})
    assert added.status_code == 200
    (fact,) = added.json()["facts"]
    assert fact == {
        "id": fact["id"],
        "content": "Likes tea",
        "category": "context",
        "confidence": 0.5,
        "createdAt": fact["createdAt"],
        "source": "manual",
    }
    assert re.fullmatch(r"fact_[0-9a-f]{8}", fact["id"])
    assert MOMENT.fullmatch(fact["createdAt"])
    assert await memory_of(alice) == added.json()
    # AND it is where graphs of the owner find it
    item = await alice.get("/store/items", params={"namespace": "memory", "key": "document"})
    assert item.json()["value"] == added.json()

    # WHEN it is changed, THEN what was not said stays
    path = f"/api/memory/facts/{fact['id']}"
    changed = (await alice.patch(path, json={"confidence": 1, "category": "taste"})).json()
    assert changed["facts"] == [{**fact, "confidence": 1, "category": "taste"}]
    changed = (await alice.patch(path, json={"content": "Likes coffee", "category": None})).json()
    assert changed["facts"][0]["content"] == "Likes coffee"

    # What may not be said
    for body, sentence in (
        ({"content": "  "}, "Memory fact content cannot be empty."),
        ({"content": "x", "confidence": 1.1}, "Invalid confidence value; must be between 0 and 1."),
        ({"content": "x", "confidence": -0.1}, "Invalid confidence value; must be between 0 and 1."),
    ):
        for answer in (await alice.post("/api/memory/facts", json=body), await alice.patch(path, json=body)):
            assert (answer.status_code, answer.json()) == (400, {"detail": sentence})
    wrong = await alice.post("/api/memory/facts", json={"category": "x"})
    assert (wrong.status_code, type(wrong.json()["detail"])) == (422, str)  # which the page shows
    large = await alice.post("/api/memory/import", json={"user": {"topOfMind": {"summary": "x" * 2**20}}})
    assert large.status_code == 413

    # Another's is not there
    for answer in (await bob.patch(path, json={"content": "x"}), await bob.delete(path)):
        assert answer.status_code == 404
        assert answer.json() == {"detail": f"Memory fact '{fact['id']}' not found."}
    assert (await memory_of(bob))["facts"] == []

    # WHEN it is deleted, THEN it is gone, and a second time it was not there
    assert (await alice.delete(path)).json()["facts"] == []
    assert (await alice.delete(path)).status_code == 404


async def test_export_import_and_the_rest(api: Api) -> None:
    """Z2: `sourceError` goes with an export; reload, configuration, status; what a graph has put there; erasure."""
    alice = api.client("alice")
    fact = {"id": "fact_1", "content": "Is right-handed", "category": "c", "confidence": 0.9}
    given = {
        "version": "1.0",
        "lastUpdated": "2026-01-01T00:00:00Z",
        "user": {"workContext": {"summary": "Builds bridges.", "updatedAt": "2026-01-01T00:00:00Z"}},
        "facts": [{**fact, "sourceError": "was left-handed"}, fact, {**fact, "id": "fact_2"}],
    }
    imported = (await alice.post("/api/memory/import", json=given)).json()
    assert imported["user"]["workContext"]["summary"] == "Builds bridges."
    assert imported["facts"][0]["sourceError"] == "was left-handed"
    assert "sourceError" not in imported["facts"][1]
    assert len({kept["id"] for kept in imported["facts"]}) == 3
    exported = (await alice.get("/api/memory/export")).json()
    assert exported == imported == (await alice.post("/api/memory/reload")).json()
    again = (await alice.post("/api/memory/import", json=exported)).json()
    assert {**again, "lastUpdated": ""} == {**exported, "lastUpdated": ""}
    config = {
        "enabled": True,
        "storage_path": "",
        "debounce_seconds": 30,
        "max_facts": 100,
        "fact_confidence_threshold": 0.7,
        "injection_enabled": True,
        "max_injection_tokens": 2000,
    }
    assert (await alice.get("/api/memory/config")).json() == config
    assert (await alice.get("/api/memory/status")).json() == {"config": config, "data": again}
    for wrong in ({"facts": [{"content": "x"}]}, {"facts": [{**fact, "confidence": 2}]}, []):
        assert (await alice.post("/api/memory/import", json=wrong)).status_code == 422

    # WHEN somebody has put something else there, THEN it is read as far as it can be, and may be written
    odd = {"facts": [{"content": "Left by a graph", "more": 0.12345678901234567890}, 7], "user": [], "x": 1}
    put = {"namespace": ["memory"], "key": "document", "value": odd}
    assert (await alice.put("/store/items", json=put)).status_code == 204
    (left,) = (await memory_of(alice))["facts"]
    assert (left["content"], left["source"]) == ("Left by a graph", "unknown")
    assert len((await alice.post("/api/memory/facts", json={"content": "more"})).json()["facts"]) == 2
    # AND what has expired there is gone
    await api.database.execute("update store set expires_at = now() - interval '1 second'")
    assert (await memory_of(alice))["facts"] == []
    assert len((await alice.post("/api/memory/facts", json={"content": "new"})).json()["facts"]) == 1
    assert len((await memory_of(alice))["facts"]) == 1

    cleared = (await alice.delete("/api/memory")).json()
    assert (cleared["facts"], cleared["user"]["workContext"]) == ([], NOTHING)
    await alice.post("/api/memory/facts", json={"content": "mine"})
    await erase(api.database, "alice")
    assert (
        await api.database.fetch("select 1 from store where prefix like %s", [label_of("alice") + "%"]) == []
    )


async def test_two_that_write_at_once_lose_nothing(serve: Callable[..., Any], database: Database) -> None:
    """No edit that was answered with 200 is lost, and each answer has the edit in it: two applications that share the database only."""
    async with serve(gateway=True) as one, serve(gateway=True) as other:
        clients = [one.client(), other.client()]

        async def add(number: int) -> httpx.Response:
            return await clients[number % 2].post("/api/memory/facts", json={"content": f"fact {number}"})

        answers = await asyncio.gather(*map(add, range(16)))
        assert {answer.status_code for answer in answers} <= {200, 409}
        written = [number for number, answer in enumerate(answers) if answer.status_code == 200]
        assert len(written) >= 2
        for number in written:
            assert f"fact {number}" in [fact["content"] for fact in answers[number].json()["facts"]]
        kept = [(await memory_of(client))["facts"] for client in clients]
        assert kept[0] == kept[1]
        assert sorted(fact["content"] for fact in kept[0]) == sorted(f"fact {number}" for number in written)
        assert len({fact["id"] for fact in kept[0]}) == len(written)

        # Edits of one fact by both: one is made of what the other has left
        path = f"/api/memory/facts/{kept[0][0]['id']}"
        changes = (
            clients[0].patch(path, json={"content": "by one"}),
            clients[1].patch(path, json={"confidence": 0.25}),
        )
        assert [answer.status_code for answer in await asyncio.gather(*changes)] == [200, 200]
        changed = (await memory_of(clients[0]))["facts"][0]
        assert (changed["content"], changed["confidence"]) == ("by one", 0.25)

        # AND of the same by both: who comes second hears it, unless it is what they wanted
        said = ({"content": "a"}, {"content": "b"}, {"content": "b"}, {"category": "c"})
        patches = (clients[n % 2].patch(path, json=body) for n, body in enumerate(said))
        answers = await at_once(database, "store", *patches)
        assert {answer.status_code for answer in answers} == {200, 409}
        (refused,) = {answer.json()["detail"] for answer in answers if answer.status_code == 409}
        assert "changed meanwhile" in refused
        done = {said[n].get("content") for n, answer in enumerate(answers) if answer.status_code == 200}
        changed = (await memory_of(clients[1]))["facts"][0]
        assert (done, changed["category"], changed["confidence"]) == ({changed["content"], None}, "c", 0.25)

        # WHEN somebody is always faster, THEN 409, and nothing is half written
        await one.database.execute(
            "create function public.bump() returns trigger language plpgsql as $$ begin return null; end $$;"
            "create trigger bump before update on store for each row execute function public.bump()"
        )
        before = await memory_of(clients[0])
        refused = await clients[0].post("/api/memory/facts", json={"content": "late"})
        assert refused.status_code == 409
        assert "try again" in refused.json()["detail"]
        assert await memory_of(clients[0]) == before
