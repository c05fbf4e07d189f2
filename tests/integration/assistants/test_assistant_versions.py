"""The versions of an assistant: each change is one, none is lost, one is active."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from slackwater.api.assistants.service import system_id
from slackwater.postgres.pool import Database

Client = Callable[..., httpx.AsyncClient]

SHOWN = {
    "assistant_id",
    "graph_id",
    "config",
    "context",
    "metadata",
    "name",
    "created_at",
    "version",
    "description",
}


@pytest.fixture
async def path(http: httpx.AsyncClient) -> str:
    """Where an assistant is whose first version is called `one`."""
    body = {"graph_id": "flow", "name": "one", "metadata": {"n": 1}, "context": {"prefix": "1"}}
    made = (await http.post("/assistants", json=body)).json()
    return f"/assistants/{made['assistant_id']}"


async def listed(http: httpx.AsyncClient, path: str, **body: Any) -> list[dict[str, Any]]:
    answer = await http.post(f"{path}/versions", json=body)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()
    return rows


async def test_each_change_is_a_version_also_one_that_changes_nothing(
    http: httpx.AsyncClient, path: str
) -> None:
    await http.patch(path, json={"name": "two", "metadata": {"m": 2}})
    await http.patch(path, json={})

    rows = await listed(http, path)

    assert [(row["version"], row["name"], row["metadata"]) for row in rows] == [
        (3, "two", {"n": 1, "m": 2}),
        (2, "two", {"n": 1, "m": 2}),
        (1, "one", {"n": 1}),
    ]
    assert all(row.keys() == SHOWN for row in rows)
    assert [row["version"] for row in await listed(http, path, metadata={"m": 2})] == [3, 2]
    assert [row["version"] for row in await listed(http, path, limit=1, offset=1)] == [2]


async def test_past_the_end_there_is_nothing(http: httpx.AsyncClient, path: str) -> None:
    for where, body in (
        (path, {"offset": 1}),
        (f"/assistants/{uuid4()}", {}),
        (path, {"metadata": {"x": 1}}),
    ):
        answer = await http.post(f"{where}/versions", json=body)
        assert (answer.status_code, answer.json()) == (
            404,
            {"detail": f"Assistant {where.rpartition('/')[2]} not found"},
        )


async def test_an_older_version_can_be_made_active_whole_and_numbers_go_on_from_the_highest(
    http: httpx.AsyncClient, path: str
) -> None:
    change = {"name": "two", "graph_id": "factory", "context": {"prefix": "2"}, "description": "second"}
    await http.patch(path, json=change)

    first = (await http.post(f"{path}/latest", json={"version": 1})).json()

    assert (first["version"], first["name"], first["graph_id"]) == (1, "one", "flow")
    assert (first["context"], first["config"], first["description"]) == (
        {"prefix": "1"},
        {"configurable": {"prefix": "1"}},
        None,
    )
    assert (await http.get(path)).json() == first
    third = (await http.patch(path, json={"name": "three"})).json()
    assert (third["version"], third["context"]) == (3, {"prefix": "1"})
    assert [row["name"] for row in await listed(http, path)] == ["three", "two", "one"]


async def test_changes_at_once_are_as_many_versions(http: httpx.AsyncClient, path: str) -> None:
    await http.patch(path, json={"name": "two"})
    await http.post(f"{path}/latest", json={"version": 1})
    answers = await asyncio.gather(
        *(http.patch(path, json={"name": f"at once {n}"}) for n in range(8)),
        *(http.post(f"{path}/latest", json={"version": 1}) for _ in range(4)),
    )
    assert all(answer.status_code == 200 for answer in answers)
    rows = await listed(http, path, limit=100)
    assert [row["version"] for row in rows] == list(range(10, 0, -1))
    assert {row["name"] for row in rows[:8]} == {f"at once {n}" for n in range(8)}


@pytest.mark.parametrize(
    ("body", "shown"), [({"version": 99}, "99"), ({}, "None"), ({"version": None}, "None")]
)
async def test_a_version_that_is_not_there_cannot_be_made_active(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], shown: str
) -> None:
    answer = await http.post(f"{path}/latest", json=body)
    assert answer.status_code == 404
    assert answer.json() == {"detail": f"Version {shown} not found for assistant {path.rpartition('/')[2]}"}


async def test_bad_bodies_are_refused(http: httpx.AsyncClient, path: str) -> None:
    for where, body in (
        ("versions", {"limit": 0}),
        ("versions", {"offset": -1}),
        ("versions", {"metadata": []}),
        ("latest", {"version": "one"}),
        ("latest", {"version": 2**40}),
    ):
        assert (await http.post(f"{path}/{where}", json=body)).status_code == 422


async def test_versions_go_with_their_assistant(
    http: httpx.AsyncClient, path: str, database: Database
) -> None:
    await http.patch(path, json={"name": "two"})
    assert (await http.delete(path)).status_code == 204
    assert (await http.post(f"{path}/versions", json={})).status_code == 404
    assert not await database.fetch(
        "select 1 from slackwater.assistant_versions where assistant_id = %s", [path.rpartition("/")[2]]
    )


async def test_another_owner_sees_no_versions_and_changes_none(client: Client) -> None:
    alice, bob = client("alice"), client("bob")
    made = (await alice.post("/assistants", json={"graph_id": "flow"})).json()
    path = f"/assistants/{made['assistant_id']}"
    await alice.patch(path, json={"name": "two"})

    assert (await bob.post(f"{path}/versions", json={})).status_code == 404
    assert (await bob.post(f"{path}/latest", json={"version": 1})).status_code == 404

    assert (await alice.get(path)).json()["version"] == 2


async def test_the_versions_of_what_belongs_to_everybody_are_read_by_all_and_set_by_nobody(
    http: httpx.AsyncClient,
) -> None:
    path = f"/assistants/{system_id('flow')}"
    assert [row["version"] for row in await listed(http, path)] == [1]
    assert (await http.post(f"{path}/latest", json={"version": 1})).status_code == 404
