"""A run that ends in error says which node it was, in its error and in the log, whatever the error itself says."""

from __future__ import annotations

import json
import logging

import pytest
from rig import Fleet, Process

FAILING = {
    "alone": ("ConnectionError", "secretive"),
    "nested": ("ConnectionError", "child|secretive"),
    "invoked": ("ConnectionError", "invokes|secretive"),
    "grouped": ("ExceptionGroup", "groups|secretive"),
    "loop_closed": ("RuntimeError", "closed"),
    "loop_bound": ("RuntimeError", "bound"),
    "cancelled": ("NodeCancelledError", "gives_up"),
    "retried": ("ConnectionError", "secretive"),
    "too_slow": ("TimeoutError", "dawdles"),
    "conflicting": ("InvalidUpdateError", "left, right"),
}


async def test_every_error_says_which_node_it_comes_from(
    fleet: Fleet, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "slackwater.runtime.execution.outcome")
    runs = {graph: (await process.admit(f"failing_{graph}", {"log": []})).row for graph in FAILING}
    rows = {graph: await fleet.ended(run["run_id"]) for graph, run in runs.items()}
    said = {graph: (row["error"]["error"], row["error"].get("node")) for graph, row in rows.items()}
    assert said == FAILING
    logged = {
        getattr(record, "run_id", None): getattr(record, "node", None)
        for record in caplog.records
        if getattr(record, "event", None) == "run.failed"
    }
    assert logged == {str(run["run_id"]): FAILING[graph][1] for graph, run in runs.items()}
    # AND whoever looks at the thread sees the same; readers have the official object
    for graph, run in runs.items():
        last = (await process.read(run["run_id"]))[-1]
        official = {key: value for key, value in rows[graph]["error"].items() if key != "node"}
        assert (last.name, json.loads(last.data)) == ("error", official)
        assert (await fleet.thread(run["thread_id"]))["error"] == rows[graph]["error"]


async def test_a_run_that_cannot_begin_blames_no_node(fleet: Fleet, process: Process) -> None:
    run = (await process.admit("context_strict", {}, context={})).row
    assert "node" not in (await fleet.ended(run["run_id"]))["error"]
