"""A project with top-level packages that are called as folders of this repository are."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

NAMES = ("app", "bench", "handler", "scripts", "tests")
WITHOUT_INIT = "scripts"

TOOLS = """
import importlib

NAMES = {names}

def found():
    \"\"\"The file of each package's module, imported now.\"\"\"
    return {{name: importlib.import_module(f"{{name}}.tools").__file__ for name in NAMES}}
"""

GRAPH = """
from typing import TypedDict

from langgraph.graph import START, StateGraph

import bench.tools, handler.tools, scripts.tools, tests.tools
from app.tools import found

class State(TypedDict, total=False):
    found: dict

def look(state):
    from slackwater import __file__ as ours

    return {"found": {**found(), "slackwater": ours}}

graph = StateGraph(State).add_node("look", look).add_edge(START, "look").compile()
"""

WEB = """
from fastapi import FastAPI

from app.tools import found

app = FastAPI()

@app.get("/found")
def look() -> dict[str, str]:
    from slackwater import __file__ as ours

    return {**found(), "slackwater": ours}
"""

Ask = Callable[[str, str, object], Awaitable[Any]]
"""Sends a request, `ask("POST", "/runs/wait", {…})`; the JSON of its answer."""


def packages(folder: Path) -> Path:
    """Write the packages into `folder`: somebody's, with whom a server may be started."""
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "tools.py").write_text(TOOLS.format(names=NAMES))
        if name != WITHOUT_INIT:
            (folder / name / "__init__.py").touch()
    return folder


def project(folder: Path) -> Path:
    """Write a project of them into `folder`: a graph that is named as a module and as a file, and an application."""
    packages(folder)
    (folder / "app" / "graph.py").write_text(GRAPH)
    (folder / "app" / "web.py").write_text(WEB)
    graphs = {"module": "app.graph:graph", "file": "./app/graph.py:graph"}
    content = {"dependencies": ["."], "graphs": graphs, "http": {"app": "./app/web.py:app"}}
    (folder / "langgraph.json").write_text(json.dumps(content))
    return folder


async def imported(ask: Ask) -> list[dict[str, str]]:
    """What the nodes of both graphs and the application have imported: the file of each package, and of `slackwater`."""
    runs = [
        await ask("POST", "/runs/wait", {"assistant_id": name, "input": {}}) for name in ("module", "file")
    ]
    return [*(run["found"] for run in runs), await ask("GET", "/found", None)]


def own(project: Path, slackwater: Path) -> list[dict[str, str]]:
    """What `imported` has to be: everything is the project's, but for `slackwater`, which is in the folder of that name."""
    files = {name: str(project / name / "tools.py") for name in NAMES}
    return [{**files, "slackwater": str(slackwater / "slackwater" / "__init__.py")}] * 3
