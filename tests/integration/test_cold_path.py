"""What is not needed is not imported, and what is imported late works as if it had been there all along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import SOURCES

SCRIPT = Path(__file__).with_name("cold_path.py")

GRAPHS = """
from typing import TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict, total=False):
    text: str

async def node(state):
    return {"text": state["text"] + "b"}

flow = StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="Flow")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "graphs.py").write_text(GRAPHS)
    (tmp_path / "broken.py").write_text("raise ValueError('key=hunter2')")
    graphs = {"flow": "./graphs.py:flow", "broken": "./broken.py:graph"}
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": graphs}))
    return tmp_path


def live(project: Path, database_uri: str) -> tuple[dict[str, Any], str]:
    """What an execution environment says of its life, and its log."""
    environment = {
        **os.environ,
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9",
        "SLACKWATER_DATABASE_URI": database_uri,
        "SLACKWATER_PROJECT": str(project),
        "PYTHONPATH": os.pathsep.join(map(str, SOURCES)),
    }
    done = subprocess.run(
        [sys.executable, SCRIPT], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told, done.stderr


def test_fastapi_builds_its_models_before_anything_large_is_imported() -> None:
    code = "import sys, slackwater_lambda.signals, slackwater.errors, slackwater.main; print(*sys.modules)"
    environment = {
        **os.environ,
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9",
        "PYTHONPATH": os.pathsep.join(map(str, SOURCES)),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    order = done.stdout.split()
    assert order.index("fastapi.openapi.models") < order.index("psycopg")


def test_on_lambda_nothing_heavy_is_imported_before_a_graph_is_needed(
    project: Path, database_uri: str
) -> None:
    told, log = live(project, database_uri)

    # THEN neither the start nor any request that needs no graph has imported any of it
    *cold, (last, warm) = told["seen"].items()
    assert {step: names for step, names in cold if names} == {}
    assert [step.rpartition(" ")[2] for step, _ in cold if " /" in step] == [
        *["200"] * 5, "404", "200", "200", "404", "404", "404", "200", "200", "200"
    ]  # fmt: skip
    assert [step for step, _ in cold if step.startswith("GET thread")] == [
        f"GET thread{path} 200" for path in ("", "/runs", "/state", "/history")
    ]
    assert cold[-1][0] == "POST run 200"
    # and the first claim of a run has
    assert last == "runs"
    assert {"langgraph", "slackwater.runtime.execution.loaded"} <= set(warm)
    assert told["worked"] == told["told"]["flow"] == {"text": "ab"}
    # and the assistant of a graph gets the graph's name with its import
    assert told["names"] == ["flow", "Flow"]
    # and a graph that does not import fails what needs it, and says why in the log only
    sentence = "Graph 'broken' cannot be imported: the server's log says why."
    assert told["told"]["broken"] == {"__error__": {"error": "GraphBroken", "message": sentence}}
    assert told["refused"] == [424, {"detail": sentence}]
    assert "hunter2" in log

    # WHEN the environment is not the first one, THEN the name that is known stays
    assert live(project, database_uri)[0]["names"] == ["Flow", "Flow"]
