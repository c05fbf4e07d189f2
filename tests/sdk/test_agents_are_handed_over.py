"""The official clients of MCP and A2A across a hand-over: no run is lost, and each client learns what became of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.client.client import Client
from a2a.client.errors import A2AClientError
from a2a.helpers.proto_helpers import get_artifact_text, new_data_message, new_text_message
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    GetTaskRequest,
    Role,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskState,
)
from mcp import Client as ToolClient

from tests.drills.drill import Drill, steps
from tests.support.balancer import Balancer
from tests.support.effects import finished, repeated

pytestmark = pytest.mark.drill

LINE = {"n": 8, "sleep": 0.3}


async def test_a_tool_that_is_handed_over_gives_its_answer_to_the_client_that_called_it(drill: Drill) -> None:
    first, second = await drill.fleet.start(2)
    async with Balancer([first]).serve() as balancer, ToolClient(f"{balancer.url}/mcp") as client:
        # GIVEN a client that waits for a tool, and one of an older version
        calling = asyncio.create_task(client.call_tool("line", LINE))
        older = asyncio.create_task(call_without_resumption(balancer.url))
        await drill.until(lambda: drill.begun("line") == 2, what="both runs")
        await asyncio.sleep(0.5)
        # WHEN the process is stopped
        balancer.replicas.append(second)
        await drill.stop(first)
        # THEN the first one gets the answer from another process, and has noticed nothing
        async with asyncio.timeout(30):
            answer = await calling
        assert answer.structured_content["log"] == steps(8)
        # and the older one is cut off, rather than told that this was all
        with pytest.raises(httpx.RemoteProtocolError):
            await older
        # and no run is lost, and no finished node ran twice
        await drill.until(lambda: not active(drill), what="both runs are over")
        rows = drill.watcher.query("select run_id::text, status, handovers from slackwater.runs")
        assert [(row["status"], row["handovers"]) for row in rows] == [("success", 1)] * 2
        for row in rows:
            assert finished(drill.effects.of(row["run_id"])) == steps(8)


async def test_a_task_that_is_handed_over_is_the_same_task_elsewhere(drill: Drill) -> None:
    first, second = await drill.fleet.start(2)
    async with (
        Balancer([first]).serve() as balancer,
        agent(balancer.url, "talk", streaming=True) as streaming,
        agent(balancer.url, "line", streaming=False) as waiting,
    ):
        # GIVEN a client that listens to a task, and one that waits for another
        heard: list[StreamResponse] = []

        async def listen() -> None:
            async for part in streaming.send_message(said("one two", {"sleep": 0.6})):
                heard.extend([part])  # at once: this reader is cut off

        async def wait() -> Task:
            return (await anext(waiting.send_message(message))).task

        message = SendMessageRequest(message=new_data_message(LINE, role=Role.ROLE_USER))
        listening, sending = asyncio.create_task(listen()), asyncio.create_task(wait())
        await drill.until(lambda: len(heard) > 2 and running(drill) == {"line", "talk"}, what="both tasks")
        # WHEN the process is stopped
        balancer.replicas.append(second)
        await drill.stop(first)
        # THEN the one who listens is cut off, rather than told that this was the end
        with pytest.raises(A2AClientError, match="Network"):
            await listening
        assert heard[-1].status_update.status.state == TaskState.TASK_STATE_WORKING
        # and the one who waits is told that the task goes on
        task = await sending
        assert task.status.state == TaskState.TASK_STATE_WORKING
        # and both find it elsewhere: he by subscribing to it
        async with asyncio.timeout(30):
            rest = [part async for part in streaming.subscribe(SubscribeToTaskRequest(id=heard[0].task.id))]
            assert rest[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
            assert get_artifact_text(rest[-2].artifact_update.artifact).startswith("You said: You said")
            # and she by sending her message again, which begins nothing
            again = await wait()
        assert (again.id, again.status.state) == (task.id, TaskState.TASK_STATE_COMPLETED)
        assert await waiting.get_task(GetTaskRequest(id=task.id)) == again
        # and no run is lost, and no finished node ran twice
        rows = drill.watcher.query("select run_id::text, status, handovers from slackwater.runs")
        assert [(row["status"], row["handovers"]) for row in rows] == [("success", 1)] * 2
        for row in rows:
            assert not repeated(finished(drill.effects.of(row["run_id"])))


async def test_after_a_kill_both_clients_get_what_became_of_their_runs(drill: Drill) -> None:
    first, second = await drill.fleet.start(2)
    async with (
        Balancer([first]).serve() as balancer,
        ToolClient(f"{balancer.url}/mcp") as tools,
        agent(balancer.url, "line", streaming=False) as waiting,
    ):
        # GIVEN a client that waits for a tool, and one that waits for a task
        message = SendMessageRequest(message=new_data_message(LINE, role=Role.ROLE_USER))
        calling = asyncio.create_task(tools.call_tool("line", LINE))
        sending = asyncio.create_task(anext(waiting.send_message(message)))
        await drill.until(lambda: drill.begun("line") == 2, what="both runs")
        # and the first has long been told by which id it finds its answer
        await drill.until(lambda: len(finished(drill.effects.after(0))) >= 6, what="some nodes of both")
        # WHEN their process dies
        balancer.replicas[:] = [second]
        await drill.stop(first, "SIGKILL")
        with pytest.raises(A2AClientError, match="Network"):
            await sending
        # THEN the tool's client gets its answer when the run has been taken over
        async with asyncio.timeout(40):
            assert (await calling).structured_content["log"] == steps(8)
            # and the other one with the same message the same task
            task = (await anext(waiting.send_message(message))).task
        assert list(task.artifacts[0].parts[0].data.struct_value["log"]) == steps(8)
    rows = drill.watcher.query("select status from slackwater.runs")
    assert [row["status"] for row in rows] == ["success"] * 2


def agent(url: str, graph: str, *, streaming: bool) -> Client:
    """The official client of an agent behind the balancer: a card says where it was asked for."""
    interface = AgentInterface(url=f"{url}/a2a/{graph}", protocol_binding="JSONRPC", protocol_version="1.0")
    card = AgentCard(supported_interfaces=[interface], capabilities=AgentCapabilities(streaming=True))
    http_client = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
    return ClientFactory(ClientConfig(httpx_client=http_client, streaming=streaming)).create(card)


def said(text: str, data: dict[str, Any]) -> SendMessageRequest:
    message = new_text_message(text, role=Role.ROLE_USER)
    message.parts.add().data.struct_value.update(data)
    return SendMessageRequest(message=message)


async def call_without_resumption(url: str) -> Any:
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "line", "arguments": LINE},
    }
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(f"{url}/mcp", json=call, headers={"MCP-Protocol-Version": "2025-06-18"})


def active(drill: Drill) -> list[Any]:
    return drill.watcher.query("select from slackwater.runs where status in ('pending', 'running')")


def running(drill: Drill) -> set[str]:
    return {
        row["graph_id"]
        for row in drill.watcher.query("select graph_id from slackwater.runs where status = 'running'")
    }
