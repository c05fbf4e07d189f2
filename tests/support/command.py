"""The command line as its users have it: a process of its own, with nothing but what the test gives it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    done = subprocess.run(
        [SLACKWATER, *map(str, arguments)],
        cwd=folder,
        env=settings_only(folder, **settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
    )
    return Answer(done.returncode, done.stdout, done.stderr)
