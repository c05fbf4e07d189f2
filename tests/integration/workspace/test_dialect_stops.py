"""The dialect over two processes, one of which is stopped in the middle of an answer. The client is the SDK, unmodified, at `…/api`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.errors import ConflictError, NotFoundError

from tests.support.balancer import Balancer
from tests.support.server import ServerProcess, fleet_of

PROJECT = Path(__file__).parent / "dialect"
ENV = {"SLACKWATER_GATEWAY": "true"}


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"type": "human", "content": text}]}


async def test_a_stream_goes_on_when_the_process_of_its_run_is_stopped(
    database_uri: str, tmp_path: Path
) -> None:
    """Every superstep is in the stream once, and the next process knows of the run what the dialect has made of its request."""
    async with fleet_of(database_uri, tmp_path, PROJECT, ENV) as fleet:
        servers = await fleet.start(2)
        async with Balancer(servers).serve() as balancer, get_client(url=f"{balancer.url}/api") as client:
            thread = str(uuid4())
            await client.threads.create(thread_id=thread)
            located: list[dict[str, str]] = []
            stream = client.runs.stream(
                thread,
                "my_agent",
                input=said("slow"),
                config={"recursion_limit": 1000},
                context={"is_plan_mode": True, "user_id": "somebody-else"},
                stream_mode=["updates", "values", "events"],
                stream_resumable=True,
                on_disconnect="continue",
                on_run_created=lambda made: located.append(dict(made)),  # type: ignore[arg-type]
            )
            seen: list[Any] = []
            stopped: ServerProcess | None = None
            async for part in stream:
                assert part.event not in ("error", "events"), part
                seen.append(part)
                updates = [p.data for p in seen if p.event == "updates"]
                if len(updates) == 3 and stopped is None:
                    [made] = located
                    assert made == {"run_id": made["run_id"], "thread_id": thread}
                    async with httpx.AsyncClient() as direct:
                        for server in servers:
                            path = f"{server.url}/api/threads/{thread}/runs"
                            busy = await direct.post(path, json={"input": said("b")})
                            assert busy.status_code == 409  # on whichever replica
                            [row] = (await direct.get(path)).json()
                            assert (row["assistant_id"], row["status"]) == ("my_agent", "running")
                    stopped = await owner_of(servers, made["run_id"], database_uri)
                    stopped.sigterm()
            assert stopped is not None
            assert await stopped.wait() == 0
            steps = [
                p.data["model"]["steps"]
                for p in seen
                if p.event == "updates" and "steps" in (p.data.get("model") or {})
            ]
            assert steps == [[str(n)] for n in range(12)]
            final = [p.data for p in seen if p.event == "values"][-1]
            assert final["messages"][-1]["content"] == "answer to slow"
            for where in ("context", "configurable"):
                assert (final["told"][where]["agent_name"], final["told"][where]["user_id"]) == (
                    "my-agent",
                    "local",
                )
                assert final["told"][where]["is_plan_mode"] is True
            [row] = await client.runs.list(thread)
            assert (row["assistant_id"], row["status"]) == ("my_agent", "success")
            report = stopped.report()
            assert [run["handed_over"] for run in report["runs"]] == [True]
    assert fleet.complaints == []


async def owner_of(servers: list[ServerProcess], run: str, database_uri: str) -> ServerProcess:
    """The process that works on the run."""
    async with await psycopg.AsyncConnection.connect(database_uri) as connection:
        cursor = await connection.execute("select worker from slackwater.runs where run_id = %s", [run])
        row = await cursor.fetchone()
    assert row is not None
    [server] = [server for server in servers if str(server.pid) in str(row[0])]
    return server


async def test_what_one_replica_has_begun_another_cancels_refuses_and_knows(
    database_uri: str, tmp_path: Path
) -> None:
    """X1 to X3, P11 and 409 over two processes, by the SDK."""
    async with fleet_of(database_uri, tmp_path, PROJECT, ENV) as fleet:
        first, second = await fleet.start(2)
        async with (
            get_client(url=f"{first.url}/api/langgraph") as here,
            get_client(url=f"{second.url}/api") as there,
        ):
            thread = (await here.threads.create())["thread_id"]
            gate = tmp_path / "gate"
            run = (await here.runs.create(thread, "lead_agent", input=said(f"wait:{gate}")))["run_id"]
            for client in (here, there):
                with pytest.raises(ConflictError, match="already running a task"):
                    await client.runs.create(thread, "lead_agent", input=said("b"))
                with pytest.raises(NotFoundError):
                    await client.runs.get(thread, str(uuid4()))
                with pytest.raises(NotFoundError):
                    await client.runs.cancel(thread, str(uuid4()))
            await there.runs.cancel(thread, run, wait=True)
            assert (await here.runs.get(thread, run))["status"] == "interrupted"
            for client in (here, there):
                await client.runs.cancel(thread, run)
            # The stopped message stays, and so does a title, whichever process goes on.
            await there.threads.update_state(thread, {"title": "Tides"})
            [head] = await here.threads.get_history(thread, limit=1)
            assert "checkpoint" not in head
            values: Any = await here.runs.wait(thread, "lead_agent", input=said("b"))
            assert values["title"] == "Tides"
            assert [m["content"] for m in values["messages"]] == [f"wait:{gate}", "b", "answer to b"]
            done = (await there.runs.list(thread))[0]["run_id"]
            for client in (here, there):
                with pytest.raises(ConflictError, match="not cancellable"):
                    await client.runs.cancel(thread, done)
                joined = await client.runs.join(thread, done)
                assert json.dumps(joined["title"]) == '"Tides"'
            for client in (here, there):
                await client.threads.delete(thread)
                with pytest.raises(NotFoundError):
                    await client.threads.get(thread)
    assert fleet.complaints == []


async def test_a_reader_that_leaves_stops_its_run_unless_it_says_otherwise(
    database_uri: str, tmp_path: Path
) -> None:
    """L4, 6.2 line 4, and the row 'browser to Next directly': 30 seconds without a byte end an answer."""
    env = {**ENV, "SLACKWATER_HEARTBEAT_SECONDS": "0.2"}
    async with fleet_of(database_uri, tmp_path, PROJECT, env) as fleet:
        [server] = await fleet.start()
        async with httpx.AsyncClient(base_url=f"{server.url}/api/langgraph", timeout=30) as client:
            for how, status in (({}, "interrupted"), ({"on_disconnect": "continue"}, "success")):
                thread, gate = str(uuid4()), tmp_path / status
                body = {"assistant_id": "lead_agent", "input": said(f"wait:{gate}"), **how}
                async with client.stream("POST", f"/threads/{thread}/runs/stream", json=body) as answer:
                    lines = answer.aiter_lines()
                    assert await anext(lines) == "event: metadata"
                    path = answer.headers["content-location"].removeprefix("/api")
                    # Who only looks on may leave.
                    all_of_it = {"last-event-id": "-1"}
                    async with client.stream("GET", f"{path}/stream", headers=all_of_it) as other:
                        assert await anext(other.aiter_lines()) == "event: metadata"
                    # Whoever waits for a model hears in the meantime that the server lives.
                    for _ in range(2):
                        while await anext(lines) != ": heartbeat":
                            pass
                    assert (await client.get(path)).json()["status"] == "running"
                if status == "success":
                    gate.touch()
                await client.get(f"{path}/join")
                assert (await client.get(path)).json()["status"] == status
                told = (await client.get(f"{path}/stream", headers=all_of_it)).text
                assert (f"answer to wait:{gate}" in told) is (status == "success")
    assert fleet.complaints == []
