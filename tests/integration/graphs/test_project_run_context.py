"""`run_context` of langgraph.json: the project says in its own context variables whose run this is (deerflow-clients.md, 6; 2.10)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest

from slackwater.errors import GraphImportError, RunContextFailed, SettingsError
from slackwater.graphs.run_context import RunContext
from slackwater.identity.safe_id import safe_id
from slackwater.project.run_context import RunContextSpec

WHO = """
from contextvars import ContextVar

USER = ContextVar("user", default=None)
"""

IDENTITY = """
import os
from contextlib import asynccontextmanager

from who import USER


def say(*what):
    with open(os.environ["SAID"], "a") as file:
        print(*what, file=file)


@asynccontextmanager
async def as_owner(user):
    if user.owner == "carol":
        raise ValueError("there is no carol")
    token = USER.set(user)
    say("enter", user.access, user.graph_id, user.run_id)
    try:
        yield
    finally:
        USER.reset(token)  # in the context in which it was set, or this raises
        say("leave", user.access, user.graph_id, user.run_id)
        if user.owner == "dave":
            raise RuntimeError("dave cannot leave")
"""

AGENT = """
import asyncio
from typing import Annotated, Any, TypedDict
from operator import add
from pathlib import Path

from langgraph.graph import END, START, StateGraph

from who import USER


class Said(TypedDict, total=False):
    log: Annotated[list[Any], add]
    gate: str


def id_of():
    return USER.get() and USER.get().id


async def apart(state: Said) -> Said:
    await asyncio.sleep(0.05)
    return {"log": [id_of()]}


def in_a_thread(state: Said) -> Said:
    return {"log": [id_of()]}


async def hang(state: Said) -> Said:
    await asyncio.sleep(600)


def graph(log):
    builder = StateGraph(Said)
    builder.add_node("begin", lambda state: {"log": log})
    builder.add_node(apart)
    builder.add_node(in_a_thread)
    builder.add_edge(START, "begin")
    builder.add_edge("begin", "apart")
    builder.add_edge("apart", "in_a_thread")
    builder.add_conditional_edges(
        "in_a_thread", lambda state: END if Path(state.get("gate", "/")).exists() else "apart"
    )
    return builder.compile()


made = graph(["static"])
hangs = StateGraph(Said).add_node(hang).add_edge(START, "hang").compile()


def factory(config):
    return graph([id_of()])
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    (tmp_path / "said").touch()
    folder = tmp_path / "project"
    folder.mkdir()
    for name, code in {"who": WHO, "identity": IDENTITY, "agent": AGENT}.items():
        (folder / f"{name}.py").write_text(code)
    content = {
        "dependencies": ["."],
        "graphs": {name: f"./agent.py:{name}" for name in ("made", "factory", "hangs")},
        "run_context": "./identity.py:as_owner",
    }
    (folder / "langgraph.json").write_text(json.dumps(content))
    return folder


async def test_a_run_is_its_owners_in_the_context_variables_of_the_project(
    serve: Callable[..., Any], project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One server: factory, async and sync nodes, two owners at once, a look, a cancel, and what fails."""

    def said() -> list[str]:
        return (tmp_path / "said").read_text().splitlines()

    async def until_said(number: int) -> None:
        async with asyncio.timeout(15):
            while len(said()) < number:
                await asyncio.sleep(0.01)

    async with serve(project=project, names=("alice", "bob@example.org", "carol", "dave")) as api:
        alice, bob = api.client("alice"), api.client("bob@example.org")

        async def ran(client: httpx.AsyncClient, graph: str) -> dict[str, Any]:
            thread = (await client.post("/threads", json={})).json()["thread_id"]
            path = f"/threads/{thread}/runs"
            answer = await client.post(f"{path}/wait", json={"assistant_id": graph, "input": {}})
            assert answer.status_code == 200
            (run,) = (await client.get(path)).json()
            return {**answer.json(), "status": run["status"], "run_id": run["run_id"]}

        # Nodes and factories, in this context and in threads, and each owner's run is theirs
        of_bob = safe_id("bob@example.org")
        runs = await asyncio.gather(
            ran(alice, "made"), ran(alice, "factory"), ran(bob, "factory"), ran(bob, "made")
        )
        assert [run["log"] for run in runs] == [
            ["static", "alice", "alice"],
            ["alice"] * 3,
            [of_bob] * 3,
            ["static", of_bob, of_bob],
        ]
        # Entered once and left once for each
        await until_said(8)
        lines = [
            f"{verb} threads.create_run {graph} {run['run_id']}"
            for run, graph in zip(runs, ("made", "factory", "factory", "made"), strict=True)
            for verb in ("enter", "leave")
        ]
        assert sorted(said()) == sorted(lines)

        # Whoever only looks
        assert (await alice.get("/assistants/factory/graph")).status_code == 200
        await until_said(10)
        assert said()[8:] == ["enter assistants.read factory None", "leave assistants.read factory None"]

        # WHEN a run is cancelled in a node, THEN it is left
        thread = (await alice.post("/threads", json={})).json()["thread_id"]
        path = f"/threads/{thread}/runs"
        run = (await alice.post(path, json={"assistant_id": "hangs"})).json()["run_id"]
        await until_said(11)
        assert (await alice.post(f"{path}/{run}/cancel", params={"wait": True})).status_code < 300
        await until_said(12)
        assert said()[10:] == [f"{verb} threads.create_run hangs {run}" for verb in ("enter", "leave")]

        # WHEN it cannot be entered, THEN the run fails with a sentence, and so does who only looks
        failed = await ran(api.client("carol"), "made")
        sentence = "run_context (./identity.py:as_owner) could not be entered: ValueError: there is no carol"
        assert (failed["status"], failed["__error__"]) == (
            "error",
            {"error": "RunContextFailed", "message": sentence},
        )
        looked = await api.client("carol").get("/assistants/made/graph")
        assert (looked.status_code, looked.json()) == (424, {"detail": sentence})
        # WHEN it cannot be left, THEN the run is what it was, and the log says so
        left = await ran(api.client("dave"), "made")
        assert (left["status"], left["log"]) == ("success", ["static", "dave", "dave"])
        await until_said(14)

        async def logged() -> bool:
            return any(getattr(record, "event", "") == "graph.left_badly" for record in caplog.records)

        async with asyncio.timeout(15):
            while not await logged():
                await asyncio.sleep(0.01)


async def test_it_is_left_by_a_process_that_stops_and_entered_by_the_next(
    serve: Callable[..., Any], project: Path, tmp_path: Path
) -> None:
    """Once for each attempt, whether it stops at a boundary or is cut; and no finished node runs again."""

    def said() -> list[str]:
        return sorted((tmp_path / "said").read_text().splitlines())

    async def until_said(number: int) -> None:
        async with asyncio.timeout(15):
            while len(said()) < number:
                await asyncio.sleep(0.01)

    runs, paths = {}, {}
    async with serve(project=project, grace_seconds=2) as api:
        client = api.client()
        for graph in ("hangs", "factory"):
            thread = (await client.post("/threads", json={})).json()["thread_id"]
            paths[graph] = f"/threads/{thread}/runs"
            asked = {
                "assistant_id": graph,
                "input": {"gate": str(tmp_path / "gate")},
                "config": {"recursion_limit": 10_000},
            }
            runs[graph] = (await client.post(paths[graph], json=asked)).json()["run_id"]
        await until_said(2)
    lines = sorted(
        f"{verb} threads.create_run {graph} {run}"
        for graph, run in runs.items()
        for verb in ("enter", "leave")
    )
    assert said() == lines
    async with serve(project=project) as api:
        client = api.client()
        await until_said(6)
        (tmp_path / "gate").touch()
        log = (await client.get(f"{paths['factory']}/{runs['factory']}/join")).json()["log"]
        assert (set(log), len(log) % 2) == ({"local"}, 1)  # `begin`, and then two at a time
        await until_said(7)
        await client.post(f"{paths['hangs']}/{runs['hangs']}/cancel", params={"wait": True})
        await until_said(8)
    assert said() == sorted(lines * 2)


async def test_what_a_function_may_return() -> None:
    """A manager of either kind, or a coroutine of one; what fails before it is not mistaken for it."""
    entered = []

    @contextmanager
    def sync(user: Any) -> Any:
        entered.append((user.id, user.thread_id))
        yield

    async def later(user: Any) -> Any:
        return sync(user)

    async def opened(function: Any, building: Any = None) -> None:
        context = RunContext(function, "x:y")
        config: Any = {"configurable": {"thread_id": "t"}}
        async with context.around(building or nullcontext(), "jwt:a", "g", config, "threads.read"):
            pass

    await opened(sync)
    await opened(later)
    assert entered == [(safe_id("jwt:a"), "t")] * 2
    with pytest.raises(RunContextFailed, match="it returned a int, not a context manager"):
        await opened(lambda user: 5)

    @contextmanager
    def broken(user: Any) -> Any:
        raise KeyError("x")
        yield

    with pytest.raises(RunContextFailed, match="KeyError: 'x'"):
        await opened(broken)
    with pytest.raises(GraphImportError, match="not a function that returns a context manager"):
        RunContext(5, "x:y")


def test_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "langgraph.json"
    assert RunContextSpec.read(None, file) is None
    assert RunContextSpec.read("a.b:c", file) == RunContextSpec("a.b:c", "a.b", "c")
    assert RunContextSpec.read("./b.py:c", file) == RunContextSpec("./b.py:c", tmp_path / "b.py", "c")
    for wrong in (5, "", "a", "./b:c", "a:b c", {"path": "a:b"}):
        with pytest.raises(SettingsError, match="run_context"):
            RunContextSpec.read(wrong, file)


def test_the_id_of_an_owner_is_the_name_of_a_folder_and_of_no_other() -> None:
    account = "0b0f5fbc-8f5e-4c55-8d2a-6a1b9a3f8a11"
    assert safe_id("alice") == "alice"
    assert safe_id(f"account:{account}") == account
    made = safe_id("jwt:alice")
    assert made.startswith("jwt_alice-")
    owners = [
        *("alice", "Alice", "a/b", "a_b", "a:b", "../a", "", "jwt:alice", "user:alice", "ä", "a" * 65),
        *(made, f"account:{account}", account, "account:x", f"user:{account}"),
    ]
    ids = [safe_id(owner) for owner in owners]
    assert len(set(ids)) == len(owners)
    assert all(
        set(each) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for each in ids
    )
    assert all(0 < len(each) < 80 for each in ids)
