"""Crons: their life, their search, their refusals. That and when they fire is in tests/integration/crons."""

from __future__ import annotations

from tests.differential.scenario import scenario
from tests.differential.script import Script

NOBODY = "00000000-0000-4000-8000-000000000000"
NEVER = "0 0 29 2 *"


@scenario("crons.life")
async def life(s: Script) -> None:
    made = await s.post(
        "/runs/crons",
        {
            "assistant_id": "echo",
            "schedule": NEVER,
            "input": {"text": "x"},
            "metadata": {"tag": s.tag},
            "config": {"configurable": {"marker": "m"}},
            "timezone": "Europe/Lisbon",
        },
    )
    path = f"/runs/crons/{made['cron_id']}"
    await s.get(path)
    await s.patch(path, {"metadata": {"more": 1}})
    await s.patch(path, {"enabled": False})
    await s.patch(path, {"enabled": True})
    await s.patch(path, {"schedule": "5 4 1 1 *", "timezone": "UTC"})
    await s.patch(path, {"input": {"text": "y"}, "on_run_completed": "keep"})
    await s.patch(path, {"schedule": "nonsense"})
    await s.patch(path, {"timezone": "Mars/X"})
    await s.patch(path, {})
    await s.patch(path, {"end_time": None})
    await s.delete(path)
    await s.get(path)
    await s.patch(path, {"enabled": True})
    await s.delete(path)


@scenario("crons.threads")
async def threads(s: Script) -> None:
    thread_id = await s.thread()
    made = await s.post(
        f"/threads/{thread_id}/runs/crons",
        {"assistant_id": "echo", "schedule": NEVER, "input": {"text": "x"}, "multitask_strategy": "reject"},
    )
    await s.get(f"/runs/crons/{made['cron_id']}")
    await s.post("/runs/crons/search", {"thread_id": thread_id})
    await s.post("/runs/crons/count", {"thread_id": thread_id})
    await s.post(f"/threads/{NOBODY}/runs/crons", {"assistant_id": "echo", "schedule": NEVER})
    await s.post("/threads/x/runs/crons", {"assistant_id": "echo", "schedule": NEVER})
    await s.delete(f"/runs/crons/{made['cron_id']}")


@scenario("crons.search")
async def search(s: Script) -> None:
    assistant_id = (await s.ask("POST", "/assistants", {"graph_id": "echo"}))["assistant_id"]
    ids = []
    for schedule, more in (
        (NEVER, {"enabled": False}),
        ("1 1 1 1 *", {}),
        ("2 2 2 2 *", {"on_run_completed": "keep"}),
    ):
        body = {"assistant_id": assistant_id, "schedule": schedule, "metadata": {"tag": s.tag}, **more}
        ids.append((await s.ask("POST", "/runs/crons", body))["cron_id"])
    mine = {"assistant_id": assistant_id}
    await s.post("/runs/crons/search", {**mine, "sort_by": "created_at", "sort_order": "asc"})
    await s.post("/runs/crons/search", mine)
    await s.post("/runs/crons/search", {**mine, "limit": 2})
    await s.post("/runs/crons/search", {**mine, "limit": 2, "offset": 2})
    await s.post("/runs/crons/search", {**mine, "enabled": False})
    await s.post("/runs/crons/search", {**mine, "metadata": {"tag": s.tag}})
    await s.post("/runs/crons/search", {**mine, "metadata": {"tag": "other"}})
    await s.post("/runs/crons/search", {**mine, "select": ["schedule"], "sort_by": "next_run_date"})
    await s.post("/runs/crons/search", {**mine, "select": ["nonsense"]})
    await s.post("/runs/crons/search", {**mine, "sort_by": "nonsense"})
    await s.post("/runs/crons/search", {"assistant_id": "echo"})
    await s.post("/runs/crons/search", {**mine, "limit": 0})
    await s.post("/runs/crons/count", mine)
    await s.post("/runs/crons/count", {"assistant_id": "echo"})
    for cron_id in ids:
        await s.ask("DELETE", f"/runs/crons/{cron_id}")


@scenario("crons.refusals")
async def refusals(s: Script) -> None:
    good = {"assistant_id": "echo", "schedule": NEVER, "enabled": False}
    for bad in (
        {},
        {"assistant_id": "echo"},
        {"schedule": NEVER},
        {**good, "schedule": "nonsense"},
        {**good, "schedule": "61 * * * *"},
        {**good, "schedule": ""},
        {**good, "timezone": "Mars/X"},
        {**good, "assistant_id": "nope"},
        {**good, "assistant_id": NOBODY},
        {**good, "on_run_completed": "burn"},
        {**good, "metadata": None},
        {**good, "end_time": "zz"},
    ):
        await s.post("/runs/crons", bad)
    for bad in (NOBODY, "not-an-id"):
        await s.get(f"/runs/crons/{bad}")
        await s.patch(f"/runs/crons/{bad}", {"enabled": False})
        await s.delete(f"/runs/crons/{bad}")


@scenario("crons.sdk")
async def sdk(s: Script) -> None:
    made = await s.sdk.crons.create("echo", schedule=NEVER, input={"text": "x"}, metadata={"tag": s.tag})
    s.note("sdk.crons.create", made)
    s.note("sdk.crons.update", await s.sdk.crons.update(made["cron_id"], enabled=False))
    s.note("sdk.crons.count", await s.sdk.crons.count(assistant_id=made["assistant_id"]) > 0)
    await s.sdk.crons.delete(made["cron_id"])
