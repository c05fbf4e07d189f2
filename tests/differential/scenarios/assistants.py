"""Assistants: their life, their versions, what they say about their graph."""

from __future__ import annotations

from tests.differential.scenario import scenario
from tests.differential.script import Script

NOBODY = "00000000-0000-4000-8000-000000000000"


@scenario("assistants.life")
async def life(s: Script) -> None:
    made = await s.post(
        "/assistants",
        {
            "graph_id": "echo",
            "name": "First",
            "description": "to try",
            "metadata": {"tag": s.tag, "deep": {"a": 1}},
            "config": {"tags": ["t"], "recursion_limit": 11, "configurable": {"marker": "m"}},
        },
    )
    path = f"/assistants/{made['assistant_id']}"
    await s.get(path)
    await s.patch(path, {"metadata": {"more": 1}})
    await s.patch(path, {})
    await s.patch(path, {"name": "Second", "description": "changed", "context": {"prefix": "p"}})
    await s.patch(path, {"config": {"tags": ["u"]}})
    await s.patch(path, {"graph_id": "steps"})
    await s.post(f"{path}/versions", {})
    await s.post(f"{path}/versions", {"limit": 2, "offset": 1})
    await s.post(f"{path}/versions", {"metadata": {"more": 1}})
    await s.post(f"{path}/versions", {"offset": 50})
    await s.post(f"{path}/latest", {"version": 2})
    await s.patch(path, {"metadata": {"after": True}})
    await s.post(f"{path}/latest", {"version": 99})
    await s.post(f"{path}/latest", {})
    await s.delete(path)
    await s.get(path)
    await s.delete(path)
    await s.patch(path, {"name": "gone"})
    await s.post(f"{path}/versions", {})


@scenario("assistants.create")
async def create(s: Script) -> None:
    assistant_id = s.id("assistant")
    body = {"assistant_id": assistant_id, "graph_id": "echo", "metadata": {"tag": s.tag}}
    await s.post("/assistants", body)
    await s.post("/assistants", {**body, "name": "again"})
    await s.post("/assistants", {**body, "name": "again", "if_exists": "do_nothing"})
    await s.post("/assistants", {**body, "if_exists": "sometimes"})
    await s.post("/assistants", {"graph_id": "nope"})
    await s.post("/assistants", {})
    await s.post("/assistants", {"graph_id": "echo", "assistant_id": "not-an-id"})
    await s.post("/assistants", {"graph_id": "echo", "metadata": None})
    await s.post("/assistants", {"graph_id": "echo", "config": None})
    await s.post(
        "/assistants", {"graph_id": "echo", "config": {"configurable": {"a": 1}}, "context": {"b": 2}}
    )
    await s.post(
        "/assistants",
        {"graph_id": "echo", "metadata": {"tag": s.tag, "run_id": "x", "thread_id": "y"}, "strange": 1},
    )
    await s.post("/assistants", {"graph_id": "echo", "context": {"prefix": "c"}, "metadata": {"tag": s.tag}})
    await s.delete(f"/assistants/{assistant_id}")


@scenario("assistants.search")
async def search(s: Script) -> None:
    for number, (graph, name) in enumerate((("echo", "beta"), ("steps", "Alpha"), ("fail", "gamma"))):
        await s.ask(
            "POST",
            "/assistants",
            {
                "graph_id": graph,
                "name": name,
                "metadata": {"tag": s.tag, "number": number, "deep": {"a": [1]}},
            },
        )
    mine = {"metadata": {"tag": s.tag}}
    await s.post("/assistants/search", mine)
    await s.post("/assistants/search", {**mine, "limit": 2})
    await s.post("/assistants/search", {**mine, "limit": 2, "offset": 2})
    await s.post("/assistants/search", {**mine, "limit": 3})
    await s.post("/assistants/search", {**mine, "offset": 100})
    await s.post("/assistants/search", {**mine, "graph_id": "echo"})
    await s.post("/assistants/search", {**mine, "graph_id": "nope"})
    await s.post("/assistants/search", {**mine, "name": "ALPH"})
    for by in ("name", "graph_id", "created_at", "updated_at", "assistant_id"):
        for order in ("asc", "desc"):
            if by != "assistant_id":  # which are random
                await s.post(
                    "/assistants/search",
                    {**mine, "sort_by": by, "sort_order": order, "select": ["name"]},
                )
    await s.post("/assistants/search", {**mine, "sort_by": "nonsense"})
    await s.post("/assistants/search", {**mine, "sort_order": "up"})
    await s.post("/assistants/search", {**mine, "select": ["name", "graph_id"]})
    await s.post("/assistants/search", {**mine, "select": ["secret"]})
    await s.post("/assistants/search", {**mine, "limit": 0})
    await s.post("/assistants/search", {"metadata": {"tag": s.tag, "deep": {"a": [1]}}})
    await s.post("/assistants/search", {"metadata": {"tag": s.tag, "number": 1}})
    await s.post("/assistants/count", mine)
    await s.post("/assistants/count", {**mine, "graph_id": "echo"})
    await s.post("/assistants/count", {**mine, "graph_id": "nope"})
    await s.post("/assistants/count", {**mine, "name": "amm"})
    found = await s.sdk.assistants.search(metadata={"tag": s.tag}, limit=2, response_format="object")
    s.note(
        "sdk.assistants.search", {"next": found["next"], "names": [a["name"] for a in found["assistants"]]}
    )


@scenario("assistants.system")
async def system(s: Script) -> None:
    await s.post(
        "/assistants/search", {"metadata": {"created_by": "system"}, "limit": 100, "sort_by": "name"}
    )
    for graph in ("echo", "subgraph"):
        found = await s.ask(
            "POST", "/assistants/search", {"metadata": {"created_by": "system"}, "graph_id": graph}
        )
        await s.get(f"/assistants/{found[0]['assistant_id']}")


@scenario("assistants.graph")
async def graph(s: Script) -> None:
    for name in ("echo", "steps", "subgraph", "tools", "factory", "panel"):
        await s.get(f"/assistants/{name}/graph")
    for xray in ("true", "True", "false", "1", "2", "0", "-1", "deep"):
        await s.get(f"/assistants/subgraph/graph?xray={xray}")
    await s.get("/assistants/nope/graph")
    await s.get(f"/assistants/{NOBODY}/graph")
    made = await s.ask("POST", "/assistants", {"graph_id": "factory", "context": {"flavor": "sweet"}})
    await s.get(f"/assistants/{made['assistant_id']}/graph")
    await s.get(f"/assistants/{made['assistant_id']}/schemas")


@scenario("assistants.schemas")
async def schemas(s: Script) -> None:
    for name in ("echo", "steps", "chat", "hitl", "subgraph", "factory", "store", "tools", "panel"):
        made = await s.ask("POST", "/assistants", {"graph_id": name})
        path = f"/assistants/{made['assistant_id']}"
        await s.get(f"{path}/schemas", label=f"GET schemas of {name}")
        await s.get(f"{path}/subgraphs", label=f"GET subgraphs of {name}")
        await s.get(f"{path}/subgraphs?recurse=true", label=f"GET subgraphs of {name}, recursed")
        await s.get(f"{path}/subgraphs/child", label=f"GET subgraphs of {name}, child")
        await s.get(f"{path}/subgraphs/nothing?recurse=true", label=f"GET subgraphs of {name}, nothing")


@scenario("assistants.refusals")
async def refusals(s: Script) -> None:
    for bad in (NOBODY, "echo", "not-an-id"):
        path = f"/assistants/{bad}"
        await s.get(path)
        await s.patch(path, {"name": "x"})
        await s.delete(path)
        await s.post(f"{path}/versions", {})
        await s.post(f"{path}/latest", {"version": 1})
        await s.get(f"{path}/schemas")
        await s.get(f"{path}/subgraphs")
        await s.get(f"{path}/subgraphs/child")
