"""What files may be called, and what they are called in paths that a model, a page and a tool see."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from urllib.parse import quote
from uuid import UUID

from slackwater.errors import BadRequest, Forbidden
from slackwater.kit.printable import printable

ROOT = "/mnt/user-data"
"""What the folder of a thread is called, wherever it is."""

UPLOADS = "uploads/"

LONGEST = 255
"""Bytes that file systems take for a name."""
LONGEST_SUFFIX = 50
"""Bytes; what is longer is none, and may be shortened."""


class NotBelowUserData(BadRequest):
    """The path must begin with /mnt/user-data."""


class PathTraversal(Forbidden):
    """Access denied: path traversal detected"""


class InvalidName(BadRequest):
    """Invalid path: the name of a file has no slashes, is not empty, and has at most 255 bytes."""


def name_of(raw: str) -> str | None:
    """The name that an upload gets; None if it can have none, and is left out."""
    name = raw.rpartition("/")[2].strip()
    if name in ("", ".", "..") or "\\" in name or printable(name) != name:
        return None
    return name if len(name.encode("utf-8", "surrogatepass")) <= LONGEST and _is_text(name) else None


def require_name(raw: str) -> str:
    """The name of a file that is there, as a path has it. Raises InvalidName."""
    if name_of(raw) != raw:
        raise InvalidName
    return raw


def unique(name: str, taken: Collection[str]) -> str:
    """The name, or `a_1.txt`, `a_2.txt` … for `a.txt`, if it is taken."""
    if name not in taken:
        return name
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    if len(suffix.encode()) > LONGEST_SUFFIX:
        stem, suffix = name, ""
    for number in range(1, len(taken) + 2):
        end = f"_{number}{suffix}"
        short = stem
        while len(f"{short}{end}".encode()) > LONGEST and short:
            short = short[:-1]
        if (found := f"{short}{end}") not in taken:
            return found
    raise AssertionError("one of so many is free")


def path_of(virtual: str) -> str:
    """`outputs/a.html` for `mnt/user-data/outputs/a.html`. Raises NotBelowUserData and PathTraversal."""
    parts = virtual.strip("/").split("/")
    if ".." in parts:
        raise PathTraversal
    if parts[:2] != ROOT.strip("/").split("/") or not _is_text(virtual):
        raise NotBelowUserData
    return "/".join(part for part in parts[2:] if part not in ("", "."))


def virtual_path(path: str) -> str:
    return f"{ROOT}/{path}"


def artifact_url(thread_id: UUID, path: str) -> str:
    """Where a file is read."""
    return f"/api/threads/{thread_id}/artifacts{ROOT}/{quote(path)}"


def suffix_of(name: str) -> str:
    """`.txt`; empty if there is none."""
    return PurePosixPath(name).suffix


def markdown_name(name: str) -> str:
    """What the same document is called as Markdown."""
    return f"{PurePosixPath(name).stem}.md"


def directly_in_uploads(paths: Iterable[str]) -> list[str]:
    """Those that are no deeper."""
    return [path for path in paths if "/" not in path.removeprefix(UPLOADS)]


def _is_text(name: str) -> bool:
    """Whether Postgres can store it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name
