"""Streams: every mode, of every kind of graph; joined, resumed, filtered."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from tests.differential.scenario import Play, scenario
from tests.differential.script import Script

MODES = (
    "values",
    "updates",
    "messages",
    "messages-tuple",
    "custom",
    "tasks",
    "checkpoints",
    "debug",
    "events",
)
GIVEN = {
    "steps": {"n": 2},
    "chat": {"messages": [{"role": "user", "content": "hi there", "id": "m1"}]},
    "tools": {"messages": [{"role": "user", "content": "add 2 3", "id": "m1"}]},
    "hitl": {"text": "x"},
    "subgraph": {"text": "x"},
    "fail": {"text": "x"},
}


def _streamed(graph: str, mode: str, *, subgraphs: bool = False) -> Play:
    async def play(s: Script) -> None:
        thread_id = await s.thread()
        body = {
            "assistant_id": graph,
            "input": GIVEN[graph],
            "stream_mode": mode,
            "stream_subgraphs": subgraphs,
        }
        await s.post(f"/threads/{thread_id}/runs/stream", body)

    return play


def _stateless(mode: str) -> Play:
    async def play(s: Script) -> None:
        await s.post("/runs/stream", {"assistant_id": "steps", "input": {"n": 1}, "stream_mode": mode})

    return play


for _mode in MODES:
    for _graph in GIVEN:
        scenario(f"streams.{_mode}.{_graph}")(_streamed(_graph, _mode))
    for _graph in ("subgraph", "chat"):
        scenario(f"streams.{_mode}.{_graph}.subgraphs")(_streamed(_graph, _mode, subgraphs=True))
    scenario(f"streams.{_mode}.stateless")(_stateless(_mode))


@scenario("streams.several_modes")
async def several(s: Script) -> None:
    async def one(graph: str, modes: list[str]) -> None:
        thread_id = await s.thread()
        await s.post(
            f"/threads/{thread_id}/runs/stream",
            {
                "assistant_id": graph,
                "input": GIVEN[graph],
                "stream_mode": modes,
                "stream_subgraphs": graph == "subgraph",
            },
            label=f"stream {graph} {modes}",
        )

    for graph, modes in (
        ("steps", ["values", "updates", "custom"]),
        ("steps", []),
        ("steps", ["tasks", "checkpoints"]),
        ("chat", ["messages", "messages-tuple"]),
        ("chat", ["values", "messages", "updates"]),
        ("subgraph", ["values", "updates", "custom", "messages-tuple"]),
        ("steps", ["events", "values"]),
        ("hitl", ["custom"]),
    ):
        await one(graph, modes)


@scenario("streams.resumed")
async def resumed(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    body = {
        "assistant_id": "steps",
        "input": {"n": 2},
        "stream_mode": ["values", "custom"],
        "stream_resumable": True,
    }
    await s.post(f"{path}/runs/stream", body)
    run = (await s.ask("GET", f"{path}/runs")).body[0]
    stream = f"{path}/runs/{run['run_id']}/stream"
    for last in ("-1", "0", "-", "9999999999999-0"):
        await s.get(stream, headers={"last-event-id": last}, label=f"GET stream after {last}")
    await s.get(stream)
    await s.get(f"{stream}?stream_mode=custom", headers={"last-event-id": "-1"})
    await s.get(f'{stream}?stream_mode=["values"]', headers={"last-event-id": "-1"})
    await s.get(f"{stream}?stream_mode=nonsense", headers={"last-event-id": "-1"})
    await s.get(f"{path}/runs/{run['run_id']}/join")
    parts = [part async for part in s.sdk.runs.join_stream(thread_id, run["run_id"], last_event_id="-1")]
    s.note("sdk.runs.join_stream", [[part.event, part.data] for part in parts])


@scenario("streams.joined")
async def joined(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    key = str(uuid4())
    run = await s.ask(
        "POST",
        f"{path}/runs",
        {"assistant_id": "nap", "input": {"until": key}, "stream_mode": ["values", "updates"]},
    )
    at = f"{path}/runs/{run['run_id']}"
    await s.until(f"{path}/state", lambda body: body["next"] == ["sleep"])
    opened = [asyncio.Event() for _ in range(2)]
    readers = []
    for query, event in zip(("", "?stream_mode=updates"), opened, strict=True):
        reading = s.head("GET", f"{at}/stream{query}", until=lambda _: False, opened=event)
        readers.append(asyncio.create_task(reading, name="reader"))
        await event.wait()
    await s.ask("PUT", "/store/items", {"namespace": ["wake"], "key": key, "value": {}})
    await asyncio.gather(*readers)
    await s.get(f"{at}/join")


@scenario("streams.left")
async def left(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    body = {
        "assistant_id": "nap",
        "input": {"sleep": 60},
        "stream_mode": "updates",
        "on_disconnect": "cancel",
    }
    await s.head("POST", f"{path}/runs/stream", body, until=lambda events: len(events) == 2)
    await s.until_idle(thread_id)
    await s.get(f"{path}/runs?select=status")
    await s.get(path)
    await s.head(
        "POST",
        f"{path}/runs/stream",
        {**body, "input": {"sleep": 1}, "on_disconnect": "continue"},
        until=lambda events: len(events) == 2,
    )
    await s.until_idle(thread_id)
    await s.get(f"{path}/runs?select=status")
    await s.get(path)


@scenario("streams.sdk")
async def sdk(s: Script) -> None:
    thread = await s.sdk.threads.create()
    parts = [
        part
        async for part in s.sdk.runs.stream(
            thread["thread_id"], "chat", input=GIVEN["chat"], stream_mode=["messages-tuple", "values"]
        )
    ]
    s.note("sdk.runs.stream", [[part.event, part.data] for part in parts])
    waited = await s.sdk.runs.wait(thread["thread_id"], "chat", input=GIVEN["chat"])
    s.note("sdk.runs.wait", waited)
    state = await s.sdk.threads.get_state(thread["thread_id"])
    s.note("sdk.threads.get_state", state)
