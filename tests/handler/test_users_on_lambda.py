"""A project's own `auth` on AWS Lambda: what it is told of each kind of event, and who runs act for afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.handler.scene import Scene
from tests.handler.test_sources import event
from tests.support.emulator import LocalEnvironment, request

AUTH = """
from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(request, headers, authorization, path, method, query_params):
    if authorization is None:
        told = [path, method, query_params.get("q"), headers[b"x-told"].decode(), request.cookies.get("session")]
        raise Auth.exceptions.HTTPException(418, "|".join(map(str, told)))
    return {"identity": authorization.removeprefix("Bearer "), "team": "red"}


@auth.on
async def own(ctx, value):
    value.setdefault("metadata", {})["owner"] = ctx.user.identity
    return {"owner": ctx.user.identity}
"""

GRAPHS = """
import asyncio
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    naps: int
    seen: Any


async def nap(state: State) -> State:
    await asyncio.sleep(0.2)
    return {"naps": state["naps"] - 1}


def look(state: State, config: RunnableConfig, runtime: Runtime) -> State:
    user = config["configurable"].get("langgraph_auth_user")
    info = runtime.server_info
    return {"seen": [
        None if user is None else dict(user),
        config["configurable"].get("langgraph_auth_user_id"),
        info.user.identity if info and info.user else None,
    ]}


line = (
    StateGraph(State)
    .add_node("nap", nap)
    .add_node("look", look)
    .add_edge(START, "nap")
    .add_conditional_edges("nap", lambda state: "nap" if state["naps"] > 0 else "look", ["nap", "look"])
    .add_edge("look", END)
    .compile()
)
"""
ALICE = {"authorization": "Bearer alice"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "auth.py").write_text(AUTH)
    (folder / "graphs.py").write_text(GRAPHS)
    content = {"graphs": {"line": "./graphs.py:line"}, "auth": {"path": "./auth.py:auth"}}
    (folder / "langgraph.json").write_text(json.dumps(content))
    return folder


async def environment_with(scene: Scene, project: Path, **env: str) -> LocalEnvironment:
    variables = {"SLACKWATER_PROJECT": str(project), "SLACKWATER_API_KEYS": "", **env}
    return await scene.environment(timeout_seconds=60, env=variables)


def of_version_2(source: str) -> dict[str, Any]:
    """An HTTP API's, or a Function URL's: cookies are apart from the headers."""
    given: dict[str, Any] = event(source)
    given |= {"rawPath": "/threads/x", "rawQueryString": "q=a%20b", "cookies": ["session=abc", "other=1"]}
    given["headers"] = {**given["headers"], "x-told": source}
    given["headers"].pop("authorization", None)
    given["requestContext"]["http"] |= {"method": "GET", "path": "/threads/x"}
    return given


def of_version_1() -> dict[str, Any]:
    given: dict[str, Any] = event("rest_api")
    headers = {"host": "example.org", "x-told": "rest_api", "cookie": "session=abc; other=1"}
    given |= {"path": "/threads/x", "httpMethod": "GET", "headers": headers}
    given["multiValueHeaders"] = {name: [value] for name, value in headers.items()}
    given["queryStringParameters"] = {"q": "a b"}
    given["multiValueQueryStringParameters"] = {"q": ["a b"]}
    return given


async def test_authenticate_is_told_the_same_of_each_kind_of_event(scene: Scene, project: Path) -> None:
    environment = await environment_with(scene, project)
    for source, given in (
        ("http_api_ok", of_version_2("http_api_ok")),
        ("function_url", of_version_2("function_url")),
        ("rest_api", of_version_1()),
    ):
        reply = await environment.invoke(given)
        assert reply.status == 418, reply
        assert reply.body == {"detail": f"/threads/x|GET|a b|{source}|abc"}
    # AND a user is one: what is hers is nobody else's
    made = await environment.invoke(request("POST", "/threads", {}, headers=ALICE))
    path = f"/threads/{made.body['thread_id']}"
    assert (await environment.invoke(request("GET", path, headers=ALICE))).status == 200
    foreign = await environment.invoke(request("GET", path, headers={"authorization": "Bearer bob"}))
    assert foreign.status == 404


@pytest.mark.prompt
@pytest.mark.parametrize("wakes", ["sweep", "sqs"])
async def test_a_run_that_is_handed_over_goes_on_with_its_user(
    scene: Scene, project: Path, wakes: str
) -> None:
    # GIVEN a run that is longer than its environment is held for it
    first = await environment_with(scene, project, SLACKWATER_AFTER_RESPONSE_SECONDS="1")
    made = await first.invoke(request("POST", "/threads", {}, headers=ALICE))
    runs = f"/threads/{made.body['thread_id']}/runs"
    body = {"assistant_id": "line", "input": {"naps": 25}, "config": {"recursion_limit": 100}}
    run = (await first.invoke(request("POST", runs, body, headers=ALICE))).body
    assert scene.row(run)["status"] == "pending"
    # WHEN another one goes on with it, by a schedule's event or a message, of which neither has a user
    second = await environment_with(scene, project)
    if wakes == "sweep":
        await scene.sweep_until_over(second, run)
    else:
        message = event("sqs")
        while scene.row(run)["status"] in ("pending", "running"):
            assert (await second.invoke(message)).payload == {"batchItemFailures": []}
    # THEN its nodes see who began it
    joined = await second.invoke(request("GET", f"{runs}/{run['run_id']}/join", headers=ALICE))
    user, identity, info = joined.body["seen"]
    assert (user["identity"], user["team"], identity, info) == ("alice", "red", "alice", "alice")


async def test_a_schedule_that_starts_a_run_has_no_user(scene: Scene, project: Path) -> None:
    """It is the operator's: no handler is asked, and no user sees it."""
    environment = await environment_with(scene, project)
    started = event("scheduler_run")
    started["input"] = {"naps": 1}
    started["assistant_id"] = "line"
    reply = await environment.invoke(started)
    assert reply.error is None, reply
    rows = scene.watcher.query("select owner, status, kwargs -> 'user' as who from slackwater.runs")
    assert [(row["owner"], row["who"]) for row in rows] == [("system", None)]
    found = await environment.invoke(request("POST", "/threads/search", {}, headers=ALICE))
    assert found.body == []
