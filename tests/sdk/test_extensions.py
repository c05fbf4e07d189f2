"""`thread.extensions[name]` and `thread.messages` of the stock SDK: what its own tests expect of a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.support.server import ServerProcess, fleet_of

pytestmark = pytest.mark.drill

GIVEN: dict[str, Any] = {"messages": []}


@pytest.fixture
async def server(database_uri: str, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    async with fleet_of(database_uri, tmp_path, Path(__file__).parent / "spoken") as fleet:
        (server,) = await fleet.start()
        yield server


async def _use(client: LangGraphClient, transport: Literal["sse", "websocket"]) -> None:
    def stream(graph: str) -> Any:
        return client.threads.stream(assistant_id=graph, transport=transport)

    # What a node writes with a name is that extension's, as it stands, and nobody else's
    async with stream("spoken") as thread:
        await thread.run.start(input=GIVEN)
        assert [said async for said in thread.extensions["progress"]] == [
            {"name": "progress", "step": "streams"},
            {"name": "progress", "payload": {"step": "at_once"}},
        ]
    async with stream("spoken") as thread:
        await thread.run.start(input=GIVEN)
        assert [said async for said in thread.extensions["other"]] == [{"name": "other", "step": "returns"}]
    # What models have said, in pieces or at once; not what nodes have made up, which is in the state
    async with stream("spoken") as thread:
        await thread.run.start(input=GIVEN)
        messages = [message async for message in thread.messages]
        assert [await message.text for message in messages] == ["word by word", "at once"]
        assert [token async for token in messages[0].text] == ["word", " by", " word"]
        assert [message["id"] for message in (await thread.output)["messages"]] == [
            *("streamed", "whole", "calls", "tool", "made-up", "human")
        ]
    async with stream("by_events") as thread:
        await thread.run.start(input=GIVEN)
        messages = [message async for message in thread.messages]
        assert [await message.text for message in messages] == ["word by word"]


async def test_extensions_and_messages_are_those_that_the_sdk_expects(server: ServerProcess) -> None:
    async with get_client(url=server.url, timeout=60, api_key=None) as client, asyncio.timeout(60):
        await asyncio.gather(_use(client, "sse"), _use(client, "websocket"))
