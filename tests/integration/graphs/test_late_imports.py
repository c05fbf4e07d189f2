"""Graphs that are imported when they are first opened, as on Lambda."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slackwater.errors import GraphBroken, SettingsError
from slackwater.graphs.registry import Graphs
from slackwater.kit.imports import run_in_import_thread

GRAPH = """
import time
from typing import TypedDict
from langgraph.graph import START, StateGraph
import diary

diary.lines.append(__file__)
time.sleep(0.2)

class State(TypedDict, total=False):
    text: str

async def node(state):
    return {}

graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="Slow")
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Graphs]]:
    """Loads, late, a project that has these files and graphs."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "diary", raising=False)

    def load(files: dict[str, str], **graphs: str) -> Graphs:
        for name, text in {"diary.py": "lines = []", **files}.items():
            (tmp_path / name).write_text(text)
        (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": graphs}))
        return Graphs.load(tmp_path, lazy=True)

    yield load
    # An import that nobody waits for any more goes on, and would write into the next test's diary.
    asyncio.run(run_in_import_thread(lambda: None))


def lines() -> list[str]:
    return [Path(line).name for line in sys.modules["diary"].lines]


async def opened(graphs: Graphs, graph_id: str) -> Any:
    async with graphs.open(
        graph_id, owner="alice", config={}, access="threads.read", checkpointer=None, store=None
    ) as graph:
        return graph


async def test_many_who_want_a_graph_wait_for_one_import_of_it_and_the_loop_goes_on(
    load: Callable[..., Graphs],
) -> None:
    # GIVEN an import that takes until it is told, from the loop, to end
    files = {"diary.py": "import threading\nlines, go = [], threading.Event()", "other.py": GRAPH}
    files["slow.py"] = GRAPH.replace("time.sleep(0.2)", "assert diary.go.wait(10)")
    graphs = load(files, slow="./slow.py:graph", other="./other.py:graph")
    told: list[str] = []

    async def on_import(graph_id: str) -> None:
        told.append(graph_id)

    graphs.on_import = on_import
    assert "diary" not in sys.modules
    assert (graphs.ids, graphs.name("slow")) == (("slow", "other"), None)

    # WHEN
    async def tell() -> None:
        while not getattr(sys.modules.get("diary"), "lines", None):
            await asyncio.sleep(0.01)
        sys.modules["diary"].go.set()

    *found, _ = await asyncio.gather(*(opened(graphs, "slow") for _ in range(5)), tell())

    # THEN
    assert lines() == ["slow.py"]
    assert told == ["slow"]
    assert {graph.name for graph in found} == {"Slow"}
    assert (graphs.name("slow"), graphs.name("other")) == ("Slow", None)
    # and again it is there
    await opened(graphs, "slow")
    assert lines() == ["slow.py"]


async def test_who_does_not_wait_any_longer_leaves_the_import_to_the_others(
    load: Callable[..., Graphs],
) -> None:
    graphs = load({"slow.py": GRAPH}, slow="./slow.py:graph")
    impatient, patient = (asyncio.create_task(opened(graphs, "slow")) for _ in range(2))
    await asyncio.sleep(0.05)

    impatient.cancel()

    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert (await patient).name == "Slow"


async def test_a_graph_that_does_not_import_is_tried_again_by_the_next_one_who_wants_it(
    load: Callable[..., Graphs], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graphs = load({"slow.py": "raise ValueError('key=hunter2')"}, slow="./slow.py:graph")

    for outcome in await asyncio.gather(*(opened(graphs, "slow") for _ in range(3)), return_exceptions=True):
        assert isinstance(outcome, GraphBroken)
        assert "hunter2" not in outcome.message

    (record,) = [r for r in caplog.records if getattr(r, "event", None) == "graph.import_failed"]
    assert record.levelno == logging.ERROR
    assert "ValueError: key=hunter2" in record.getMessage()
    (tmp_path / "slow.py").write_text(GRAPH)
    assert (await opened(graphs, "slow")).name == "Slow"


async def test_what_comes_after_an_import_cannot_spoil_it(
    load: Callable[..., Graphs], caplog: pytest.LogCaptureFixture
) -> None:
    graphs = load({"slow.py": GRAPH}, slow="./slow.py:graph")

    async def on_import(_: str) -> None:
        raise RuntimeError("no database")

    graphs.on_import = on_import
    assert (await opened(graphs, "slow")).name == "Slow"
    assert "no database" in caplog.text


async def test_imports_that_nobody_waits_for_end_with_the_process(load: Callable[..., Graphs]) -> None:
    graphs = load({"slow.py": GRAPH}, slow="./slow.py:graph")
    waiting = asyncio.create_task(opened(graphs, "slow"))
    await asyncio.sleep(0.05)

    await graphs.close(1)

    with pytest.raises(asyncio.CancelledError):
        await waiting
    await graphs.close(1)  # of nothing


async def test_who_has_the_time_imports_what_can_be_imported(
    load: Callable[..., Graphs], caplog: pytest.LogCaptureFixture
) -> None:
    graphs = load({"slow.py": GRAPH, "bad.py": "1 / 0"}, bad="./bad.py:graph", slow="./slow.py:graph")

    await graphs.warm()
    await graphs.warm()

    assert lines() == ["slow.py"]
    assert (graphs.name("bad"), graphs.name("slow")) == (None, "Slow")
    assert "ZeroDivisionError" in caplog.text


def test_a_project_that_makes_no_sense_is_refused_at_once(load: Callable[..., Graphs]) -> None:
    with pytest.raises(SettingsError, match="slow"):
        load({}, slow="./slow.py")
