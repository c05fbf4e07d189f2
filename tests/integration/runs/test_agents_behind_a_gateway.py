"""Tools and tasks that take longer than a gateway waits: what their clients see, and how they get the rest."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.helpers.proto_helpers import new_data_message
from a2a.types import GetTaskRequest, Role, SendMessageRequest, SubscribeToTaskRequest, TaskState
from a2a.utils.errors import UnsupportedOperationError
from gateway import Gateway, Holds, Start, ended
from mcp import Client

from slackwater.protocols.mcp import routes


@pytest.fixture
async def hasty(start: Start) -> Gateway:
    """A gateway that gives up after two seconds."""
    return Gateway(await start(gateway_limit_seconds=2, stream_page_seconds=1))


async def test_the_official_client_comes_back_for_a_tool_until_it_is_done(
    hasty: Gateway, holds: Holds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "RETRY_MILLISECONDS", 50)
    holds.hold("b")

    async def let_go() -> None:
        while len([answer for answer in hasty.answers if answer.method == "GET" and answer.complete]) < 3:
            await asyncio.sleep(0.02)
        holds.let_go("b")

    async with hasty.serve(), Client(f"{hasty.url}/mcp", mode="legacy") as client:
        releasing = asyncio.create_task(let_go())
        answer = await client.call_tool("held", {"log": []})
        await releasing
    assert answer.structured_content["log"] == ["a", "b", "c"]


async def test_an_older_client_is_told_where_the_answer_will_be(hasty: Gateway, holds: Holds) -> None:
    holds.hold("b")
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "held", "arguments": {"log": []}},
    }
    async with hasty.serve(), httpx.AsyncClient(base_url=hasty.url) as http:
        error = (await http.post("/mcp", json=call)).json()["error"]
        assert (error["code"], error["message"].split(",")[0]) == (-32000, "The run is still going")
        holds.let_go("b")
        await ended(hasty)
        assert (await http.get(error["data"]["location"])).json()["log"] == ["a", "b", "c"]


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_task_that_takes_too_long_goes_on(hasty: Gateway, holds: Holds, streaming: bool) -> None:
    holds.hold("b")
    request = SendMessageRequest(message=new_data_message({"log": []}, role=Role.ROLE_USER))
    async with hasty.serve(), httpx.AsyncClient(timeout=20) as http:
        card = await A2ACardResolver(http, f"{hasty.url}/a2a/held").get_agent_card()
        client = ClientFactory(ClientConfig(httpx_client=http, streaming=streaming)).create(card)
        # WHEN the gateway's time is up
        parts: list[Any] = [part async for part in client.send_message(request)]
        # THEN the client knows its task, and that it goes on
        task = parts[0].task
        status = parts[-1].status_update.status if streaming else task.status
        assert status.state == TaskState.TASK_STATE_WORKING
        # and gets the rest of it
        holds.let_go("b")
        if streaming:
            async with asyncio.timeout(20):
                while status.state == TaskState.TASK_STATE_WORKING:
                    try:
                        *_, last = [
                            part async for part in client.subscribe(SubscribeToTaskRequest(id=task.id))
                        ]
                        status = (last.status_update if last.HasField("status_update") else last.task).status
                    except UnsupportedOperationError:  # it was over before it could be listened to
                        status = (await client.get_task(GetTaskRequest(id=task.id))).status
            assert status.state == TaskState.TASK_STATE_COMPLETED
        else:
            async with asyncio.timeout(10):
                while task.status.state == TaskState.TASK_STATE_WORKING:
                    task = await client.get_task(GetTaskRequest(id=task.id))
            assert list(task.artifacts[0].parts[0].data.struct_value["log"]) == ["a", "b", "c"]
