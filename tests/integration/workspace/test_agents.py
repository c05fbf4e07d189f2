"""Agents that users make, and what runs are told of them (1.22, Z3, section 5; 791012692, 0d4d0cb17)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from slackwater.owners.erase import erase
from slackwater.postgres.pool import Database
from slackwater.workspace.agents.queries import MOST_AGENTS
from tests.support.api import Api
from tests.support.at_once import at_once

GRAPH = """
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime


class Said(TypedDict, total=False):
    agent: Any
    name: Any


async def say(state: Said, runtime: Runtime) -> Said:
    return {"agent": runtime.context.get("agent"), "name": runtime.context.get("agent_name")}


lead_agent = StateGraph(Said).add_node(say).add_edge(START, "say").compile()
"""


def project(folder: Path, *, enabled: bool = True, **gateway: Any) -> Path:
    folder.mkdir()
    (folder / "agent.py").write_text(GRAPH)
    content = {
        "dependencies": ["."],
        "graphs": {"lead_agent": "./agent.py:lead_agent"},
        "gateway": {"agents": {"enabled": enabled}, **gateway},
    }
    (folder / "langgraph.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
async def api(serve: Callable[..., Any], tmp_path: Path) -> AsyncIterator[Api]:
    async with serve(gateway=True, project=project(tmp_path / "project"), names=("alice", "bob")) as api:
        yield api


RESEARCHER = {
    "name": "Re-Searcher",
    "description": "Looks things up.",
    "model": "fast",
    "tool_groups": ["web"],
    "skills": ["report"],
    "soul": "You are thorough.",
}
KEPT = {**RESEARCHER, "name": "re-searcher"}
NOTHING = {"description": None, "model": None, "tool_groups": None, "skills": None, "soul": None}


async def test_agents_are_made_changed_and_deleted(api: Api) -> None:
    """Z3: 201, 409, 422, 404, and what is left out against null."""
    alice, bob = api.client("alice"), api.client("bob")
    assert (await alice.get("/api/agents")).json() == {"agents": []}
    check = await alice.get("/api/agents/check", params={"name": "RE-searcher"})
    assert check.json() == {"available": True, "name": "re-searcher"}
    made = await alice.post("/api/agents", json=RESEARCHER)
    assert (made.status_code, made.json()) == (201, KEPT)
    again = await alice.post("/api/agents", json={"name": "RE-SEARCHER"})
    assert (again.status_code, again.json()) == (409, {"detail": "Agent 're-searcher' already exists"})
    check = await alice.get("/api/agents/check", params={"name": "re-searcher"})
    assert check.json() == {"available": False, "name": "re-searcher"}
    assert (await alice.get("/api/agents/RE-Searcher")).json() == KEPT
    assert (await alice.post("/api/agents", json={"name": "Another"})).json() == {
        "name": "another",
        **NOTHING,
    }
    assert (await alice.get("/api/agents")).json() == {"agents": [{"name": "another", **NOTHING}, KEPT]}

    # Names, and what makes no sense
    for name in ("", "a b", "a_b", "a/b", "ä", "a\n", "a" * 65):
        assert (await alice.post("/api/agents", json={"name": name})).status_code == 422, name
        assert (await alice.get("/api/agents/check", params={"name": name})).status_code == 422, name
    for name in ("a%20b", "a_b", "a%0A"):
        assert (await alice.get(f"/api/agents/{name}")).status_code == 422
        assert (await alice.put(f"/api/agents/{name}", json={})).status_code == 422
        assert (await alice.delete(f"/api/agents/{name}")).status_code == 422
    for wrong in ({"skills": "report"}, {"soul": "a" * 32_769}, {"tool_groups": [""]}):
        assert (await alice.put("/api/agents/another", json=wrong)).status_code == 422

    # WHEN something is left out, THEN it stays; null takes it away, and [] is none
    path = "/api/agents/re-searcher"
    assert (await alice.put(path, json={"skills": []})).json() == {**KEPT, "skills": []}
    assert (await alice.put(path, json={"skills": None, "soul": "Be brief."})).json() == {
        **KEPT,
        "skills": None,
        "soul": "Be brief.",
    }
    assert (await alice.put(path, json={})).json()["description"] == "Looks things up."

    # 1.18: it is an assistant, too, behind those that there are
    search = "/api/assistants/search"
    found = (await alice.post(search, json={})).json()
    assert [one["name"] for one in found] == ["lead_agent", "another", "re-searcher"]
    assert found[2] | {"created_at": None, "updated_at": None} == {
        "assistant_id": "re-searcher",
        "graph_id": "lead_agent",
        "config": {},
        "context": {},
        "metadata": {"created_by": "user"},
        "name": "re-searcher",
        "created_at": None,
        "updated_at": None,
        "version": 4,
        "description": "Looks things up.",
    }
    assert (await alice.get("/api/assistants/Re_Searcher")).json() == found[2]
    assert (await alice.get("/api/assistants/re-searcher/graph")).json()["nodes"]
    assert (await alice.get("/api/assistants/re-searcher/schemas")).json()["graph_id"] == "lead_agent"
    for body, names in (
        ({"limit": 2}, ["lead_agent", "another"]),
        ({"limit": 2, "offset": 1}, ["another", "re-searcher"]),
        ({"offset": 2}, ["re-searcher"]),
        ({"offset": 3}, []),
        ({"name": "SEARCH", "graph_id": "lead_agent"}, ["re-searcher"]),
        ({"metadata": {"created_by": "user"}}, ["another", "re-searcher"]),
        ({"metadata": {"created_by": "system"}}, ["lead_agent"]),
    ):
        page = await alice.post(search, json={**body, "select": ["name"]})
        assert page.json() == [{"name": name} for name in names], body
        assert ("x-pagination-next" in page.headers) == (body == {"limit": 2}), body
    assert len((await bob.post(search, json={})).json()) == 1
    for path_of_it in ("re-searcher", "re-searcher/graph", "re-searcher/schemas"):
        assert (await bob.get(f"/api/assistants/{path_of_it}")).status_code == 404
    assert len((await alice.post("/assistants/search", json={})).json()) == 1

    # Another's is not there, and its name is free
    for answer in (
        await bob.get(path),
        await bob.put(path, json={"soul": ""}),
        await bob.delete(path),
        await alice.get("/api/agents/nobody"),
    ):
        assert answer.status_code == 404
    assert (await alice.get("/api/agents/nobody")).json() == {"detail": "Agent 'nobody' not found"}
    assert (await bob.post("/api/agents", json=RESEARCHER)).status_code == 201
    gone = await alice.delete(path)
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await alice.delete(path)).status_code == 404
    assert (await bob.get(path)).json() == KEPT

    # There may be so many
    await api.database.execute(
        "insert into slackwater.agents (owner, name) select 'alice', 'a' || n from generate_series(2, %s) n",
        [MOST_AGENTS],
    )
    many = await alice.post("/api/agents", json={"name": "more"})
    assert (many.status_code, "delete one first" in many.json()["detail"]) == (400, True)
    assert (await alice.post("/api/agents", json={"name": "another"})).status_code == 409


async def test_a_profile_is_its_owners(api: Api) -> None:
    """6.2, defect 13: the seed's is one for everybody."""
    alice, bob = api.client("alice"), api.client("bob")
    first = await alice.get("/api/user-profile")
    assert first.json() == {"content": None}
    new = {"if-match": first.headers["etag"]}
    told = await alice.put("/api/user-profile", json={"content": "I am brief."}, headers=new)
    assert (told.status_code, told.json()) == (200, {"content": "I am brief."})
    late = await alice.put("/api/user-profile", json={"content": "I am not."}, headers=new)
    assert late.status_code == 409
    assert (await bob.get("/api/user-profile")).json() == {"content": None}
    assert (await alice.get("/api/user-profile")).json() == {"content": "I am brief."}
    assert (await alice.put("/api/user-profile", json={"content": ""})).json() == {"content": None}
    await alice.post("/api/agents", json=RESEARCHER)
    await erase(api.database, "alice")
    for table in ("agents", "user_profiles"):
        assert await api.database.fetch(f"select 1 from slackwater.{table} where owner = 'alice'") == []


async def test_what_two_say_at_once_is_merged(
    serve: Callable[..., Any], database: Database, tmp_path: Path
) -> None:
    """Two processes: each field is what was said of it last; with what was read, exactly one is first."""
    folder = project(tmp_path / "project")
    async with serve(gateway=True, project=folder) as one, serve(gateway=True, project=folder) as other:
        clients = [one.client(), other.client()]
        both = await asyncio.gather(*(client.post("/api/agents", json=RESEARCHER) for client in clients))
        assert sorted(answer.status_code for answer in both) == [201, 409]
        path = "/api/agents/re-searcher"
        said = (
            {"soul": "One."},
            {"model": "slow"},
            {"skills": None},
            {"tool_groups": []},
            {"description": "Two."},
        )
        answers = await asyncio.gather(*(clients[n % 2].put(path, json=body) for n, body in enumerate(said)))
        assert {answer.status_code for answer in answers} == {200}
        got = await clients[1].get(path)
        assert got.json() == {
            "name": "re-searcher",
            "description": "Two.",
            "model": "slow",
            "tool_groups": [],
            "skills": None,
            "soul": "One.",
        }
        read = {"if-match": got.headers["etag"]}
        changes = [client.put(path, json={"soul": "x"}, headers=read) for client in clients]
        assert sorted(each.status_code for each in await asyncio.gather(*changes)) == [200, 409]
        assert (await clients[0].delete(path, headers=read)).status_code == 409
        profiles = [
            client.put("/api/user-profile", json={"content": "x"}, headers={"if-match": '"0"'})
            for client in clients
        ]
        assert sorted(each.status_code for each in await asyncio.gather(*profiles)) == [200, 409]

        # Without: who changes what another has changed since the request came hears it, and who says the same does not
        said = ({"soul": "a"}, {"soul": "b"}, {"soul": "b"}, {"model": "fast"})
        puts = (clients[n % 2].put(path, json=body) for n, body in enumerate(said))
        answers = await at_once(database, "slackwater.agents", *puts)
        done = [answer.json() for answer in answers if answer.status_code == 200]
        assert {answer.status_code for answer in answers} == {200, 409}
        got = (await clients[0].get(path)).json()
        assert (got["model"], {agent["soul"] for agent in done} - {"x"}) == ("fast", {got["soul"]})
        puts = (
            clients[n % 2].put("/api/user-profile", json={"content": text}) for n, text in enumerate("abb")
        )
        answers = await at_once(database, "slackwater.user_profiles", *puts)
        done = [answer.json() for answer in answers if answer.status_code == 200]
        assert {answer.status_code for answer in answers} == {200, 409}
        assert done[0] == done[-1] == (await clients[0].get("/api/user-profile")).json()


async def test_a_run_is_told_of_its_agent(api: Api) -> None:
    """Section 4: `context.agent_name`, and an assistant that is none of ours."""
    alice, bob = api.client("alice"), api.client("bob")
    await alice.post("/api/agents", json=RESEARCHER)
    await alice.put("/api/user-profile", json={"content": "I am brief."})
    told = {**KEPT, "user_profile": "I am brief."}

    async def said(client: Any = alice, **body: Any) -> dict[str, Any]:
        wanted = {"assistant_id": "lead_agent", "input": {"messages": []}, **body}
        answer = await client.post("/api/runs/wait", json=wanted)
        assert answer.status_code == 200, answer.text
        values: dict[str, Any] = answer.json()
        return values

    assert await said(context={"agent_name": "Re-Searcher"}) == {"agent": told, "name": "Re-Searcher"}
    assert await said(assistant_id="re_searcher") == {"agent": told, "name": "re-searcher"}
    assert await said(config={"configurable": {"agent_name": "re-searcher"}}) == {
        "agent": told,
        "name": "re-searcher",
    }
    # What is nobody's, or another's, is the graph's affair
    for name in ("nobody", "no name!", 7):
        assert await said(context={"agent_name": name}) == {"agent": None, "name": name}
    assert await said(bob, context={"agent_name": "re-searcher"}) == {"agent": None, "name": "re-searcher"}
    # I7: whoever a request says that it is
    for spoofed in (
        {"context": {"agent_name": "re-searcher", "user_id": "alice"}},
        {"assistant_id": "re-searcher"},
    ):
        assert await said(bob, **spoofed) == {"agent": None, "name": "re-searcher"}
    assert await said() == {"agent": None, "name": None}


async def test_an_agent_has_a_model_that_there_is(serve: Callable[..., Any], tmp_path: Path) -> None:
    """6.2: the 400 of the dialect for agents, too, when they are written, and when they run after a change of the configuration."""
    models = [{"name": name, "model": "openai:gpt-5"} for name in ("fast", "slow")]
    async with serve(gateway=True, project=project(tmp_path / "project", models=models)) as api:
        client, path = api.client(), "/api/agents/re-searcher"
        unknown = {"detail": "Model 'none' is not in the configured model allowlist"}
        refused = await client.post("/api/agents", json={**RESEARCHER, "model": "none"})
        assert (refused.status_code, refused.json()) == (400, unknown)
        assert (await client.post("/api/agents", json=RESEARCHER)).status_code == 201
        refused = await client.put(path, json={"model": "none", "soul": "x"})
        assert (refused.status_code, refused.json()) == (400, unknown)
        assert (await client.get(path)).json() == KEPT
        assert (await client.put(path, json={"model": "slow"})).status_code == 200

        async def run(**context: Any) -> int:
            body = {
                "assistant_id": "lead_agent",
                "input": {},
                "context": {"agent_name": "re-searcher", **context},
            }
            return (await client.post("/api/runs/wait", json=body)).status_code

        assert await run() == 200
        # WHEN its model is taken away, THEN no other one is taken in silence
        graphs = api.services.graphs
        graphs.put_in_force(graphs.own_gateway.changed_by({"models": models[:1]}))
        assert (await run(), await run(model_name="fast"), await run(model_name="slow")) == (400, 200, 400)
        assert (await client.put(path, json={"model": None})).status_code == 200
        assert await run() == 200


async def test_all_of_it_is_off_unless_the_project_says_so(serve: Callable[..., Any], tmp_path: Path) -> None:
    """Z3: 403, with the words that the page looks for; runs with a name go on as ever."""
    async with serve(gateway=True, project=project(tmp_path / "off", enabled=False)) as api:
        client = api.client()
        for answer in (
            await client.get("/api/agents"),
            await client.post("/api/agents", json=RESEARCHER),
            await client.get("/api/agents/check?name=a"),
            await client.get("/api/agents/a"),
            await client.put("/api/agents/a", json={}),
            await client.delete("/api/agents/a"),
            await client.get("/api/user-profile"),
            await client.put("/api/user-profile", json={"content": "x"}),
        ):
            assert (answer.status_code, "agents_api.enabled" in answer.json()["detail"]) == (403, True)
        body = {"assistant_id": "lead_agent", "input": {}, "context": {"agent_name": "a"}}
        assert (await client.post("/api/runs/wait", json=body)).json() == {"agent": None, "name": "a"}


AUTH = """
from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def who(headers):
    return headers[b"x-user"].decode()


@auth.on
async def anything(ctx, value):
    return {"owner": ctx.user.identity}


@auth.on.store
async def items(ctx, value):
    return value["namespace"] == ("skills",) and value.get("key") not in ("secret", "shown-to-nobody")


@auth.on.store.put
async def put(ctx, value):
    return value["namespace"] == ("skills",) and value.get("key") != "secret"
"""


async def test_a_projects_own_auth_is_asked(serve: Callable[..., Any], tmp_path: Path) -> None:
    """As of an item of the store: ("agents", NAME), ("profile", "profile") and ("skills", NAME)."""
    folder = project(tmp_path / "own")
    (folder / "own_auth.py").write_text(AUTH)
    content = json.loads((folder / "langgraph.json").read_text())
    content["gateway"]["skills"] = "./skills"
    (folder / "langgraph.json").write_text(json.dumps({**content, "auth": {"path": "./own_auth.py:auth"}}))
    hidden = folder / "skills" / "shown-to-nobody"
    hidden.mkdir(parents=True)
    (hidden / "SKILL.md").write_text("---\nname: shown-to-nobody\ndescription: Hidden.\n---\n")
    async with serve(gateway=True, project=folder) as api:
        client = api.client(**{"x-user": "carol"})
        for refused in (
            await client.get("/api/agents"),
            await client.post("/api/agents", json=RESEARCHER),
            await client.get("/api/agents/a"),
            await client.put("/api/agents/a", json={}),
            await client.delete("/api/agents/a"),
            await client.get("/api/user-profile"),
            await client.put("/api/user-profile", json={"content": "x"}),
            await client.get("/api/skills/secret"),
            await client.put("/api/skills/secret", json={"enabled": True}),
            await client.get("/api/skills/custom/secret"),
            await client.put("/api/skills/custom/secret", json={"content": ""}),
            await client.delete("/api/skills/custom/secret"),
            await client.get("/api/skills/custom/secret/history"),
            await client.post("/api/skills/custom/secret/rollback", json={}),
        ):
            assert refused.status_code == 403, refused.request.url
        assert len((await client.get("/api/skills")).json()["skills"]) == 1
        assert (await client.get("/api/skills/custom/open")).status_code == 404
        # What was allowed and done is not refused afterwards, as it would be if it was asked whether it may be read
        path = "/api/skills/shown-to-nobody"
        assert (await client.get(path)).status_code == 403
        done = await client.put(path, json={"enabled": False})
        assert (done.status_code, done.json()["enabled"]) == (200, False), done.text
        # For everybody only administrators decide, of whom a project's own auth knows none: nothing is written
        refused = await client.put(path, json={"enabled": False, "everybody": True})
        assert (refused.status_code, "admin" in refused.json()["detail"]) == (403, True)
        rows = await api.database.fetch("select owner from slackwater.skill_switches")
        assert [row["owner"] for row in rows] == ["user:carol"]
