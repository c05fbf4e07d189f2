"""A project's users and its handlers where something runs: runs, assistants, crons, the protocols, the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from support.users import thread_of, user

from slackwater.api.crons.fire import fire_due

Project = Callable[..., Path]
Serve = Callable[..., Any]

WHO = {"assistant_id": "who", "input": {"text": "a"}}

OWNER = """
@auth.on
async def mine(ctx, value):
    value.setdefault("metadata", {})["owner"] = ctx.user.identity
    return {"owner": ctx.user.identity}

@auth.on.store
async def own_namespace(ctx, value):
    value["namespace"] = (ctx.user.identity, *(value["namespace"] or ()))
"""

PARTICIPANTS = """
@auth.on.threads
async def participants(ctx, value):
    return {"participants": {"$contains": ctx.user.identity}}
"""

ALICE = {
    "user": {
        "identity": "alice",
        "display_name": "alice",
        "is_authenticated": True,
        "permissions": ["read", "alice"],
        "team": "team of alice",
    },
    "identity": "alice",
    "team": "team of alice",
    "id": "alice",
    "user_id": "alice",
    "permissions": ["read", "alice"],
    "server_info": "alice",
}


async def test_a_node_sees_the_user(serve: Serve, project: Project) -> None:
    """And nobody can say that they are another: not in a request, an assistant, or a header."""
    smuggled = {
        "langgraph_auth_user": {"identity": "root"},
        "langgraph_auth_user_id": "root",
        "langgraph_auth_permissions": ["admin"],
        "user_id": "root",
    }
    headers = {"configurable_headers": {"includes": ["langgraph_auth_*", "user*"]}}
    async with serve(project=project(http=headers)) as api:
        alice = user(api, "alice")
        thread = await thread_of(alice)
        assistant = await alice.post(
            "/assistants", json={"graph_id": "who", "config": {"configurable": smuggled}}
        )
        told = [
            await alice.post("/runs/wait", json=WHO),
            await alice.post(f"/threads/{thread}/runs/wait", json=WHO),
            await alice.post("/runs/wait", json={**WHO, "config": {"configurable": smuggled}}),
            await alice.post("/runs/wait", json={**WHO, "context": smuggled}),
            await alice.post("/runs/wait", json={**WHO, "assistant_id": assistant.json()["assistant_id"]}),
            await alice.post("/runs/wait", json=WHO, headers={"langgraph_auth_user_id": "root"}),
        ]
        shown = (await alice.get(f"/threads/{thread}/runs")).json()

    assert [answer.json()["seen"] for answer in told] == [ALICE] * len(told)
    assert "alice" not in json.dumps(shown[0]["kwargs"]), "what identifies a user is not shown with a run"


async def test_a_factory_sees_the_user(serve: Serve, project: Project) -> None:
    async with serve(project=project()) as api:
        alice = user(api, "alice")
        told = await alice.post("/runs/wait", json={**WHO, "assistant_id": "made"})
        graph = await alice.get("/assistants/made/graph")

    assert told.json()["seen"] == {"user": "alice", "access": "threads.create_run"}
    assert graph.status_code == 200


async def test_everything_that_is_made_is_stamped(serve: Serve, project: Project) -> None:
    async with serve(project=project(OWNER)) as api:
        alice, bob = user(api, "alice"), user(api, "bob")
        thread = str(uuid4())
        run = await alice.post(f"/threads/{thread}/runs", json={**WHO, "if_not_exists": "create"})
        await alice.get(f"/threads/{thread}/runs/{run.json()['run_id']}/join")
        made = await alice.get(f"/threads/{thread}")
        assistant = await alice.post("/assistants", json={"graph_id": "who"})
        cron = await alice.post("/runs/crons", json={**WHO, "schedule": "0 5 1 1 *"})
        mine = [
            await alice.get(f"/threads/{thread}/runs/{run.json()['run_id']}"),
            await alice.get(f"/assistants/{assistant.json()['assistant_id']}"),
            await alice.get(f"/runs/crons/{cron.json()['cron_id']}"),
        ]
        foreign = [
            await bob.get(f"/threads/{thread}/runs/{run.json()['run_id']}"),
            await bob.get(f"/assistants/{assistant.json()['assistant_id']}"),
            await bob.get(f"/runs/crons/{cron.json()['cron_id']}"),
            await bob.post(f"/threads/{thread}/runs", json={**WHO, "if_not_exists": "create"}),
            await bob.post("/runs", json={**WHO, "assistant_id": assistant.json()["assistant_id"]}),
            await bob.post(f"/threads/{thread}/runs/{run.json()['run_id']}/cancel"),
            await bob.delete(f"/threads/{thread}/runs/{run.json()['run_id']}"),
        ]
        found = await alice.post("/assistants/search", json={})
        crons = [(await c.post("/runs/crons/count", json={})).json() for c in (alice, bob)]

    assert [answer.json()["metadata"]["owner"] for answer in (run, made, assistant, cron)] == ["alice"] * 4
    assert cron.json()["user_id"] == "alice"
    assert [answer.status_code for answer in mine] == [200] * 3
    assert [answer.status_code for answer in foreign] == [404] * len(foreign)
    assert [row["assistant_id"] for row in found.json()] == [assistant.json()["assistant_id"]]
    assert crons == [1, 0]


async def test_a_thread_that_is_shared_is_run_by_each_as_themselves(serve: Serve, project: Project) -> None:
    async with serve(project=project(PARTICIPANTS)) as api:
        alice, bob, carol = (user(api, name) for name in ("alice", "bob", "carol"))
        thread = await thread_of(alice, participants=["alice", "bob"])
        seen = await bob.post(f"/threads/{thread}/runs/wait", json=WHO)
        state = await alice.get(f"/threads/{thread}/state")
        runs = [await client.get(f"/threads/{thread}/runs") for client in (alice, bob, carol)]
        run = runs[0].json()[0]["run_id"]
        joined = [await c.get(f"/threads/{thread}/runs/{run}/join") for c in (alice, bob, carol)]
        streams = [
            await c.get(f"/threads/{thread}/runs/{run}/stream", headers={"last-event-id": "-1"})
            for c in (bob, carol)
        ]
        refused = await carol.post(f"/threads/{thread}/runs/wait", json={**WHO, "if_not_exists": "create"})
        cron = {**WHO, "schedule": "0 5 1 1 *"}
        crons = [await c.post(f"/threads/{thread}/runs/crons", json=cron) for c in (bob, carol)]

    assert seen.json()["seen"]["identity"] == "bob"
    assert state.json()["values"]["seen"]["identity"] == "bob"
    assert [answer.status_code for answer in runs] == [200, 200, 404]
    assert [answer.json().get("seen", {}).get("identity") for answer in joined] == ["bob", "bob", None]
    assert "event: values" in streams[0].text
    assert streams[1].text.startswith("event: error")
    assert refused.status_code == 404
    assert [answer.status_code for answer in crons] == [200, 404]


async def test_two_users_of_a_thread_may_choose_the_same_idempotency_key(
    serve: Serve, project: Project
) -> None:
    async with serve(project=project(PARTICIPANTS)) as api:
        alice, bob = user(api, "alice"), user(api, "bob")
        shared = await thread_of(alice, participants=["alice", "bob"])
        private = await thread_of(alice, participants=["alice"])
        key = {"idempotency-key": "1"}
        hers = await alice.post(f"/threads/{private}/runs", json=WHO, headers=key)
        his = await bob.post(f"/threads/{shared}/runs", json=WHO, headers=key)
        again = await bob.post(f"/threads/{shared}/runs", json=WHO, headers=key)

    assert hers.json()["thread_id"] == private
    assert his.json()["thread_id"] == shared
    assert again.json()["run_id"] == his.json()["run_id"]


async def test_a_used_idempotency_key_does_not_tell_a_hidden_thread_from_none(
    serve: Serve, project: Project
) -> None:
    async with serve(project=project(PARTICIPANTS)) as api:
        alice, bob = user(api, "alice"), user(api, "bob")
        threads = [await thread_of(alice, participants=["alice"]), str(uuid4())]
        key = {"idempotency-key": "1"}
        unused = [await bob.post(f"/threads/{thread}/runs", json=WHO, headers=key) for thread in threads]
        his = await bob.post("/runs", json=WHO, headers=key)
        used = [await bob.post(f"/threads/{thread}/runs", json=WHO, headers=key) for thread in threads]

    assert [answer.status_code for answer in unused] == [404, 404]
    assert [answer.json()["run_id"] for answer in used] == [his.json()["run_id"]] * 2


async def test_a_cron_acts_for_its_user(serve: Serve, project: Project) -> None:
    """And whoever changes it from then on: nobody writes what another is to run."""
    share = """
@auth.on.crons
async def shared(ctx, value):
    return {"team": "a"}
"""
    async with serve(project=project(share)) as api:
        alice, bob = user(api, "alice"), user(api, "bob")
        thread = await thread_of(alice)
        body = {**WHO, "schedule": "* * * * *", "metadata": {"team": "a"}}
        cron = (await alice.post(f"/threads/{thread}/runs/crons", json=body)).json()
        seen = []
        for _ in range(2):
            await api.database.execute(
                "update slackwater.crons set next_run_date = now() - interval '1 second'"
            )
            assert await fire_due(api.services) == 1
            [run] = (await alice.get(f"/threads/{thread}/runs?limit=1")).json()
            seen.append((await alice.get(f"/threads/{thread}/runs/{run['run_id']}/join")).json()["seen"])
            changed = await bob.patch(f"/runs/crons/{cron['cron_id']}", json={"metadata": {"n": 1}})
            assert changed.status_code == 200

    assert seen[0] == ALICE
    assert seen[1]["identity"] == "bob"
    assert "auth_user" not in cron


async def test_a_handler_may_refuse_runs(serve: Serve, project: Project) -> None:
    handlers = """
@auth.on.threads.create_run
async def who(ctx, value):
    assert set(value) == {
        "thread_id", "assistant_id", "run_id", "status", "metadata", "prevent_insert_if_inflight",
        "multitask_strategy", "if_not_exists", "after_seconds", "kwargs",
    }
    value["kwargs"]["config"]["configurable"]["model"] = "small"
    return ctx.user.identity == "alice"
"""
    async with serve(project=project(handlers)) as api:
        alice, bob = user(api, "alice"), user(api, "bob")
        allowed = await alice.post("/runs", json=WHO)
        refused = [
            await bob.post("/runs", json=WHO),
            await bob.post("/runs/wait", json=WHO),
            await bob.post("/runs/stream", json=WHO),
            await bob.post("/runs/batch", json=[WHO]),
            await bob.post(f"/threads/{await thread_of(bob)}/runs", json=WHO),
            await bob.post("/runs/crons", json={**WHO, "schedule": "* * * * *"}),
        ]
        rows = await api.database.fetch("select owner from slackwater.runs")

    assert allowed.json()["kwargs"]["config"]["configurable"]["model"] == "small"
    assert [answer.status_code for answer in refused] == [403] * len(refused)
    assert rows == [{"owner": "user:alice"}]


async def test_assistants_are_shared_by_a_filter(serve: Serve, project: Project) -> None:
    handlers = """
@auth.on.assistants
async def team(ctx, value):
    return {"$or": [{"team": "all"}, {"owner": {"$eq": ctx.user.identity}}]}
"""
    async with serve(project=project(handlers)) as api:
        alice, bob = user(api, "alice"), user(api, "bob")
        made = [
            (await alice.post("/assistants", json={"graph_id": "who", "metadata": metadata})).json()
            for metadata in ({"team": "all"}, {"owner": "alice"}, {"owner": "bob"})
        ]
        ids = [row["assistant_id"] for row in made]
        seen = [
            [(await client.get(f"/assistants/{id_}")).status_code for id_ in ids] for client in (alice, bob)
        ]
        found = [
            sorted(
                ids.index(row["assistant_id"])
                for row in (await client.post("/assistants/search", json={})).json()
            )
            for client in (alice, bob)
        ]
        counted = [(await client.post("/assistants/count", json={})).json() for client in (alice, bob)]
        ran = [(await bob.post("/runs/wait", json={**WHO, "assistant_id": id_})).status_code for id_ in ids]
        changed = [(await bob.patch(f"/assistants/{id_}", json={"name": "n"})).status_code for id_ in ids]
        versions = [(await bob.post(f"/assistants/{id_}/versions", json={})).status_code for id_ in ids]
        latest = [
            (await bob.post(f"/assistants/{id_}/latest", json={"version": 1})).status_code for id_ in ids
        ]
        system = await bob.post("/runs/wait", json=WHO)
        deleted = [(await bob.delete(f"/assistants/{id_}")).status_code for id_ in ids]

    assert seen == [[200, 200, 404], [200, 404, 200]]
    assert found == [[0, 1], [0, 2]]
    assert counted == [2, 2]
    assert [ran, changed, versions, latest] == [[200, 404, 200]] * 4
    assert deleted == [204, 404, 204]
    assert system.status_code == 200


async def test_a_store_of_rewritten_namespaces(serve: Serve, project: Project) -> None:
    async with serve(project=project(OWNER)) as api:
        alice, bob = user(api, "alice"), user(api, "bob")
        item: dict[str, Any] = {"namespace": ["notes"], "key": "k"}
        put = await alice.put("/store/items", json={**item, "value": {"n": 1}})
        got = [await client.get("/store/items?namespace=notes&key=k") for client in (alice, bob)]
        found = await alice.post("/store/items/search", json={"namespace_prefix": ["notes"]})
        named = await alice.post("/store/namespaces", json={})
        await alice.request("DELETE", "/store/items", json=item)
        gone = await alice.get("/store/items?namespace=notes&key=k")

    assert put.status_code == 204
    assert got[0].json()["namespace"] == ["alice", "notes"]
    assert got[1].json() is None
    assert [row["key"] for row in found.json()["items"]] == ["k"]
    assert named.json() == {"namespaces": [["alice", "notes"]]}
    assert gone.json() is None


@pytest.mark.parametrize(
    ("asked", "found"),
    [(None, ["a", "b"]), ({"n": 1}, ["a"]), ({"owner": "bob"}, []), ({"owner": {"$ne": "bob"}}, ["a", "b"])],
)
async def test_a_filter_for_the_store_is_one_beside_the_clients(
    serve: Serve, project: Project, asked: dict[str, Any] | None, found: list[str]
) -> None:
    handlers = """
@auth.on.store.search
async def mine(ctx, value):
    return {"owner": ctx.user.identity}

@auth.on.store.delete
async def never(ctx, value):
    return False
"""
    async with serve(project=project(handlers)) as api:
        alice = user(api, "alice")
        items = {"a": ("alice", 1), "b": ("alice", 2), "c": ("bob", 1)}
        for key, (owner, n) in items.items():
            value = {"owner": owner, "n": n}
            await alice.put("/store/items", json={"namespace": ["x"], "key": key, "value": value})
        told = await alice.post("/store/items/search", json={"namespace_prefix": ["x"], "filter": asked})
        refused = await alice.request("DELETE", "/store/items", json={"namespace": ["x"], "key": "a"})

    assert sorted(row["key"] for row in told.json()["items"]) == found
    assert refused.status_code == 403


async def test_the_memory_is_an_item_of_the_store(serve: Serve, project: Project) -> None:
    """With its own namespace, whatever a handler makes of it: nodes find it there."""
    handlers = """
@auth.on.store
async def alice_only(ctx, value):
    assert (value["namespace"], value["key"]) == (("memory",), "document")
    value["namespace"] = ("elsewhere",)
    return ctx.user.identity == "alice"
"""
    async with serve(project=project(handlers), gateway=True) as api:
        alice, bob = user(api, "alice"), user(api, "bob")
        fact = {"content": "Likes tea"}
        added = [await client.post("/api/memory/facts", json=fact) for client in (alice, bob)]
        read = [await client.get("/api/memory") for client in (alice, bob)]
        gone = [await client.delete("/api/memory") for client in (alice, bob)]
        (item,) = await api.database.fetch("select prefix, key from store")

    for answers in (added, read, gone):
        assert [answer.status_code for answer in answers] == [200, 403]
    assert read[0].json() == added[0].json()
    assert item == {"prefix": "@user:alice.memory", "key": "document"}


def rpc(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def test_mcp_and_a2a_act_for_the_user(serve: Serve, project: Project) -> None:
    handlers = """
@auth.on.threads.create_run
async def not_bob(ctx, value):
    return ctx.user.identity != "bob"
"""
    async with serve(project=project(handlers)) as api:
        alice, bob, nobody = user(api, "alice"), user(api, "bob"), api.client()
        call = rpc("tools/call", name="who", arguments={"text": "a"})
        called = [await client.post("/mcp", json=call) for client in (alice, bob)]
        message = {"messageId": "m", "parts": [{"data": {"text": "a"}}]}
        sent = [
            await client.post("/a2a/who", json=rpc("message/send", message=message))
            for client in (alice, bob)
        ]
        anonymous = [
            (await nobody.post("/mcp", json=call)).status_code,
            (await nobody.post("/a2a/who", json=rpc("message/send", message=message))).status_code,
        ]
        runs = await api.database.fetch(
            "select owner, kwargs -> 'user' ->> 'identity' as who from slackwater.runs"
        )

    assert "team of alice" in called[0].text
    assert "Forbidden" in called[1].text
    assert "result" in sent[0].json()
    assert "Forbidden" in sent[1].text
    assert anonymous == [401, 401]
    assert runs == [{"owner": "user:alice", "who": "alice"}] * 2


async def test_protocol_commands_act_for_the_user(serve: Serve, project: Project) -> None:
    async with serve(project=project(PARTICIPANTS)) as api:
        alice, bob, carol = (user(api, name) for name in ("alice", "bob", "carol"))
        thread = await thread_of(alice, participants=["alice", "bob"])
        start = {"id": 1, "method": "run.start", "params": WHO}
        told = [await client.post(f"/threads/{thread}/commands", json=start) for client in (bob, carol)]
        run = told[0].json()["result"]["run_id"]
        seen = await alice.get(f"/threads/{thread}/runs/{run}/join")
        tree = [
            (
                await client.post(
                    f"/threads/{thread}/commands", json={"id": 2, "method": "agent.getTree", "params": {}}
                )
            ).json()
            for client in (bob, carol)
        ]
        rows = await api.database.fetch("select owner from slackwater.runs where kind = 'run'")

    assert seen.json()["seen"]["identity"] == "bob"
    assert told[1].json()["type"] == "error"
    assert "result" in tree[0]
    assert tree[1]["error"] == "no_such_run"
    assert rows == [{"owner": "user:alice"}]


async def test_an_own_route_sees_the_user(serve: Serve, project: Project) -> None:
    folder = project(http={"app": "./web.py:app", "enable_custom_route_auth": True})
    (folder / "web.py").write_text(
        """
from fastapi import FastAPI, Request

app = FastAPI()

@app.get("/me")
async def me(request: Request):
    return {"identity": request.user.identity, "team": request.user["team"], "scopes": request.auth.scopes}
"""
    )
    async with serve(project=folder) as api:
        told = await user(api, "alice").get("/me")
        refused = await api.client().get("/me")

    assert told.json() == {"identity": "alice", "team": "team of alice", "scopes": ["read", "alice"]}
    assert refused.status_code == 401


async def test_a_node_calls_the_api_as_the_user_of_its_run(serve: Serve, project: Project) -> None:
    """On a shared thread too: what its owner sees is none of their business."""
    async with serve(project=project(PARTICIPANTS)) as api:
        alice, bob = user(api, "alice"), user(api, "bob")
        shared = await thread_of(alice, participants=["alice", "bob"])
        await thread_of(alice, participants=["alice"])
        told = await bob.post(f"/threads/{shared}/runs/wait", json={"assistant_id": "asks", "input": {}})

    assert told.json()["seen"] == {"threads": [shared]}
