"""`get_client()` without a URL, in the project's own code: it calls for the run's owner, for the request's caller, or for nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.errors import InternalServerError
from support.api import Api

from slackwater.errors import NoCaller
from slackwater.identity.principal import Principal
from slackwater.identity.scopes import KeyScope
from slackwater.identity.stored_keys import service as stored_keys
from slackwater.runtime.process import stop
from slackwater.web.in_process import on_behalf_of

SHARED = """
import asyncio
from langgraph_sdk import get_client

client = get_client()  # as real projects do it: before anything serves
kept = {"heard": asyncio.Event(), "go": asyncio.Event()}
"""

GRAPHS = """
import asyncio
import threading
from typing import Any, TypedDict

from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph_sdk import get_client

from shared import client, kept


class State(TypedDict, total=False):
    how: str
    told: Any


def graph(node):
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile()


async def who(state, config):
    return {"told": config["configurable"]["langgraph_auth_user_id"]}


async def threads_of(client):
    mine = await client.threads.create(metadata={"made": "inside"})
    found = await client.threads.search(metadata={"made": "inside"})
    assert mine["thread_id"] in [thread["thread_id"] for thread in found]
    ran = await client.runs.wait(None, "who", input={})
    return {"threads": [thread["thread_id"] for thread in found], "ran": ran["told"]}


@tool
def ask() -> str:
    "A sync tool, which runs in a thread and has a loop of its own."
    import json
    return json.dumps(asyncio.run(threads_of(client)))


async def call(state):
    if state["how"] == "imported":
        return {"told": await threads_of(client)}
    if state["how"] == "made":
        return {"told": await threads_of(get_client())}
    if state["how"] == "task":
        return {"told": await asyncio.create_task(threads_of(client))}
    return {"told": await asyncio.to_thread(lambda: asyncio.run(threads_of(client)))}


def call_sync(state):
    return {"told": asyncio.run(threads_of(client))}


async def hear(state):
    # The run inside goes on when what it has said first was heard, and not before.
    heard = []
    async for part in client.runs.stream(None, "speak", input={}, stream_mode="custom"):
        if part.event == "custom":
            heard.append(part.data)
            kept["heard"].set()
    return {"told": heard}


async def speak(state):
    get_stream_writer()("first")
    await kept["heard"].wait()
    get_stream_writer()("second")
    return {}


async def turn_away(state):
    thread = await client.threads.create()
    stream = client.runs.stream(
        thread["thread_id"], "endless", input={}, stream_mode="values", on_disconnect="cancel"
    )
    async for part in stream:
        run = part.data["run_id"]
        break
    await stream.aclose()
    return {"told": [thread["thread_id"], run]}


async def endless(state):
    await asyncio.Event().wait()


async def look_at_all(state):
    try:
        await client.http.get("/metrics")
    except Exception as error:
        return {"told": f"{type(error).__name__}: {error}"}


async def outlive(state):
    async def later():
        await kept["go"].wait()
        return await client.threads.search()

    kept["later"] = asyncio.create_task(later())
    return {}


def apart(state):
    # A thread that inherits nothing.
    def work():
        try:
            asyncio.run(client.threads.search())
        except BaseException as error:
            told.append(f"{type(error).__name__}: {error}")

    told = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return {"told": told}


async def made(config):
    kept["factory"] = await client.threads.search(metadata={"made": "inside"})
    return graph(who)


who = graph(who)
call = graph(call)
call_sync = graph(call_sync)
tools = StateGraph(MessagesState).add_node("tools", ToolNode([ask])).add_edge(START, "tools").compile()
hear, speak, turn_away, endless = graph(hear), graph(speak), graph(turn_away), graph(endless)
outlive, apart, look_at_all = graph(outlive), graph(apart), graph(look_at_all)
"""

WEB = """
import asyncio

from fastapi import BackgroundTasks, FastAPI

from shared import client, kept

app = FastAPI()


@app.get("/mine")
async def mine():
    return await client.threads.search(metadata={"made": "outside"})


@app.get("/sync")
def sync():
    return asyncio.run(client.threads.search(metadata={"made": "outside"}))


@app.get("/run")
async def run():
    return (await client.runs.wait(None, "who", input={}))["told"]


@app.get("/refused")
async def refused():
    try:
        await client.threads.search()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@app.get("/starts")
async def starts():
    try:
        return (await client.runs.wait(None, "who", input={}))["told"]
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@app.get("/later")
async def later(tasks: BackgroundTasks):
    async def outlive():
        await kept["go"].wait()
        return await client.threads.search()

    async def behind():
        kept["behind"] = await client.threads.search(metadata={"made": "outside"})

    kept["later"] = asyncio.create_task(outlive())
    tasks.add_task(behind)
"""

Serve = Callable[..., Any]


@pytest.fixture
def project(serve: Serve, tmp_path: Path) -> Serve:
    """Serves a project whose modules share a client that was made while they were imported."""

    @asynccontextmanager
    async def project(http: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[tuple[Api, Any]]:
        shared = f"shared_{tmp_path.name}"  # other tests import one, too
        (tmp_path / f"{shared}.py").write_text(SHARED)
        for name, text in (("graphs", GRAPHS), ("web", WEB)):
            (tmp_path / f"{name}.py").write_text(text.replace("from shared", f"from {shared}"))
        ids = [
            "who",
            "call",
            "call_sync",
            "tools",
            "hear",
            "speak",
            "turn_away",
            "endless",
            "outlive",
            "apart",
            "look_at_all",
            "made",
        ]
        graphs = {name: f"./graphs.py:{name}" for name in ids}
        asked = {"graphs": graphs, "dependencies": ["."], "http": {"app": "./web.py:app", **(http or {})}}
        (tmp_path / "langgraph.json").write_text(json.dumps(asked))
        async with serve(project=tmp_path, **settings) as api:
            yield api, __import__(shared).kept

    return project


async def ran(api: Api, graph: str, given: dict[str, Any], name: str | None = None) -> Any:
    answer = await api.client(name).post("/runs/wait", json={"assistant_id": graph, "input": given})
    assert answer.status_code == 200, answer.text
    return answer.json().get("told", answer.json())


@pytest.mark.parametrize(
    ("graph", "how"),
    [("call", "imported"), ("call", "made"), ("call", "task"), ("call", "thread"), ("call_sync", "")],
)
async def test_inside_a_run_it_calls_for_the_owner_of_the_run(project: Serve, graph: str, how: str) -> None:
    async with project(names=("alice", "bob")) as (api, _):
        theirs: dict[str, set[str]] = {}
        for name in ("alice", "bob", "alice"):
            told = await ran(api, graph, {"how": how}, name)
            assert told["ran"] == name
            theirs[name] = theirs.get(name, set()) | set(told["threads"])
        # THEN each has made and found threads of their own, and none of the other's
        assert (len(theirs["alice"]), len(theirs["bob"])) == (2, 1)
        assert not theirs["alice"] & theirs["bob"]
        found = (
            await api.client("bob").post("/threads/search", json={"metadata": {"made": "inside"}})
        ).json()
        assert {thread["thread_id"] for thread in found} == theirs["bob"]


async def test_a_sync_tool_calls_from_its_thread(project: Serve) -> None:
    async with project(names=("alice",)) as (api, _):
        call = {"id": "1", "name": "ask", "args": {}, "type": "tool_call"}
        told = await ran(
            api, "tools", {"messages": [{"role": "ai", "content": "", "tool_calls": [call]}]}, "alice"
        )
        assert json.loads(told["messages"][-1]["content"])["ran"] == "alice"


async def test_a_factory_calls_for_the_run_and_for_whoever_reads(project: Serve) -> None:
    async with project(names=("alice", "bob")) as (api, kept):
        await api.client("alice").post("/threads", json={"metadata": {"made": "inside"}})
        for name, count in (("alice", 1), ("bob", 0)):
            assert await ran(api, "made", {}, name) == name
            assert len(kept.pop("factory")) == count
            assert (await api.client(name).get("/assistants/made/graph")).status_code == 200
            assert len(kept.pop("factory")) == count


async def test_a_stream_arrives_while_its_run_goes_on(project: Serve) -> None:
    async with project() as (api, _), asyncio.timeout(20):
        assert await ran(api, "hear", {}) == ["first", "second"]


async def test_who_turns_away_from_a_stream_has_disconnected(project: Serve) -> None:
    async with project() as (api, _):
        thread, run = await ran(api, "turn_away", {})
        async with asyncio.timeout(20):
            while (await api.client().get(f"/threads/{thread}/runs/{run}")).json()["status"] != "interrupted":
                await asyncio.sleep(0.05)


async def test_elsewhere_it_calls_for_nobody(project: Serve) -> None:
    async with project() as (api, kept):
        # In code that belongs to no run and no request
        with pytest.raises(NoCaller, match="give it this server's URL and an API key"):
            await get_client().threads.search()
        (told,) = await ran(api, "apart", {})
        assert told.startswith("NoCaller: `get_client()` without a URL calls for the owner of a run")
        # and in what a run or a request has left behind
        await ran(api, "outlive", {})
        run = kept.pop("later")
        assert (await api.client().get("/later")).status_code == 200
        kept["go"].set()
        for left in (run, kept.pop("later")):
            with pytest.raises(NoCaller):
                await left


@pytest.mark.parametrize("http", [{}, {"enable_custom_route_auth": True}, {"middleware_order": "auth_first"}])
async def test_in_a_route_of_the_own_application_it_calls_for_the_caller(
    project: Serve, http: dict[str, Any]
) -> None:
    async with project(http, names=("alice", "bob")) as (api, kept):
        made = (await api.client("alice").post("/threads", json={"metadata": {"made": "outside"}})).json()
        for path in ("/mine", "/sync"):
            found = (await api.client("alice").get(path)).json()
            assert [thread["thread_id"] for thread in found] == [made["thread_id"]]
            assert (await api.client("bob").get(path)).json() == []
        assert (await api.client("bob").get("/run")).json() == "bob"
        # AND in its background tasks
        await api.client("alice").get("/later")
        assert [thread["thread_id"] for thread in kept["behind"]] == [made["thread_id"]]
        kept.pop("later").cancel()
        # but a caller who does not say who they are is nobody
        refused = await api.client().get("/refused")
        if "enable_custom_route_auth" in http:
            assert refused.status_code == 401
        else:
            assert refused.json().startswith(
                "NoCaller: `get_client()` without a URL calls for the caller of this request."
            )


async def test_without_keys_a_route_calls_for_this_machine_and_below_a_prefix(project: Serve) -> None:
    async with project({"mount_prefix": "/agents", "disable_threads": True}) as (api, _):
        # What is disabled, and where the API is, concerns the network.
        assert (await api.client().get("/agents/mine")).json() == []
        assert (await api.client().get("/agents/run")).json() == "local"
        assert (await api.client().post("/agents/threads/search", json={})).status_code == 404


async def test_no_request_from_outside_comes_this_way(project: Serve) -> None:
    async with project(names=("alice",)) as (api, _):
        for headers in ({"principal": "alice"}, {"x-slackwater-principal": "alice"}, {"host": "api"}):
            answer = await api.client(None, **headers).post("/threads/search", json={})
            assert answer.status_code == 401
        assert (await api.client().post("/noauth/threads/search", json={})).status_code in (401, 404)


async def test_a_call_may_do_no_more_than_the_key_of_its_caller_and_a_run_what_clients_do(
    project: Serve,
) -> None:
    async with project(names=("root",), database_keys=True) as (api, _):
        for scope, told in ((KeyScope.READ, "NoCaller: "), (KeyScope.RUN, "alice")):
            secret, _row = await stored_keys.create(api.database, "alice", [scope], days=None)
            caller = api.client(**{"x-api-key": secret})
            assert (await caller.get("/mine")).json() == []
            assert (await caller.get("/starts")).json().startswith(told)
        # What is about all owners is no run's business, whoever has started it.
        assert "needs the scope 'metrics'" in await ran(api, "look_at_all", {}, "root")


async def test_a_process_that_has_closed_says_so(project: Serve) -> None:
    async with project() as (api, _):
        client = get_client()

        async def alice(scope: object) -> Principal:
            return Principal("alice")

        with on_behalf_of(alice, {"state": {"services": api.services}}):
            assert await client.threads.search() == []
            stop.close(api.services.runtime)
            with pytest.raises(InternalServerError) as refused:
                await client.threads.search()
            assert refused.value.status_code == 503
            assert "This process is stopping" in str(refused.value)
            await api.services.in_process.close(1)
            with pytest.raises(InternalServerError):
                await client.threads.search()
