"""The command line as its users have it: a process of its own, with nothing but what the test gives it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.forkserver import fork_server

SLACKWATER = Path(sys.executable).with_name("slackwater")
COMMAND_SECONDS = 120


@dataclass(frozen=True)
class Answer:
    """What a command has left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, of a command that has done what it was asked for."""
        assert self.code == 0, self
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        """The one line on stderr of a command that failed."""
        assert "Traceback" not in self.err
        assert self.err.startswith("slackwater: ")
        assert self.err.count("\n") == 1
        return self.err.removeprefix("slackwater: ").strip()


def settings_only(folder: Path, **settings: str) -> dict[str, str]:
    """An environment with these settings, and none of ours but where the tree is that is tested."""
    tree = {name: value for name, value in os.environ.items() if name == "PYTHONPATH"}
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "LANGSMITH_TRACING": "false", **tree, **settings}


def run_command(folder: Path, *arguments: object, **settings: str) -> Answer:
    """Run `slackwater ARGUMENTS` in a folder, with these settings only."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = fork_server().fork(
            [str(argument) for argument in arguments],
            cwd=folder,
            env=settings_only(folder, **settings),
            stdout=out.fileno(),
            stderr=err.fileno(),
        )
        try:
            code = process.wait(COMMAND_SECONDS)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return Answer(code, out.read(), err.read())
