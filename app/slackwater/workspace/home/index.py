"""What of an owner's folder is stored, written down beside it for the next process on this disk. All of it blocks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path

from slackwater.workspace.node_files.folder import Stamp, StoredFile


def write(place: Path, owner: str, kept: Mapping[str, StoredFile]) -> None:
    """The whole of it, or nothing."""
    new = place.with_suffix(".new")
    files = {path: astuple(file) for path, file in kept.items()}
    new.write_text(json.dumps({"owner": owner, "files": files}))
    new.replace(place)


def read(place: Path) -> tuple[str, dict[str, StoredFile]]:
    """Whose it is, and the files by path. Raises ValueError for what a machine that crashed has left of it."""
    content = json.loads(place.read_text())
    files = content["files"].items()
    return content["owner"], {
        path: StoredFile(blob, size, sha256, Stamp(*stamp)) for path, (blob, size, sha256, stamp) in files
    }
