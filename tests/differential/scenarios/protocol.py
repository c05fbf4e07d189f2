"""Protocol v2: commands, and the events of a thread."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.differential.scenario import scenario
from tests.differential.script import Answer, Event, Script

CHANNELS = ["values", "messages", "lifecycle", "input"]


def ended(times: int) -> Any:
    """Whether the thread's own lifecycle has come to an end so often."""

    def enough(events: list[Event]) -> bool:
        ends = [
            event
            for event in events
            if event.event == "lifecycle"
            and not event.data["params"]["namespace"]
            and event.data["params"]["data"]["event"] in ("completed", "failed", "interrupted")
        ]
        return len(ends) >= times

    return enough


def told(events: list[Event]) -> list[list[Any]]:
    """What a client builds its view of: methods, namespaces and data, in their order."""
    return [
        [event.event, event.data["params"]["namespace"], event.data["params"]["data"]] for event in events
    ]


async def command(s: Script, thread_id: str, method: str, params: dict[str, Any]) -> Answer:
    return await s.post(
        f"/threads/{thread_id}/commands",
        {"id": 1, "method": method, "params": params},
        label=f"command {method}",
    )


async def follow(
    s: Script, thread_id: str, times: int, opened: asyncio.Event | None = None, **more: Any
) -> list[Event]:
    path, body = f"/threads/{thread_id}/stream/events", {"channels": CHANNELS, **more}
    async with s.unrecorded():
        return await s.head("POST", path, body, until=ended(times), opened=opened)


@scenario("protocol.runs")
async def runs(s: Script) -> None:
    for graph, given in (
        ("steps", {"n": 1}),
        ("chat", {"messages": [{"role": "user", "content": "hi there", "id": "m1"}]}),
        ("fail", {"text": "x"}),
        ("subgraph", {"text": "x"}),
    ):
        thread_id = await s.thread()
        # Live from the beginning: to who comes after a failure the official server says less of it.
        opened = asyncio.Event()
        following = asyncio.create_task(follow(s, thread_id, 1, opened))
        await opened.wait()
        await command(s, thread_id, "run.start", {"assistant_id": graph, "input": given})
        s.note(f"events of {graph}", told(await following))
        await s.until_idle(thread_id)
        # A new reader is told the same again.
        s.note(f"events of {graph} again", told(await follow(s, thread_id, 1)))


@scenario("protocol.interrupts")
async def interrupts(s: Script) -> None:
    thread_id = await s.thread()
    await command(s, thread_id, "run.start", {"assistant_id": "hitl", "input": {"text": "x"}})
    await s.until_idle(thread_id)
    state = await s.get(f"/threads/{thread_id}/state")
    asked = state["tasks"][0]["interrupts"][0]["id"]
    await command(s, thread_id, "input.respond", {"interrupt_id": "nobody", "response": "yes"})
    await command(s, thread_id, "input.respond", {"interrupt_id": asked, "response": "yes", "namespace": []})
    s.note("events", told(await follow(s, thread_id, 2)))
    await s.until_idle(thread_id)
    await s.get(f"/threads/{thread_id}")


@scenario("protocol.refusals")
async def refusals(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    for body in ({}, {"id": 1}, {"id": "x", "method": "run.start"}, {"id": 1, "method": "state.get"}):
        await s.post(f"{path}/commands", body)
    await s.post(f"{path}/commands", b"{")
    await command(s, thread_id, "run.start", {})
    await command(s, thread_id, "run.start", {"assistant_id": "nope", "input": {}})
    await command(s, thread_id, "input.respond", {"interrupt_id": "x", "response": 1})
    await command(s, thread_id, "agent.getTree", {})
    for body in ({}, {"channels": []}, {"channels": ["bogus"]}, {"channels": "values"}):
        await s.post(f"{path}/stream/events", body)


@scenario("protocol.sdk")
async def sdk(s: Script) -> None:
    for transport in ("sse", "websocket"):
        async with s.sdk.threads.stream(assistant_id="steps", transport=transport) as thread:
            await thread.run.start(input={"n": 1})
            async with asyncio.timeout(60):
                s.note(f"output by {transport}", await thread.output)
