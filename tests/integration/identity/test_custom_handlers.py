"""A project's `on` handlers: what the caller may do, and which rows the caller sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.users import thread_of, user

Project = Callable[..., Path]
Serve = Callable[..., Any]


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [thread["thread_id"] for thread in answer.json()]


OWNER = """
@auth.on
async def mine(ctx, value):
    value.setdefault("metadata", {})["owner"] = ctx.user.identity
    return {"owner": ctx.user.identity}
"""
"""The example that everybody begins with."""

PARTICIPANTS = """
@auth.on.threads
async def participants(ctx, value):
    return {"participants": {"$contains": ctx.user.identity}}
"""


async def test_what_a_handler_adds_to_metadata_is_stored(serve: Serve, project: Project) -> None:
    async with serve(project=project(OWNER)) as api:
        alice, bob = user(api, "alice"), user(api, "bob")
        hers = await thread_of(alice, owner="bob", subject="x")
        shown = (await alice.get(f"/threads/{hers}")).json()
        foreign = await bob.get(f"/threads/{hers}")
        absent = await bob.get(f"/threads/{uuid4()}")

    assert shown["metadata"] == {"owner": "alice", "subject": "x"}
    assert (foreign.status_code, foreign.json()["detail"][:14]) == (404, "Thread with ID")
    assert absent.status_code == 404


async def test_a_filter_shares_what_it_matches(serve: Serve, project: Project) -> None:
    """Pages, counts and searches are right, as the filter is part of the statement."""
    async with serve(project=project(PARTICIPANTS)) as api:
        alice, bob, carol = (user(api, name) for name in ("alice", "bob", "carol"))
        shared = [await thread_of(alice, participants=["alice", "bob"], n=n) for n in range(3)]
        await thread_of(alice, participants=["alice"])
        await thread_of(carol, participants=["carol"])
        search: dict[str, Any] = {"limit": 2, "sort_by": "created_at", "sort_order": "asc"}
        first = await bob.post("/threads/search", json=search)
        second = await bob.post("/threads/search", json={**search, "offset": 2})
        counts = [(await c.post("/threads/count", json={})).json() for c in (alice, bob, carol)]
        named = await bob.post("/threads/count", json={"metadata": {"n": 1}})
        read = await bob.get(f"/threads/{shared[0]}")
        hidden = await carol.get(f"/threads/{shared[0]}")
        changed = await bob.patch(f"/threads/{shared[0]}", json={"metadata": {"read": True}})
        refused = await carol.patch(f"/threads/{shared[0]}", json={"metadata": {"read": False}})
        copied = await bob.post(f"/threads/{shared[0]}/copy")
        owner = await api.database.fetch_one(
            "select owner from slackwater.threads where thread_id = %s", [copied.json()["thread_id"]]
        )
        deleted = await bob.delete(f"/threads/{shared[1]}")

    assert ids(first) + ids(second) == shared
    assert first.headers["x-pagination-next"] == "2"
    assert counts == [4, 3, 1]
    assert named.json() == 1
    assert (read.status_code, hidden.status_code) == (200, 404)
    assert changed.json()["metadata"]["read"] is True
    assert refused.status_code == 404
    assert owner == {"owner": "user:bob"}
    assert deleted.status_code == 204


async def test_a_filter_hides_ones_own(serve: Serve, project: Project) -> None:
    async with serve(project=project(PARTICIPANTS)) as api:
        alice = user(api, "alice")
        left = await thread_of(alice, participants=["bob"])
        answers = [
            await alice.get(f"/threads/{left}"),
            await alice.get(f"/threads/{left}/state"),
            await alice.post(f"/threads/{left}/history", json={}),
            await alice.get(f"/threads/{left}/storage"),
            await alice.get(f"/threads/{left}/stream"),
            await alice.post(f"/threads/{left}/state", json={"values": {}}),
            await alice.delete(f"/threads/{left}"),
            await alice.post("/threads/prune", json={"thread_ids": [left]}),
        ]
        still = await api.database.fetch_one(
            "select count(*) as n from slackwater.threads where thread_id = %s", [left]
        )

    assert [answer.status_code for answer in answers] == [404] * len(answers)
    assert still == {"n": 1}


@pytest.mark.parametrize("strategy", ["delete", "keep_latest"])
async def test_with_a_filter_what_is_hidden_is_pruned_like_what_is_not_there(
    serve: Serve, project: Project, strategy: str
) -> None:
    async with serve(names=("key",), project=project(PARTICIPANTS)) as api:
        alice, bob = user(api, "alice"), user(api, "bob")
        hers = await thread_of(alice, participants=["alice"])
        of_bob = await thread_of(bob, participants=["bob"])
        of_key = (await api.client("key").post("/threads", json={})).json()["thread_id"]

        async def prune(*threads: str) -> tuple[int, Any]:
            body = {"thread_ids": [*threads], "strategy": strategy}
            answer = await alice.post("/threads/prune", json=body)
            return answer.status_code, answer.json()

        missing = [await prune(hers, thread) for thread in (str(uuid4()), of_bob, of_key)]
        there = await alice.get(f"/threads/{hers}")
        pruned = await prune(hers)

    assert missing == [(404, {"detail": "At least one thread not found or not authorized"})] * 3
    assert there.status_code == 200
    assert pruned == (200, {"pruned_count": 1})


async def test_without_a_filter_everybody_keeps_to_themselves(serve: Serve, project: Project) -> None:
    """Officially they would see everything of one another."""
    allow = """
@auth.on
async def anything(ctx, value):
    return {} if ctx.user.identity == "carol" else True if ctx.user.identity == "alice" else None
"""
    async with serve(project=project(allow)) as api:
        people = [user(api, name) for name in ("alice", "bob", "carol")]
        threads = [await thread_of(person) for person in people]
        seen = [ids(await person.post("/threads/search", json={})) for person in people]
        foreign = [
            (await person.get(f"/threads/{thread}")).status_code for person in people for thread in threads
        ]

    assert seen == [[thread] for thread in threads]
    assert foreign == [200, 404, 404, 404, 200, 404, 404, 404, 200]


async def test_a_filter_does_not_reach_what_keys_own(serve: Serve, project: Project) -> None:
    everything = """
@auth.on
async def everything(ctx, value):
    return {"kind": "chat"}
"""
    async with serve(project=project(everything), names=("maria",)) as api:
        marias = await thread_of(api.client("maria"), kind="chat")
        alices = await thread_of(user(api, "alice"), kind="chat")
        bob = user(api, "bob")
        seen = ids(await bob.post("/threads/search", json={}))
        read = [(await bob.get(f"/threads/{thread}")).status_code for thread in (marias, alices)]
        own = ids(await api.client("maria").post("/threads/search", json={}))

    assert seen == [alices]
    assert read == [404, 200]
    assert own == [marias]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ("return False", 403, "Forbidden"),
        ("raise Auth.exceptions.HTTPException(409, 'not now', {'retry-after': '7'})", 409, "not now"),
        ("assert ctx.permissions == [], 'too many'", 403, "too many"),
        ("raise RuntimeError('a secret')", 500, "The project's auth failed: the server's log says why."),
        ("return 'yes'", 500, "The project's auth failed: the server's log says why."),
        ("return {'$or': [{'a': 1}]}", 500, "The project's auth failed: the server's log says why."),
        ("return {'a': {'$ne': 1}}", 500, "The project's auth failed: the server's log says why."),
    ],
)
async def test_what_a_handler_answers(
    serve: Serve, project: Project, body: str, status: int, detail: str
) -> None:
    handlers = f"@auth.on.threads.search\nasync def search(ctx, value):\n    {body}\n"
    async with serve(project=project(handlers)) as api:
        alice = user(api, "alice")
        refused = await alice.post("/threads/search", json={})
        other = await alice.post("/threads", json={})

    assert (refused.status_code, refused.json()) == (status, {"detail": detail})
    assert refused.headers.get("retry-after") == ("7" if status == 409 else None)
    assert other.status_code == 200


async def test_only_the_most_specific_handler_is_asked(serve: Serve, project: Project) -> None:
    handlers = """
def says(word):
    async def handler(ctx, value):
        raise Auth.exceptions.HTTPException(403, f"{word}: {ctx.resource} {ctx.action} {ctx.user.identity}")
    return handler

auth.on.threads.create(says("exactly"))
auth.on.threads(says("threads"))
auth.on(actions="search")(says("searches"))
auth.on(says("all"))
"""
    async with serve(project=project(handlers)) as api:
        alice = user(api, "alice")
        answers = [
            await alice.post("/threads", json={}),
            await alice.post("/threads/search", json={}),
            await alice.get(f"/threads/{uuid4()}"),
        ]

    assert [answer.json()["detail"] for answer in answers] == [
        "exactly: threads create alice",
        "threads: threads search alice",
        "threads: threads read alice",
    ]
