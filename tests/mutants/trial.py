"""A copy of the tree, in which one thing at a time is made wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEST_SECONDS = 180
"""How long the tests of one file may take."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change that makes the code wrong, and the tests that have to fail then."""

    name: str
    file: str
    old: str
    """Stands in the file once."""
    new: str
    tests: tuple[str, ...]


class Verdict(Enum):
    """What has become of a mutant."""

    NOTICED = "noticed"
    """A test failed, or never ended."""
    SURVIVED = "SURVIVED"
    STALE = "STALE"
    """What it changes is not there any more: the table has to follow the code."""


class Tree:
    """A temporary copy of the files that git knows."""

    def __enter__(self) -> Tree:
        self._folder = tempfile.TemporaryDirectory(prefix="mutants-")
        self.root = Path(self._folder.name) / "tree"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def try_out(self, mutant: Mutant) -> tuple[Verdict, str]:
        """What the mutant's tests say of it, and which of them."""
        file = self.root / mutant.file
        sound = file.read_text() if file.is_file() else ""
        if sound.count(mutant.old) != 1:
            return Verdict.STALE, f"found {sound.count(mutant.old)} times"
        file.write_text(sound.replace(mutant.old, mutant.new))
        try:
            noticed = self.run(mutant.tests)
        finally:
            file.write_text(sound)
        return (Verdict.SURVIVED, "") if noticed is None else (Verdict.NOTICED, noticed)

    def run(self, tests: Sequence[str]) -> str | None:
        """The first test that fails; None: none does."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "--no-header",
            "-p",
            "no:cacheprovider",
            *tests,
        ]
        seconds = TEST_SECONDS * len(tests)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(self.root / name) for name in ("", "app", "handler")),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        try:
            done = subprocess.run(
                command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return f"not over after {seconds} s"
        if done.returncode == 0:
            return None
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return (
            failed[0].split(" - ")[0] if failed else f"exit {done.returncode}: {done.stderr[-300:].strip()}"
        )
