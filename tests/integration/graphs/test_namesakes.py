"""Nothing of ours shadows the project's: one with packages of the same names is served, however the server is started."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import namesakes
from tests.support.command import run_command
from tests.support.server import ROOT, SHORT, ServerProcess, clean_environment, free_port

PROGRAMS = Path(sys.executable).parent
WAYS = (
    # Each command with the folder that it is started in. `elsewhere` has packages of the same names, too.
    ("slackwater serve --port {port}", "elsewhere"),
    ("python -m slackwater serve --port {port}", "project"),
    ("python -m slackwater serve --port {port}", "elsewhere"),
    ("uvicorn slackwater.main:app --port {port}", "project"),
    ("uvicorn slackwater.main:app --port {port}", "elsewhere"),
    ("slackwater lambda --port {port} --environments 1 --schedule-seconds 0", "elsewhere"),
)


@dataclass(frozen=True)
class Place:
    """A project, and whatever else is around it."""

    folder: Path
    database_uri: str
    project: Path = field(init=False)
    elsewhere: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "project", namesakes.project(self.folder / "project"))
        object.__setattr__(self, "elsewhere", namesakes.packages(self.folder / "elsewhere"))

    @asynccontextmanager
    async def served(self, words: str, folder: Path) -> AsyncIterator[ServerProcess]:
        """What a command serves, ready; the process ends with the context."""
        port = free_port()
        program, *arguments = shlex.split(words.format(port=port))
        server = self._launch([str(PROGRAMS / program), *arguments], folder, f"http://127.0.0.1:{port}")
        try:
            await server.until_ready()
            yield server
            server.sigterm()
            await server.wait()
        finally:
            server.process.kill()
            server.process.wait()

    def _launch(self, command: list[str], folder: Path, url: str) -> ServerProcess:
        settings = {"SLACKWATER_DATABASE_URI": self.database_uri, "SLACKWATER_PROJECT": str(self.project)}
        environment = {**clean_environment(), **SHORT, **settings}
        # The project is on the path, and behind somebody else.
        environment["PYTHONPATH"] += f"{os.pathsep}{self.elsewhere}{os.pathsep}{self.project}"
        out, err = self.folder / "out", self.folder / "err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            )
        return ServerProcess("server", process, out, err, url)


@pytest.fixture
def place(tmp_path: Path, database_uri: str) -> Place:
    return Place(tmp_path, database_uri)


@pytest.mark.parametrize(("words", "folder"), WAYS)
async def test_a_project_with_packages_of_the_same_names_is_served(
    place: Place, words: str, folder: str
) -> None:
    async with (
        place.served(words, getattr(place, folder)) as server,
        httpx.AsyncClient(base_url=server.url, timeout=30) as client,
    ):

        async def ask(method: str, path: str, body: object) -> Any:
            answer = await client.request(method, path, json=body)
            assert answer.status_code == 200, f"{answer.text}\n{server.tail()}"
            return answer.json()

        assert await namesakes.imported(ask) == namesakes.own(place.project, ROOT / "app")


def test_the_doctor_imports_it_too(place: Place) -> None:
    answer = run_command(
        *(place.elsewhere, "doctor", "--project", place.project, "--json"),
        SLACKWATER_DATABASE_URI=place.database_uri,
    )

    found = {finding["about"]: finding["level"] for finding in answer.json}
    assert (found["graphs"], found["http"]) == ("ok", "ok")
