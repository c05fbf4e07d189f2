"""A project with top-level packages that are called as folders of this repository are."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.server import SHORT, ServerProcess, clean_environment, free_port

PROGRAMS = Path(sys.executable).parent
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


@dataclass(frozen=True)
class Place:
    """A project, and somebody's folder beside it that has packages of the same names, too."""

    folder: Path
    database_uri: str
    project: Path = field(init=False)
    elsewhere: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "project", project(self.folder / "project"))
        object.__setattr__(self, "elsewhere", packages(self.folder / "elsewhere"))

    async def served(
        self, words: str, folder: Path, *, programs: Path = PROGRAMS, sources: bool = True
    ) -> list[dict[str, str]]:
        """What is `imported` where the command `words`, of `programs`, serves the project, started in `folder`.

        Without `sources` the command has only what is installed for it.
        """
        async with (
            self._server(words, folder, programs, sources) as server,
            httpx.AsyncClient(base_url=server.url, timeout=30) as client,
        ):

            async def ask(method: str, path: str, body: object) -> Any:
                answer = await client.request(method, path, json=body)
                assert answer.status_code == 200, f"{answer.text}\n{server.tail()}"
                return answer.json()

            return await imported(ask)

    @asynccontextmanager
    async def _server(
        self, words: str, folder: Path, programs: Path, sources: bool
    ) -> AsyncIterator[ServerProcess]:
        port = free_port()
        program, *arguments = shlex.split(words.format(port=port))
        command = [str(programs / program), *arguments]
        server = self._launch(command, folder, sources, f"http://127.0.0.1:{port}")
        try:
            await server.until_ready()
            yield server
            server.sigterm()
            await server.wait()
        finally:
            server.process.kill()
            server.process.wait()

    def _launch(self, command: list[str], folder: Path, sources: bool, url: str) -> ServerProcess:
        environment = {
            **clean_environment(),
            **SHORT,
            "SLACKWATER_DATABASE_URI": self.database_uri,
            "SLACKWATER_PROJECT": str(self.project),
        }
        # The project is on the path, and behind somebody else.
        path = [environment["PYTHONPATH"]] if sources else []
        environment["PYTHONPATH"] = os.pathsep.join([*path, str(self.elsewhere), str(self.project)])
        out, err = self.folder / "out", self.folder / "err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            )
        return ServerProcess("server", process, out, err, url)
