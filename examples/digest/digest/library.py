"""The texts that a run may read: files below one folder, which the operator chooses and no input can leave."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = frozenset({".md", ".markdown", ".org", ".rst", ".txt"})
MAX_BYTES = 100_000
"""Of a longer text only the beginning is read."""


class NotInLibrary(ValueError):
    """There is no such text. Says the same of a file that exists elsewhere: that it exists is nobody's business."""


class Library:
    """The texts below `root`, named by their path inside it. The methods block."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def names(self, folder: str) -> Iterator[str]:
        """The names of all texts below `folder`, in order. Raises NotInLibrary."""
        start = self._inside(folder)
        if not start.is_dir():
            raise NotInLibrary(f"There is no folder {folder!r} in the library.")
        for parent, folders, files in os.walk(start):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for file in sorted(files):
                path = Path(parent, file)
                # A link may lead anywhere: what counts is where it ends.
                if path.suffix.lower() in SUFFIXES and path.is_file() and self._holds(path.resolve()):
                    yield path.relative_to(self._root).as_posix()

    def read(self, name: str) -> str:
        """The text called `name`. Raises NotInLibrary."""
        path = self._inside(name)
        if not path.is_file():
            raise NotInLibrary(f"There is no text {name!r} in the library.")
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode("utf-8", errors="replace")

    def _inside(self, name: str) -> Path:
        try:
            path = (self._root / name).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):  # absent; a loop of links; a NUL character
            path = None
        if path is None or not self._holds(path):
            raise NotInLibrary(f"There is no {name!r} in the library.")
        return path

    def _holds(self, path: Path) -> bool:
        return path.is_relative_to(self._root)
