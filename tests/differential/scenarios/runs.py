"""Runs: creating, waiting, joining, cancelling; what they do to their thread."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

from tests.differential.scenario import Play, scenario
from tests.differential.script import Script

NOBODY = "00000000-0000-4000-8000-000000000000"
ENDED = ("success", "error", "timeout", "interrupted")


@scenario("runs.background")
async def background(s: Script) -> None:
    thread_id = await s.thread(metadata={"tag": s.tag})
    path = f"/threads/{thread_id}"
    run = await s.post(
        f"{path}/runs",
        {
            "assistant_id": "echo",
            "input": {"text": "x"},
            "metadata": {"mine": 1, "run_id": "stripped"},
            "config": {
                "tags": ["t"],
                "recursion_limit": 7,
                "configurable": {"marker": "m"},
                "metadata": {"c": 1},
            },
            "strange": True,
        },
    )
    await s.until_status(f"{path}/runs/{run['run_id']}", *ENDED)
    await s.get(f"{path}/runs/{run['run_id']}")
    await s.get(f"{path}/runs/{run['run_id']}/join")
    await s.get(path)
    await s.get(f"{path}/state")
    second = await s.post(f"{path}/runs", {"assistant_id": "echo", "input": {"text": "y"}})
    await s.until_status(f"{path}/runs/{second['run_id']}", *ENDED)
    await s.get(f"{path}/runs")
    await s.get(f"{path}/runs?limit=1")
    await s.get(f"{path}/runs?limit=1&offset=1")
    await s.get(f"{path}/runs?status=success")
    await s.get(f"{path}/runs?status=pending")
    await s.get(f"{path}/runs?status=nonsense")
    await s.get(f"{path}/runs?select=run_id&select=status")
    await s.get(f"{path}/runs?select=nonsense")
    await s.get(f"{path}/runs?limit=x")
    await s.get(f"{path}/runs?limit=0")
    await s.delete(f"{path}/runs/{run['run_id']}")
    await s.get(f"{path}/runs/{run['run_id']}")
    await s.delete(f"{path}/runs/{run['run_id']}")
    await s.post(f"{path}/runs/{second['run_id']}/cancel")
    await s.post(f"{path}/runs/{NOBODY}/cancel")
    await s.get(f"{path}/runs/{NOBODY}/join")
    await s.get(f"{path}/runs/{NOBODY}/stream")


WAITED = (
    ("echo", {"text": "x"}),
    ("steps", {"n": 2}),
    ("chat", {"messages": [{"role": "user", "content": "hi there"}]}),
    ("tools", {"messages": [{"role": "user", "content": "add 2 3"}]}),
    ("fail", {"text": "x"}),
    ("hitl", {"text": "x"}),
    ("panel", {"text": "x"}),
    ("subgraph", {"text": "x"}),
    ("store", {"user": "differential", "key": str(uuid4()), "value": "v"}),
    ("echo", {}),
    ("echo", None),
    ("echo", "a text"),
    ("echo", [1]),
)


def _waited(graph: str, given: Any) -> Play:
    async def play(s: Script) -> None:
        thread_id = await s.thread()
        path = f"/threads/{thread_id}"
        await s.post(f"{path}/runs/wait", {"assistant_id": graph, "input": given})
        await s.until_idle(thread_id)
        await s.get(path)
        await s.get(f"{path}/state")
        await s.get(f"{path}/runs")

    return play


for _number, (_graph, _given) in enumerate(WAITED):
    scenario(f"runs.wait.{_number}.{_graph}")(_waited(_graph, _given))


@scenario("runs.wait.modes")
async def wait_modes(s: Script) -> None:
    for mode in (
        "values",
        "updates",
        "messages",
        "custom",
        ["values", "updates"],
        "debug",
        "events",
        "tasks",
    ):
        thread_id = await s.thread()
        await s.post(
            f"/threads/{thread_id}/runs/wait",
            {"assistant_id": "steps", "input": {"n": 1}, "stream_mode": mode},
            label=f"wait {mode}",
        )
    for mode in ("custom", "updates"):
        await s.post(
            "/runs/wait",
            {"assistant_id": "steps", "input": {"n": 1}, "stream_mode": mode},
            label=f"stateless wait {mode}",
        )


@scenario("runs.context")
async def context(s: Script) -> None:
    made = await s.ask(
        "POST",
        "/assistants",
        {
            "graph_id": "echo",
            "context": {"prefix": "a-"},
            "metadata": {"of": "assistant"},
            "config": {"tags": ["x"]},
        },
    )
    assistant_id = made["assistant_id"]
    thread_id = await s.thread(metadata={"of_thread": 1})
    path = f"/threads/{thread_id}"
    for number, more in enumerate(
        (
            {},
            {"context": {"suffix": "-b"}},
            {"config": {"configurable": {"marker": "m"}}},
            {"context": {"prefix": "other", "undeclared": "z"}},
            {
                "config": {"configurable": {"prefix": "c"}, "metadata": {"in": "config"}},
                "metadata": {"in": "body"},
            },
            {"config": {"recursion_limit": 0}},
        )
    ):
        body = {"assistant_id": assistant_id, "input": {"text": "t"}, **more}
        await s.post(f"{path}/runs/wait", body, label=f"wait {number}")
        await s.get(f"{path}/runs?limit=1", label=f"run {number}")
        await s.get(path, label=f"thread {number}")
    both = {"context": {"a": 1}, "config": {"configurable": {"b": 2}}}
    await s.post(f"{path}/runs", {"assistant_id": assistant_id, **both})
    await s.post(
        f"{path}/runs/wait",
        {"assistant_id": "factory", "input": {"text": "f"}, "context": {"flavor": "sour"}},
    )
    await s.get(f"{path}/state")


@scenario("runs.bodies")
async def bodies(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}/runs"
    good = {"assistant_id": "echo", "input": {"text": "x"}}
    for bad in (
        {},
        {"assistant_id": "nope"},
        {"assistant_id": NOBODY},
        {"assistant_id": None},
        {**good, "metadata": None},
        {**good, "config": None},
        {**good, "context": None},
        {**good, "config": []},
        {**good, "stream_mode": "nonsense"},
        {**good, "stream_mode": ["values", "nonsense"]},
        {**good, "stream_mode": "tools"},
        {**good, "interrupt_before": "echo"},
        {**good, "interrupt_before": [1]},
        {**good, "multitask_strategy": "maybe"},
        {**good, "on_disconnect": "sleep"},
        {**good, "if_not_exists": "maybe"},
        {**good, "durability": "none"},
        {**good, "after_seconds": "soon"},
        {**good, "checkpoint_id": "x"},
        {**good, "webhook": ""},
        {**good, "webhook": "ftp://127.0.0.1/x"},
        {**good, "command": "go"},
        {**good, "stream_subgraphs": "yes"},
        {**good, "checkpoint": {"checkpoint_id": 1}},
    ):
        for where in (path, f"{path}/wait", f"{path}/stream", "/runs"):
            shown = {key: value for key, value in bad.items() if good.get(key) != value}
            await s.post(where, bad, label=f"POST {where} {shown}")
    for where in (
        path,
        f"{path}/wait",
        f"{path}/stream",
        "/runs",
        "/runs/wait",
        "/runs/stream",
        "/runs/batch",
    ):
        await s.post(where, b"{")
        await s.post(where, b"")


@scenario("runs.missing_thread")
async def missing_thread(s: Script) -> None:
    thread_id = s.id("made by its run")
    body = {"assistant_id": "echo", "input": {"text": "x"}, "metadata": {"mine": 1}}
    await s.post(f"/threads/{thread_id}/runs/wait", body)
    await s.post(f"/threads/{thread_id}/runs/wait", {**body, "if_not_exists": "create"})
    await s.until_idle(thread_id)
    await s.get(f"/threads/{thread_id}")
    await s.get(f"/threads/{thread_id}/runs")
    await s.get(f"/threads/{thread_id}/state")
    await s.delete(f"/threads/{thread_id}")


@scenario("runs.interrupts")
async def interrupts(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    await s.post(f"{path}/runs/wait", {"assistant_id": "hitl", "input": {"text": "x", "questions": 2}})
    await s.until_idle(thread_id)
    await s.get(path)
    await s.get(f"{path}/state")
    await s.post(f"{path}/runs/wait", {"assistant_id": "hitl", "command": {"resume": "one"}})
    await s.until_idle(thread_id)
    await s.get(path)
    await s.get(f"{path}/state")
    await s.post(f"{path}/runs/stream", {"assistant_id": "hitl", "command": {"resume": "two"}})
    await s.until_idle(thread_id)
    await s.get(path)
    await s.get(f"{path}/state")
    await s.post(f"{path}/runs/wait", {"assistant_id": "hitl", "command": {"resume": "nobody asked"}})
    await s.post(f"{path}/history", {"limit": 20})
    # New input instead of an answer.
    await s.post(f"{path}/runs/wait", {"assistant_id": "hitl", "input": {"text": "again"}})
    await s.post(f"{path}/runs/wait", {"assistant_id": "hitl", "input": {"text": "anew"}})
    await s.until_idle(thread_id)
    await s.get(f"{path}/state")
    await s.post(f"{path}/runs/wait", {"assistant_id": "hitl", "command": {}, "input": {"text": "nothing"}})


@scenario("runs.interrupts.parallel")
async def parallel(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    modes = ["values", "updates"]
    await s.post(
        f"{path}/runs/stream", {"assistant_id": "panel", "input": {"text": "x"}, "stream_mode": modes}
    )
    await s.until_idle(thread_id)
    await s.get(path)
    state = await s.get(f"{path}/state")
    await s.post(f"{path}/runs/wait", {"assistant_id": "panel", "command": {"resume": "which"}})
    await s.until_idle(thread_id)
    asked = [i["id"] for task in state["tasks"] for i in task["interrupts"]]
    await s.post(f"{path}/runs/wait", {"assistant_id": "panel", "command": {"resume": {asked[0]: "first"}}})
    await s.until_idle(thread_id)
    await s.get(f"{path}/state")
    await s.post(f"{path}/runs/wait", {"assistant_id": "panel", "command": {"resume": {asked[1]: "second"}}})
    await s.get(f"{path}/state")


@scenario("runs.breakpoints")
async def breakpoints(s: Script) -> None:
    for where in (
        {"interrupt_before": ["finish"]},
        {"interrupt_after": ["step"]},
        {"interrupt_before": "*"},
        {"interrupt_before": ["nope"]},
    ):
        thread_id = await s.thread()
        path = f"/threads/{thread_id}"
        body = {"assistant_id": "steps", "input": {"n": 1}, **where, "stream_mode": ["values", "updates"]}
        await s.post(f"{path}/runs/stream", body, label=f"stream {where}")
        await s.until_idle(thread_id)
        await s.get(path, label=f"thread {where}")
        await s.get(f"{path}/state", label=f"state {where}")
        await s.get(f"{path}/runs", label=f"runs {where}")
        await s.post(f"{path}/runs/wait", {"assistant_id": "steps", "input": None}, label=f"go on {where}")


@scenario("runs.commands")
async def commands(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    await s.post(f"{path}/runs/wait", {"assistant_id": "steps", "input": {"n": 1}})
    for command in (
        {"update": {"log": ["updated"]}, "goto": "finish"},
        {"goto": {"node": "step", "input": {"n": 1, "i": 0}}},
        {"goto": ["step", "finish"]},
        {"update": [["log", ["pair"]]]},
        {"goto": "nope"},
        {"resume": None},
    ):
        body = {"assistant_id": "steps", "command": command, "input": None}
        await s.post(f"{path}/runs/stream", {**body, "stream_mode": "updates"}, label=f"stream {command}")
        await s.until_idle(thread_id)
        await s.get(f"{path}/state", label=f"state {command}")
    await s.post("/runs/wait", {"assistant_id": "hitl", "command": {"resume": "x"}})
    await s.post("/runs/wait", {"assistant_id": "steps", "command": {"update": {"n": 1}, "goto": "step"}})


@scenario("runs.forks")
async def forks(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    await s.ask("POST", f"{path}/runs/wait", {"assistant_id": "steps", "input": {"n": 2}})
    await s.until_idle(thread_id)
    history = (await s.ask("POST", f"{path}/history", {"limit": 20})).body
    middle = history[1]["checkpoint"]
    await s.post(f"{path}/runs/wait", {"assistant_id": "steps", "input": None, "checkpoint": middle})
    await s.post(f"{path}/history", {"limit": 20})
    await s.post(
        f"{path}/runs/wait",
        {"assistant_id": "steps", "input": {"n": 1, "i": 0}, "checkpoint_id": middle["checkpoint_id"]},
    )
    await s.post(f"{path}/history", {"limit": 20})
    await s.post(
        f"{path}/runs/wait",
        {
            "assistant_id": "steps",
            "input": None,
            "config": {"configurable": {"checkpoint_id": middle["checkpoint_id"]}},
        },
    )
    await s.post(f"{path}/runs/wait", {"assistant_id": "steps", "input": None, "checkpoint_id": NOBODY})
    await s.get(f"{path}/state")


@scenario("runs.cancel")
async def cancel(s: Script) -> None:
    for action in ("interrupt", "rollback", "nonsense"):
        thread_id = await s.thread()
        path = f"/threads/{thread_id}"
        await s.ask("POST", f"{path}/runs/wait", {"assistant_id": "nap", "input": {"sleep": 0}})
        await s.until_idle(thread_id)
        run = await s.post(
            f"{path}/runs", {"assistant_id": "nap", "input": {"sleep": 60}}, label=f"run {action}"
        )
        at = f"{path}/runs/{run['run_id']}"
        await s.until_status(at, "running")
        await s.until(f"{path}/state", lambda body: body["next"] == ["sleep"])
        await s.get(path, label=f"busy thread {action}")
        # Whether a waiter still finds a run that is rolled back is a race in the official server.
        cancel = s.ask if action == "rollback" else s.call
        await cancel("POST", f"{at}/cancel?wait=true&action={action}")
        await s.until_idle(thread_id)
        await s.get(at, label=f"cancelled run {action}")
        await s.get(path, label=f"thread {action}")
        await s.get(f"{path}/state", label=f"state {action}")
        await s.post(f"{path}/history", {"limit": 20}, label=f"history {action}")
        await s.get(f"{at}/join", label=f"join {action}")
        await s.post(f"{at}/cancel", label=f"cancel again {action}")


@scenario("runs.cancel.pending")
async def cancel_pending(s: Script) -> None:
    for action in ("interrupt", "rollback"):
        thread_id = await s.thread()
        path = f"/threads/{thread_id}"
        body = {"assistant_id": "echo", "input": {"text": "x"}, "after_seconds": 300}
        run = await s.post(f"{path}/runs", body, label=f"run {action}")
        at = f"{path}/runs/{run['run_id']}"
        await s.get(path, label=f"waiting thread {action}")
        await s.post(f"{path}/runs", {**body, "multitask_strategy": "reject"}, label=f"reject {action}")
        await s.post(f"{at}/cancel?action={action}", label=f"cancel {action}")
        await s.until(at, lambda body: body.get("status") != "pending")
        await s.get(at, label=f"cancelled run {action}")
        await s.get(path, label=f"thread {action}")
        await s.get(f"{path}/state", label=f"state {action}")


@scenario("runs.cancel.streamed")
async def cancel_streamed(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"

    async def stop() -> None:
        runs = await s.until(f"{path}/runs", lambda body: body and body[0]["status"] == "running")
        await s.until(f"{path}/state", lambda body: body["next"] == ["sleep"])
        await s.post(f"{path}/runs/{runs[0]['run_id']}/cancel")

    stopping = asyncio.create_task(stop(), name="stop")
    await s.post(
        f"{path}/runs/stream",
        {"assistant_id": "nap", "input": {"sleep": 60}, "stream_mode": ["values", "updates"]},
    )
    await stopping
    await s.until_idle(thread_id)
    await s.get(path)

    async def stop_waiting() -> None:
        await s.until(f"{path}/runs?status=running", bool)
        await s.until(
            f"{path}/state", lambda body: body["next"] == ["sleep"] and len(body["values"]["trail"]) == 2
        )
        running = (await s.ask("GET", f"{path}/runs?status=running")).body
        await s.post("/runs/cancel", {"thread_id": thread_id, "run_ids": [running[0]["run_id"]]})

    stopping = asyncio.create_task(stop_waiting(), name="stop")
    await s.post(f"{path}/runs/wait", {"assistant_id": "nap", "input": {"sleep": 60}})
    await stopping
    await s.until_idle(thread_id)
    await s.get(path)
    await s.get(f"{path}/state")


@scenario("runs.cancel.many")
async def cancel_many(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    later = {"assistant_id": "echo", "input": {"text": "x"}, "after_seconds": 300}
    ids = [(await s.ask("POST", f"{path}/runs", later))["run_id"] for _ in range(3)]
    for bad in (
        {},
        {"thread_id": thread_id},
        {"run_ids": ids},
        {"status": "pending", "thread_id": thread_id, "run_ids": ids},
        {"status": "success"},
        {"thread_id": thread_id, "run_ids": [NOBODY]},
        {"thread_id": NOBODY, "run_ids": ids},
        {"thread_id": thread_id, "run_ids": []},
        {"thread_id": thread_id, "run_ids": ["x"]},
    ):
        await s.post("/runs/cancel", bad)
    await s.get(f"{path}/runs?select=status")
    await s.post("/runs/cancel", {"thread_id": thread_id, "run_ids": ids[:2]})
    await s.until_status(f"{path}/runs/{ids[0]}", "interrupted")
    await s.get(f"{path}/runs?select=status")
    await s.post("/runs/cancel?action=rollback", {"thread_id": thread_id, "run_ids": ids})
    await s.until_idle(thread_id)
    await s.get(f"{path}/runs?select=status")


@scenario("runs.cancel.all", alone=True)
async def cancel_all(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    later = {"assistant_id": "echo", "input": {"text": "x"}, "after_seconds": 300}
    for status in ("pending", "all"):
        run = await s.ask("POST", f"{path}/runs", later)
        await s.post("/runs/cancel", {"status": status})
        await s.until_status(f"{path}/runs/{run['run_id']}", "interrupted")
        await s.get(f"{path}/runs/{run['run_id']}")
    await s.post("/runs/cancel", {"status": "pending"})
    await s.post("/runs/cancel", {"status": "running"})


@scenario("runs.multitask.reject")
async def reject(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    run = await s.post(f"{path}/runs", {"assistant_id": "nap", "input": {"sleep": 60}})
    await s.until_status(f"{path}/runs/{run['run_id']}", "running")
    again = {"assistant_id": "nap", "input": {"sleep": 0}, "multitask_strategy": "reject"}
    for kind in ("runs", "runs/wait", "runs/stream"):
        await s.post(f"{path}/{kind}", again)
    await s.post(f"{path}/state", {"values": {"trail": ["from outside"]}})
    await s.get(f"{path}/runs")
    await s.post(f"{path}/runs/{run['run_id']}/cancel?wait=1")


@scenario("runs.multitask.enqueue")
async def enqueue(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    runs = [
        await s.ask("POST", f"{path}/runs", {"assistant_id": "nap", "input": {"sleep": 0.2 * (n == 0)}})
        for n in range(3)
    ]
    await s.until_status(f"{path}/runs/{runs[-1]['run_id']}", *ENDED)
    await s.until_idle(thread_id)
    await s.get(f"{path}/runs?select=status&select=multitask_strategy")
    await s.get(f"{path}/state")
    history = (await s.ask("POST", f"{path}/history", {"limit": 50})).body
    s.note(
        "history",
        [[state["metadata"]["source"], state["metadata"]["step"], state["next"]] for state in history],
    )


@scenario("runs.multitask.interrupt")
async def interrupt(s: Script) -> None:
    for strategy in ("interrupt", "rollback"):
        thread_id = await s.thread()
        path = f"/threads/{thread_id}"
        await s.ask("POST", f"{path}/runs/wait", {"assistant_id": "nap", "input": {"sleep": 0}})
        await s.until_idle(thread_id)
        run = await s.ask("POST", f"{path}/runs", {"assistant_id": "nap", "input": {"sleep": 60}})
        await s.until(f"{path}/state", lambda body: body["next"] == ["sleep"])
        await s.post(
            f"{path}/runs/wait",
            {"assistant_id": "nap", "input": {"sleep": 0}, "multitask_strategy": strategy},
            label=f"wait {strategy}",
        )
        await s.until_idle(thread_id)
        await s.get(f"{path}/runs/{run['run_id']}", label=f"displaced {strategy}")
        await s.get(path, label=f"thread {strategy}")
        await s.get(f"{path}/state", label=f"state {strategy}")
        await s.get(f"{path}/runs?select=status", label=f"runs {strategy}")


@scenario("runs.stateless")
async def stateless(s: Script) -> None:
    await s.post("/runs", {"assistant_id": "echo", "input": {"text": "x"}, "metadata": {"mine": 1}})
    await s.post("/runs/wait", {"assistant_id": "steps", "input": {"n": 1}})
    await s.post("/runs/wait", {"assistant_id": "fail", "input": {"text": "x"}})
    await s.post("/runs/wait", {"assistant_id": "hitl", "input": {"text": "x"}})
    await s.post(
        "/runs/stream", {"assistant_id": "steps", "input": {"n": 1}, "stream_mode": ["values", "custom"]}
    )
    await s.post("/runs/stream", {"assistant_id": "fail", "input": {"text": "x"}})
    await s.post("/runs/wait", {"assistant_id": "nope", "input": {}})
    kept = await s.post(
        "/runs/wait", {"assistant_id": "echo", "input": {"text": "x"}, "on_completion": "keep"}
    )
    thread_id = kept.headers["location"].split("/")[2]
    await s.until_idle(thread_id)
    await s.get(f"/threads/{thread_id}")
    await s.get(f"/threads/{thread_id}/state")
    await s.post("/runs/wait", {"assistant_id": "echo", "input": {"text": "x"}, "on_completion": "burn"})
    await s.get(f"/runs/{NOBODY}/stream")
    parts = [p async for p in s.sdk.runs.stream(None, "echo", input={"text": "sdk"}, stream_mode="updates")]
    s.note("sdk.runs.stream", [[part.event, part.data] for part in parts])


@scenario("runs.batch")
async def batch(s: Script) -> None:
    good = {"assistant_id": "echo", "input": {"text": "x"}, "metadata": {"tag": s.tag}}
    await s.post("/runs/batch", [good, {**good, "input": {"text": "y"}}])
    await s.post("/runs/batch", [])
    await s.post("/runs/batch", {})
    await s.post("/runs/batch", [good, {"assistant_id": "nope"}])
    await s.post("/runs/batch", [good, {}])


@scenario("runs.durability")
async def durability(s: Script) -> None:
    for given in (
        {"durability": "sync"},
        {"durability": "async"},
        {"durability": "exit"},
        {"checkpoint_during": False},
        {"checkpoint_during": True},
        {"checkpoint_during": True, "durability": "exit"},
    ):
        thread_id = await s.thread()
        path = f"/threads/{thread_id}"
        await s.post(
            f"{path}/runs/wait", {"assistant_id": "steps", "input": {"n": 1}, **given}, label=f"wait {given}"
        )
        await s.until_idle(thread_id)
        runs = (await s.ask("GET", f"{path}/runs")).body
        s.note(f"kwargs {given}", runs[0]["kwargs"])
        history = (await s.ask("POST", f"{path}/history", {"limit": 20})).body
        s.note(
            f"history {given}",
            [[state["metadata"]["source"], state["metadata"]["step"]] for state in history],
        )


@scenario("runs.delayed")
async def delayed(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    for seconds in (0.3, 0, -1):
        await s.post(
            f"{path}/runs/wait",
            {"assistant_id": "echo", "input": {"text": str(seconds)}, "after_seconds": seconds},
        )
    await s.get(f"{path}/runs?select=status")


@scenario("runs.deleted")
async def deleted(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    for _ in range(2):
        await s.ask("POST", f"{path}/runs/wait", {"assistant_id": "steps", "input": {"n": 1}})
    await s.until_idle(thread_id)
    runs = (await s.ask("GET", f"{path}/runs")).body
    await s.delete(f"{path}/runs/{runs[0]['run_id']}")
    await s.get(f"{path}/state")
    await s.get(path)
    history = (await s.ask("POST", f"{path}/history", {"limit": 20})).body
    s.note("history", [[state["metadata"]["source"], state["metadata"]["step"]] for state in history])


@scenario("runs.errors")
async def errors(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    await s.post(
        f"{path}/runs/stream", {"assistant_id": "fail", "input": {"text": "x"}, "stream_mode": "updates"}
    )
    await s.until_idle(thread_id)
    await s.get(path)
    await s.get(f"{path}/state")
    await s.get(f"{path}/runs?select=status")
    await s.post(f"{path}/history", {"limit": 20})
    await s.post(f"{path}/runs/wait", {"assistant_id": "fail", "input": {"ok": True}})
    await s.until_idle(thread_id)
    await s.get(path)
    await s.get(f"{path}/state")
    other = await s.thread()
    await s.post(
        f"/threads/{other}/runs/wait",
        {"assistant_id": "steps", "input": {"n": 50}, "config": {"recursion_limit": 3}},
    )
    await s.until_idle(other)
    await s.get(f"/threads/{other}")


@scenario("runs.factory")
async def factory(s: Script) -> None:
    thread_id = await s.thread()
    path = f"/threads/{thread_id}"
    body = {
        "assistant_id": "factory",
        "input": {"text": "x"},
        "config": {"configurable": {"flavor": "sweet"}},
    }
    await s.post(f"{path}/runs/stream", {**body, "stream_mode": "updates"})
    await s.until_idle(thread_id)
    await s.get(path)
    await s.get(f"{path}/state")
    await s.post(f"{path}/runs/wait", {"assistant_id": "factory", "input": {"text": "y"}})
