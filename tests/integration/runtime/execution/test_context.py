"""`runtime.context`: no node gets None."""

from __future__ import annotations

from typing import Any

from rig import Fleet, Process


async def seen(fleet: Fleet, process: Process, graph: str, **options: Any) -> tuple[dict[str, str], Any]:
    run = (await process.admit(graph, {}, **options)).row
    row = await fleet.ended(run["run_id"])
    assert row["status"] == "success", row["error"]
    ids = {name: str(run[name]) for name in ("thread_id", "run_id")}
    return ids, (await fleet.thread(run["thread_id"]))["values"]["seen"]


async def test_every_node_has_a_context(fleet: Fleet, process: Process) -> None:
    for options in ({}, {"context": {}}, {"context": None}):
        ids, context = await seen(fleet, process, "context_defaults", **options)
        assert context == {"system_prompt": "be kind", "run_id": ids["run_id"]}
        ids, context = await seen(fleet, process, "context_bare", **options)
        assert context == {**ids, "changed": True}
        assert (await seen(fleet, process, "context_keys", **options))[1] == {}
    _, context = await seen(fleet, process, "context_keys", context={"prompt": "x", "unknown": 1})
    assert context == {"prompt": "x"}


async def test_a_context_that_does_not_fit_ends_the_run_and_names_the_field(
    fleet: Fleet, process: Process
) -> None:
    run = (await process.admit("context_strict", {}, context={})).row
    row = await fleet.ended(run["run_id"])
    assert (row["status"], row["error"]["error"]) == ("error", "TypeError")
    assert "context schema Strict: `user` is missing" in row["error"]["message"]
