"""Threads: their life, how they are found, what is made of several, and what is written into them from outside."""

from __future__ import annotations

import asyncio

from tests.differential.scenario import scenario
from tests.differential.script import Script

NOBODY = "00000000-0000-4000-8000-000000000000"


@scenario("threads.life")
async def life(s: Script) -> None:
    made = await s.post("/threads", {"metadata": {"tag": s.tag}})
    path = f"/threads/{made['thread_id']}"
    await s.get(path)
    await s.patch(path, {"metadata": {"more": [1, 2]}})
    await s.patch(path, {"metadata": {"tag": "other"}})
    await s.patch(path, {"metadata": {"tag": "less"}}, headers={"prefer": "return=minimal"})
    await s.get(path)
    await s.get(f"{path}/state")
    await s.get(f"{path}/history")
    await s.post(f"{path}/history", {})
    await s.get(f"{path}/runs")
    await s.delete(path)
    await s.get(path)
    await s.delete(path)


@scenario("threads.create")
async def create(s: Script) -> None:
    thread_id = s.id("thread")
    await s.post("/threads", {"thread_id": thread_id, "metadata": {"a": 1}})
    await s.post("/threads", {"thread_id": thread_id})
    await s.post("/threads", {"thread_id": thread_id, "if_exists": "do_nothing", "metadata": {"b": 2}})
    await s.post("/threads", {"thread_id": "x"})
    await s.post("/threads", {"if_exists": "maybe"})
    await s.post("/threads", {"metadata": None})
    await s.post("/threads", b"")
    await s.post("/threads", {"metadata": {"run_id": "r", "thread_id": "t", "kept": True}, "strange": 1})
    await s.post("/threads", {"ttl": 60})
    await s.post("/threads", {"ttl": {"ttl": 60, "strategy": "delete"}})
    await s.post("/threads", {"ttl": {"ttl": 60, "strategy": "archive"}})
    await s.post("/threads", {"ttl": "soon"})
    await s.delete(f"/threads/{thread_id}")
    made = await s.sdk.threads.create(graph_id="echo", metadata={"tag": s.tag})
    s.note("sdk.threads.create", made)


@scenario("threads.supersteps")
async def supersteps(s: Script) -> None:
    made = await s.post(
        "/threads",
        {
            "metadata": {"graph_id": "steps", "tag": s.tag},
            "supersteps": [
                {"updates": [{"values": {"n": 2, "i": 0}, "as_node": "__input__"}]},
                {"updates": [{"values": {"i": 1, "log": ["written"]}, "as_node": "step"}]},
            ],
        },
    )
    path = f"/threads/{made['thread_id']}"
    await s.get(f"{path}/state")
    await s.post(f"{path}/history", {"limit": 10})
    await s.get(path)
    await s.post(f"{path}/runs/wait", {"assistant_id": "steps", "input": None})
    await s.post("/threads", {"supersteps": [{"updates": [{"values": {"i": 1}, "as_node": "step"}]}]})
    await s.post(
        "/threads",
        {
            "metadata": {"graph_id": "steps"},
            "supersteps": [{"updates": [{"values": {"i": 1}, "as_node": "nope"}]}],
        },
    )
    await s.post("/threads", {"metadata": {"graph_id": "steps"}, "supersteps": [{}]})


@scenario("threads.search")
async def search(s: Script) -> None:
    for number, text in enumerate(("b", "a", "c")):
        thread_id = await s.thread(metadata={"tag": s.tag, "number": number})
        if number != 1:
            graph = "echo" if number == 0 else "hitl"
            await s.ask(
                "POST", f"/threads/{thread_id}/runs/wait", {"assistant_id": graph, "input": {"text": text}}
            )
            await s.until_idle(thread_id)
    mine = {"metadata": {"tag": s.tag}}
    everything = await s.post("/threads/search", {**mine, "sort_by": "created_at", "sort_order": "asc"})
    ids = [thread["thread_id"] for thread in everything.body]
    await s.post("/threads/search", mine)
    await s.post("/threads/search", {**mine, "limit": 2})
    await s.post("/threads/search", {**mine, "limit": 2, "offset": 2})
    await s.post("/threads/search", {**mine, "offset": 70})
    await s.post("/threads/search", {**mine, "ids": ids[:2], "sort_by": "created_at"})
    await s.post("/threads/search", {"ids": ["x"]})
    for status in ("idle", "interrupted", "busy", "error", "gone"):
        await s.post("/threads/search", {**mine, "status": status})
    await s.post("/threads/search", {**mine, "values": {"text": "b"}})
    await s.post("/threads/search", {**mine, "values": {"text": "nobody"}})
    await s.post("/threads/search", {"metadata": {"tag": s.tag, "number": 1}})
    for by in ("created_at", "updated_at", "state_updated_at", "status"):
        for order in ("asc", "desc"):
            if by not in ("status", "state_updated_at"):  # of which two are the same
                await s.post(
                    "/threads/search",
                    {**mine, "sort_by": by, "sort_order": order, "select": ["metadata"]},
                )
    await s.post("/threads/search", {**mine, "sort_by": "nonsense"})
    await s.post("/threads/search", {**mine, "select": ["thread_id", "values", "status", "interrupts"]})
    await s.post("/threads/search", {**mine, "select": ["nonsense"]})
    await s.post("/threads/count", mine)
    await s.post("/threads/count", {**mine, "status": "idle"})
    await s.post("/threads/count", {**mine, "values": {"text": "b"}})
    await s.post("/threads/count", {**mine, "status": "gone"})


@scenario("threads.extract")
async def extract(s: Script) -> None:
    thread_id = await s.thread(metadata={"tag": s.tag, "deep": {"list": [1, {"x": "y"}], "_private": 1}})
    await s.ask("POST", f"/threads/{thread_id}/runs/wait", {"assistant_id": "steps", "input": {"n": 2}})
    await s.until_idle(thread_id)
    mine = {"metadata": {"tag": s.tag}, "select": ["status"]}
    paths = {
        "a": "metadata.deep.list[1].x",
        "b": "metadata.deep.list[-1].x",
        "c": "metadata.deep.list[9].x",
        "d": "values.log[0]",
        "e": "metadata.deep._private",
        "f": "values",
        "g": "values.log",
        "h": "metadata.deep.list[0].x",
    }
    await s.post("/threads/search", {**mine, "extract": paths})
    for bad in (
        {"a": "foo.bar"},
        {"thread_id": "values.n"},
        {"not-one": "values.n"},
        {"a": ""},
        {f"a{n}": "values.n" for n in range(11)},
        {"a": 1},
        {"a": "values..n"},
        {"a": "values[x]"},
    ):
        await s.post("/threads/search", {**mine, "extract": bad})


@scenario("threads.copy")
async def copy(s: Script) -> None:
    thread_id = await s.thread(metadata={"tag": s.tag})
    await s.post(f"/threads/{thread_id}/copy")
    await s.ask("POST", f"/threads/{thread_id}/runs/wait", {"assistant_id": "echo", "input": {"text": "x"}})
    await s.until_idle(thread_id)
    copied = await s.post(f"/threads/{thread_id}/copy")
    path = f"/threads/{copied['thread_id']}"
    await s.get(path)
    await s.get(f"{path}/state")
    await s.post(f"{path}/history", {"limit": 10})
    await s.get(f"{path}/runs")
    await s.post(f"{path}/runs/wait", {"assistant_id": "echo", "input": {"text": "y"}})
    await s.get(f"/threads/{thread_id}/state")
    await s.post(f"/threads/{NOBODY}/copy")
    await s.post("/threads/not-an-id/copy")
    asked = await s.thread()
    await s.ask("POST", f"/threads/{asked}/runs/wait", {"assistant_id": "hitl", "input": {"text": "x"}})
    await s.until_idle(asked)
    copied = await s.post(f"/threads/{asked}/copy")
    await s.post(
        f"/threads/{copied['thread_id']}/runs/wait", {"assistant_id": "hitl", "command": {"resume": "yes"}}
    )


@scenario("threads.prune")
async def prune(s: Script) -> None:
    ids = [await s.thread(metadata={"tag": s.tag}) for _ in range(3)]
    await s.post("/threads/prune", {"thread_ids": [*ids[:2], NOBODY], "strategy": "delete"})
    await s.post("/threads/count", {"metadata": {"tag": s.tag}})
    await s.get(f"/threads/{ids[0]}")
    await s.post("/threads/prune", {"thread_ids": [ids[0]]})
    await s.post("/threads/prune", {"thread_ids": [ids[2]], "strategy": "keep_latest"})
    await s.post("/threads/prune", {"thread_ids": []})
    await s.post("/threads/prune", {})
    await s.post("/threads/prune", {"thread_ids": ["x"]})
    await s.post("/threads/prune", {"thread_ids": [ids[2]], "strategy": "burn"})


@scenario("threads.storage")
async def storage(s: Script) -> None:
    thread_id = await s.thread()
    await s.get(f"/threads/{thread_id}/storage")
    await s.ask("POST", f"/threads/{thread_id}/runs/wait", {"assistant_id": "echo", "input": {"text": "x"}})
    await s.until_idle(thread_id)
    answer = await s.ask("GET", f"/threads/{thread_id}/storage")
    # The bytes are those of each server's own storage.
    s.note(
        "GET storage",
        {
            "keys": sorted(answer.body),
            "checkpoints": answer["checkpoints"]["count"],
            "keys of a channel": sorted(answer["channel_values"]),
            "pending_writes": sorted(answer["pending_writes"]),
        },
    )
    await s.get(f"/threads/{NOBODY}/storage")
    await s.get("/threads/x/storage")


@scenario("threads.refusals")
async def refusals(s: Script) -> None:
    for bad in (NOBODY, "not-an-id"):
        path = f"/threads/{bad}"
        await s.get(path)
        await s.patch(path, {"metadata": {}})
        await s.delete(path)
        await s.get(f"{path}/state")
        await s.post(f"{path}/state", {"values": {}})
        await s.get(f"{path}/state/{NOBODY}")
        await s.post(f"{path}/state/checkpoint", {"checkpoint": {"checkpoint_id": NOBODY}})
        await s.get(f"{path}/history")
        await s.post(f"{path}/history", {})
        await s.get(f"{path}/runs")
        for run in ("runs", "runs/wait", "runs/stream"):
            await s.post(f"{path}/{run}", {"assistant_id": "echo", "input": {"text": "x"}})
        await s.get(f"{path}/runs/{NOBODY}")
        await s.delete(f"{path}/runs/{NOBODY}")
        await s.post(f"{path}/runs/{NOBODY}/cancel")
        await s.get(f"{path}/runs/{NOBODY}/join")
        await s.get(f"{path}/runs/{NOBODY}/stream")


@scenario("threads.stream")
async def stream(s: Script) -> None:
    thread_id = await s.thread(metadata={"graph_id": "steps"})
    path = f"/threads/{thread_id}"

    def done(number: int):  # type: ignore[no-untyped-def]
        return lambda events: sum("run_done" in str(event.data) for event in events) == number

    async def after(opened: asyncio.Event) -> None:
        await opened.wait()
        for _ in range(2):
            await s.ask("POST", f"{path}/runs/wait", {"assistant_id": "steps", "input": {"n": 1}})

    for modes in ("", "?stream_modes=lifecycle", "?stream_modes=run_modes,lifecycle"):
        opened = asyncio.Event()
        runs = asyncio.create_task(after(opened), name="runs")
        await s.head("GET", f"{path}/stream{modes}", until=done(2), opened=opened)
        await runs
    await s.until_idle(thread_id)

    async def write(opened: asyncio.Event) -> None:
        await opened.wait()
        await s.ask("POST", f"{path}/state", {"values": {"i": 7}, "as_node": "step"})

    opened = asyncio.Event()
    writing = asyncio.create_task(write(opened), name="write")
    await s.head("GET", f"{path}/stream?stream_modes=state_update", until=bool, opened=opened)
    await writing
    await s.get(f"{path}/stream?stream_modes=bogus")
    await s.get(f"{path}/stream", headers={"last-event-id": "-1"})
    await s.get(f"{path}/stream", headers={"last-event-id": "x"})


@scenario("threads.state")
async def state(s: Script) -> None:
    thread_id = await s.thread(metadata={"tag": s.tag})
    path = f"/threads/{thread_id}"
    await s.post(f"{path}/state", {"values": {"text": "early"}})
    await s.post(
        f"{path}/runs/wait", {"assistant_id": "echo", "input": {"text": "one"}, "metadata": {"mine": 1}}
    )
    await s.until_idle(thread_id)
    await s.get(path)
    now = await s.get(f"{path}/state")
    checkpoint = now["checkpoint"]
    await s.get(f"{path}/state/{checkpoint['checkpoint_id']}")
    await s.post(f"{path}/state/checkpoint", {"checkpoint": checkpoint})
    await s.post(f"{path}/state/checkpoint", {"checkpoint": checkpoint, "subgraphs": True})
    await s.get(f"{path}/state/{NOBODY}")
    await s.get(f"{path}/state/nonsense")
    await s.post(f"{path}/state/checkpoint", {"checkpoint": {"checkpoint_id": NOBODY}})
    await s.post(f"{path}/state/checkpoint", {})
    await s.post(f"{path}/state/checkpoint", {"checkpoint": "x"})
    written = await s.post(f"{path}/state", {"values": {"text": "two"}})
    await s.get(f"{path}/state")
    await s.get(path)
    await s.post(f"{path}/state", {"values": {"text": "three"}, "as_node": "echo"})
    await s.post(f"{path}/state", {"values": {"text": "fork"}, "checkpoint": checkpoint})
    await s.post(f"{path}/state", {"values": {"text": "fork"}, "checkpoint_id": written["checkpoint_id"]})
    await s.post(f"{path}/state", {"values": None, "as_node": "echo"})
    await s.post(f"{path}/state", {"values": {"text": "x"}, "as_node": "nope"})
    await s.post(f"{path}/state", {"values": {"unknown": 1}})
    await s.post(f"{path}/state", {"values": 3})
    await s.post(f"{path}/state", {"values": [{"text": "l"}]})
    await s.post(f"{path}/state", {})
    await s.get(f"{path}/state")


@scenario("threads.history")
async def history(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    for _ in range(2):
        await s.ask("POST", f"{path}/runs/wait", {"assistant_id": "steps", "input": {"n": 2, "i": 0}})
    await s.until_idle(thread_id)
    everything = await s.post(f"{path}/history", {"limit": 100})
    checkpoint = everything[3]["checkpoint"]
    await s.get(f"{path}/history")
    await s.get(f"{path}/history?limit=2")
    await s.get(f"{path}/history?limit=x")
    await s.get(f"{path}/history?limit=0")
    await s.get(f"{path}/history?limit=3&before={checkpoint['checkpoint_id']}")
    await s.post(f"{path}/history", {})
    await s.post(f"{path}/history", {"limit": 2, "before": checkpoint})
    await s.post(f"{path}/history", {"limit": 2, "before": checkpoint["checkpoint_id"]})
    await s.post(f"{path}/history", {"limit": 10, "metadata": {"source": "input"}})
    await s.post(f"{path}/history", {"limit": 10, "metadata": {"source": "nowhere"}})
    await s.post(f"{path}/history", {"limit": 10, "checkpoint": checkpoint})
    await s.post(f"{path}/history", {"limit": 0})
    await s.post(f"{path}/history", {"limit": 1001})
    await s.post(f"{path}/history", {"before": "nonsense"})
    s.note("sdk.threads.get_history", await s.sdk.threads.get_history(thread_id, limit=2))


@scenario("threads.subgraphs")
async def subgraphs(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    await s.post(f"{path}/runs/wait", {"assistant_id": "subgraph", "input": {"text": "x", "ask": True}})
    await s.until_idle(thread_id)
    await s.get(path)
    flat = await s.get(f"{path}/state")
    await s.get(f"{path}/state?subgraphs=true")
    inner = flat["tasks"][0]["checkpoint"]
    await s.post(f"{path}/state/checkpoint", {"checkpoint": inner})
    await s.post(f"{path}/state/checkpoint", {"checkpoint": inner, "subgraphs": True})
    await s.post(f"{path}/history", {"limit": 10})
    await s.post(f"{path}/history", {"limit": 10, "checkpoint": {"checkpoint_ns": inner["checkpoint_ns"]}})
    await s.post(
        f"{path}/state",
        {"values": {"trail": ["from outside"]}, "checkpoint": {"checkpoint_ns": inner["checkpoint_ns"]}},
    )
    await s.get(f"{path}/state?subgraphs=true")
    await s.post(f"{path}/runs/wait", {"assistant_id": "subgraph", "command": {"resume": "answer"}})
    await s.get(f"{path}/state?subgraphs=true")
