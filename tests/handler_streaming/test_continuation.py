"""A run that takes longer than any invocation, read live by a stock client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from langgraph_sdk import get_client

from tests.handler_streaming.conftest import KEY, Start, complaints
from tests.handler_streaming.front import FunctionUrl
from tests.support.runtime_api import StreamingEnvironment

SECONDS = 4.0
RESERVE = {"SLACKWATER_DRAIN_RESERVE_SECONDS": "2"}
"""Half of it is left for what comes after the steps, on a busy machine."""
STEPS = 30
SLEEP = 0.2
"""Two invocations are not enough for so many steps, however fast the machine is."""


@asynccontextmanager
async def woken(environment: StreamingEnvironment) -> AsyncIterator[None]:
    """What the queue does: while it is open, another environment works on what has been handed over."""
    over = asyncio.Event()

    async def work() -> None:
        while not over.is_set():
            invocation = await environment.invoke({"task": "work"}, seconds=SECONDS)
            await invocation.end()
            assert invocation.ended == "response"

    task = asyncio.create_task(work(), name="queue")
    try:
        yield
    finally:
        over.set()
        await task


async def test_a_client_sees_one_stream_over_many_invocations(start: Start, database_uri: str) -> None:
    reader, worker = await asyncio.gather(start(**RESERVE), start(**RESERVE))
    for environment in (reader, worker):
        # Their first run imports LangGraph, for which nobody would give a function three seconds.
        await (await environment.invoke({"task": "run", "assistant_id": "trace", "input": {"n": 1}})).end()
    async with (
        FunctionUrl(reader, SECONDS).serve() as front,
        woken(worker),
        get_client(url=front.url, api_key=KEY, timeout=60) as client,
    ):
        thread = await client.threads.create()
        parts = client.runs.stream(
            thread["thread_id"],
            "steps",
            input={"n": STEPS, "sleep": SLEEP},
            stream_mode=["custom", "values"],
        )
        async with asyncio.timeout(60):
            seen = [(part.event, part.data) async for part in parts]
        state = await client.threads.get_state(thread["thread_id"])

    assert [data["step"] for event, data in seen if event == "custom"] == list(range(1, STEPS + 1))
    assert [len(data["log"]) for event, data in seen if event == "values"] == list(range(STEPS + 1))
    assert state["values"]["log"] == list(range(1, STEPS + 1))
    # It was cut into invocations, and each ended cleanly.
    streams = [invocation for name, invocation in front.answers if name.endswith("/stream")]
    assert len(streams) > 1
    assert all(invocation.error is None for _, invocation in front.answers)
    assert len({data["pid"] for event, data in seen if event == "custom"}) == 2
    async with await psycopg.AsyncConnection.connect(database_uri) as connection:
        rows = await connection.execute(
            "select handovers >= 2 from slackwater.runs where thread_id = %s", [thread["thread_id"]]
        )
        assert await rows.fetchall() == [(True,)]
    for environment in (reader, worker):
        assert environment.api.happened.count("extension registered") == 1
        assert complaints(environment) == []
