"""A sandbox provider for DeerFlow's harness: its tools work in `slackwater.files.user_data()`, the folder of the run.

    sandbox:
      use: deerflow_sandbox:UserDataSandboxProvider

No isolation: commands run as this process does, in the folder of the run.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from slackwater.files import VIRTUAL, user_data

try:
    from deerflow.sandbox.sandbox import Sandbox  # type: ignore[import-not-found]
    from deerflow.sandbox.sandbox_provider import SandboxProvider  # type: ignore[import-not-found]
except ImportError:  # the same without it: nothing of theirs is used but the interface
    Sandbox = SandboxProvider = object

PREFIX = "slackwater:"
"""Not `local:`, for which the harness would map paths itself, to a folder that other processes do not have."""

COMMAND_SECONDS = 600
MAX_OUTPUT = 100_000


class OutsideTheSandbox(Exception):
    """Paths begin with /mnt/user-data, and stay below it."""


class UserDataSandboxProvider(SandboxProvider):  # type: ignore[misc, valid-type]
    """Gives each thread its folder. Nothing is kept here: any process can go on with a thread."""

    uses_thread_data_mounts = False

    def acquire(self, thread_id: str | None = None, **_: Any) -> str:
        return f"{PREFIX}{thread_id or 'run'}"

    def get(self, sandbox_id: str) -> UserDataSandbox | None:
        return UserDataSandbox(sandbox_id) if sandbox_id.startswith(PREFIX) else None

    def release(self, sandbox_id: str) -> None:
        """The folder goes with the attempt."""

    def reset(self) -> None: ...
    def shutdown(self) -> None: ...


class UserDataSandbox(Sandbox):  # type: ignore[misc, valid-type]
    """The folder of the run whose node or tool calls, as `/mnt/user-data`."""

    def __init__(self, id: str) -> None:
        self._id = id

    @property
    def id(self) -> str:
        return self._id

    def execute_command(self, command: str) -> str:
        """What the command says, in the folder `workspace`."""
        root = user_data()
        local = re.sub(rf"{re.escape(VIRTUAL)}(?![\w.-])", lambda _: str(root), command)
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", local],
                cwd=root / "workspace",
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"Error: the command has taken more than {COMMAND_SECONDS} s."
        said = done.stdout.decode(errors="replace")
        if done.stderr:
            said += f"\nStd Error:\n{done.stderr.decode(errors='replace')}"
        if done.returncode:
            said += f"\nExit Code: {done.returncode}"
        return said.replace(str(root), VIRTUAL)[:MAX_OUTPUT] or "(no output)"

    def read_file(self, path: str) -> str:
        return _local(path).read_text()

    def download_file(self, path: str) -> bytes:
        return _local(path).read_bytes()

    def write_file(self, path: str, content: str, append: bool = False) -> None:
        place = _local(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("a" if append else "w") as file:
            file.write(content)

    def update_file(self, path: str, content: bytes) -> None:
        place = _local(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)

    def list_dir(self, path: str, max_depth: int = 2) -> list[str]:
        """Paths below the folder; those of folders end with a slash."""
        return [f"{virtual}/" if place.is_dir() else virtual for virtual, place in _below(path, max_depth)]

    def glob(
        self, path: str, pattern: str, *, include_dirs: bool = False, max_results: int = 200
    ) -> tuple[list[str], bool]:
        """The paths that match, and whether there are more."""
        start = PurePosixPath(path)
        found = [
            virtual
            for virtual, place in _below(path)
            if (include_dirs or place.is_file())
            and _matches(PurePosixPath(virtual).relative_to(start).as_posix(), pattern)
        ]
        return found[:max_results], len(found) > max_results


def _local(path: str) -> Path:
    """Where it is on this disk. Raises OutsideTheSandbox, also for what a link leads out of the folder."""
    root = user_data().resolve()
    inside = path.removeprefix(VIRTUAL)
    if inside == path or (inside and not inside.startswith("/")):
        raise OutsideTheSandbox(f"{path}: {OutsideTheSandbox.__doc__}")
    place = (root / inside.lstrip("/")).resolve()
    if not place.is_relative_to(root):
        raise OutsideTheSandbox(f"{path}: {OutsideTheSandbox.__doc__}")
    return place


def _below(path: str, max_depth: int = 64) -> Iterator[tuple[str, Path]]:
    top = _local(path)
    for folder, folders, files in os.walk(top):
        here = Path(folder).relative_to(top)
        folders.sort()
        for name in sorted([*folders, *files]):
            yield str(PurePosixPath(path) / here / name), Path(folder) / name
        if len(here.parts) + 1 >= max_depth:
            folders.clear()


def _matches(path: str, pattern: str) -> bool:
    return fnmatch(path, pattern) or (pattern.startswith("**/") and fnmatch(path, pattern[3:]))
