"""The stock client reads a thread's stream across a hand-over: every event once, in order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph_sdk import get_client

from tests.drills.drill import Drill
from tests.support.balancer import Balancer

pytestmark = [
    pytest.mark.drill,
    pytest.mark.filterwarnings("ignore:Request failed, attempting reconnect:UserWarning"),
]

TALK = {"sleep": 0.12, "messages": [{"role": "user", "content": "one two three", "id": "m1"}]}


async def test_the_reader_of_a_thread_misses_nothing_when_its_process_stops(drill: Drill) -> None:
    first, second = await drill.fleet.start(2)
    async with (
        Balancer([first]).serve() as balancer,
        get_client(url=balancer.url, timeout=60, api_key=None) as client,
    ):
        thread_id = (await client.threads.create())["thread_id"]
        parts: list[tuple[str | None, str, Any]] = []

        async def read(runs: int) -> None:
            done = 0
            async for part in await client.threads.join_stream(thread_id, last_event_id="-"):
                parts.append((part.id, part.event, part.data))
                done += part.event == "metadata" and part.data.get("status") == "run_done"
                if done == runs:
                    return

        # GIVEN a reader of a thread on which a run has begun and another one waits
        reading = asyncio.create_task(read(2))
        for _ in range(2):
            await client.runs.create(thread_id, "talk", input=TALK, stream_mode=["values", "custom"])
        await drill.until(lambda: drill.begun("talk") > 0, what="the first run")
        await asyncio.sleep(0.4)
        # WHEN their process is stopped
        balancer.replicas.append(second)
        await drill.stop(first)
        async with asyncio.timeout(40):
            await reading
        # THEN he has read what a later reader reads at once
        seen, parts = parts, []
        async with asyncio.timeout(20):
            await read(2)
        assert seen == parts
        ids = [part[0] for part in seen]
        assert len(set(ids)) == len(ids)
