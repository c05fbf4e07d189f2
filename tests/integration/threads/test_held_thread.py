"""What happens to a thread while a state update holds it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from slackwater.postgres.pool import Database
from slackwater.runtime.runtime import Runtime

Run = Callable[..., Any]

GRAPHS = '''
import asyncio
from pathlib import Path
from typing_extensions import TypedDict
from langgraph.graph import END, START, StateGraph

class State(TypedDict, total=False):
    text: str
    wait: str

async def node(state):
    return {"text": state["text"] + "!"}

async def after(state):
    """Decides only when the file that `wait` names is there; says that it has been asked."""
    if state.get("wait"):
        Path(state["wait"] + ".asked").touch()
        while not Path(state["wait"]).exists():
            await asyncio.sleep(0.01)
    return END

slow = StateGraph(State).add_node("node", node).add_edge(START, "node").add_conditional_edges("node", after, [END])
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "graphs.py").write_text(GRAPHS)
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"slow": "./graphs.py:slow"}}))
    return tmp_path


@pytest.fixture
async def thread(http: httpx.AsyncClient) -> str:
    answer = await http.post("/threads", json={"metadata": {"graph_id": "slow"}})
    return str(answer.json()["thread_id"])


@pytest.fixture
def updating(http: httpx.AsyncClient, thread: str, tmp_path: Path) -> Callable[..., Any]:
    """An update that is in the middle of its work for as long as the block lasts; its task."""

    @asynccontextmanager
    async def updating() -> AsyncIterator[asyncio.Task[httpx.Response]]:
        file = tmp_path / "go"
        body = {"values": {"text": "held", "wait": str(file)}, "as_node": "node"}
        task = asyncio.create_task(http.post(f"/threads/{thread}/state", json=body))
        async with asyncio.timeout(5):
            while not file.with_name("go.asked").exists():
                await asyncio.sleep(0.01)
        try:
            yield task
        finally:
            file.touch()
            await asyncio.wait({task}, timeout=5)

    return updating


async def test_a_second_update_and_no_second_write_come_in_between(
    http: httpx.AsyncClient, thread: str, updating: Callable[..., Any]
) -> None:
    async with updating() as task:
        answer = await http.post(
            f"/threads/{thread}/state", json={"values": {"text": "other"}, "as_node": "node"}
        )
        assert answer.status_code == 409, answer.text
        assert (await http.get(f"/threads/{thread}/state")).json()["values"] == {}
    assert task.result().status_code == 200, task.result().text
    assert (await http.get(f"/threads/{thread}/state")).json()["values"]["text"] == "held"


async def test_a_run_waits_until_the_update_is_done(
    http: httpx.AsyncClient,
    run: Run,
    ended: Callable[..., Any],
    thread: str,
    updating: Callable[..., Any],
    runtime: Runtime,
) -> None:
    async with updating() as task:
        row = await run(thread, "slow", {"wait": ""}, wait=False)
        assert row["status"] == "pending"
        await asyncio.sleep(0.05)
        assert row["run_id"] not in runtime.worker.live
    assert task.result().status_code == 200
    assert (await ended(row["run_id"]))["status"] == "success"
    assert (await http.get(f"/threads/{thread}")).json()["values"] == {"text": "held!", "wait": ""}


async def test_an_update_of_a_thread_that_is_deleted_meanwhile_is_not_found_and_leaves_nothing(
    http: httpx.AsyncClient, thread: str, updating: Callable[..., Any], database: Database
) -> None:
    async with updating() as task:
        assert (await http.delete(f"/threads/{thread}")).status_code == 204
    answer = task.result()
    assert (answer.status_code, answer.json()) == (404, {"detail": f"Thread with ID {thread} not found"})
    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "slackwater.runs"):
        assert await database.fetch(f"select 1 from {table}") == []  # type: ignore[arg-type]


async def test_an_update_that_has_lost_its_hold_writes_nothing(
    http: httpx.AsyncClient, thread: str, updating: Callable[..., Any], database: Database
) -> None:
    async with updating() as task:
        # as a take-over does after the lease has expired
        await database.execute("delete from slackwater.runs where kind = 'write'")
    assert task.result().status_code == 409, task.result().text
    assert (await http.get(f"/threads/{thread}/state")).json()["values"] == {}
    assert await database.fetch("select 1 from checkpoints") == []
