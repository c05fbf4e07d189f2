"""The official clients of MCP and A2A across a hand-over: no run is lost, and each client learns what became of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from mcp import Client

from tests.drills.drill import Drill, steps
from tests.support.balancer import Balancer
from tests.support.effects import finished

pytestmark = pytest.mark.drill

LINE = {"n": 8, "sleep": 0.2}


async def test_a_tool_that_is_handed_over_gives_its_answer_to_the_client_that_called_it(drill: Drill) -> None:
    first, second = await drill.fleet.start(2)
    async with Balancer([first]).serve() as balancer, Client(f"{balancer.url}/mcp") as client:
        # GIVEN a client that waits for a tool, and one of an older version
        calling = asyncio.create_task(client.call_tool("line", LINE))
        older = asyncio.create_task(call_without_resumption(balancer.url))
        await drill.until(lambda: drill.active("line") == 2, what="both runs")
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
