"""A skill as an archive: a ZIP file with SKILL.md, and files beside it, which is read without believing what it says of itself."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from slackwater.errors import BadRequest
from slackwater.workspace.files.archive import METHODS, MemberTooLarge, opened
from slackwater.workspace.skills.document import DOCUMENT_BYTES, FILE, FILE_BYTES

MEBIBYTE = 1024 * 1024
MOST_FILES = 200
PACKAGE_BYTES = 8 * MEBIBYTE
"""Unpacked."""
PATH_BYTES = 512

_LEFT_OUT = ("__MACOSX",)


class InvalidPackage(BadRequest):
    """The file is no ZIP archive, or a damaged one: pack the folder of the skill again."""


@dataclass(frozen=True, slots=True)
class Package:
    """What an archive has."""

    content: str
    """SKILL.md"""
    files: dict[str, bytes]
    """The others, by their paths below the folder of the skill."""


def read_package(file: IO[bytes]) -> Package:
    """Raises InvalidPackage."""
    try:
        with opened(file) as archive:
            return _read(archive)
    except InvalidPackage:
        raise
    except MemberTooLarge:
        raise _too_large() from None
    except Exception:  # broken archives make `zipfile` raise anything
        raise InvalidPackage from None


def _read(archive: zipfile.ZipFile) -> Package:
    members = {}
    for info in archive.infolist():
        if info.is_dir() or _is_link(info):
            continue
        _require_safe(info.filename)
        if _is_left_out(info.filename):
            continue
        if info.filename in members:
            raise InvalidPackage(f"The archive has {info.filename} twice.")
        members[info.filename] = info
    folder = _folder_of(members)
    paths = {name.removeprefix(folder): info for name, info in members.items()}
    _require_whole(paths)
    if sum(info.file_size for info in paths.values()) > PACKAGE_BYTES:
        raise _too_large()
    # Each is read up to its bound and no further, whatever size the archive says it has.
    text = _content(archive, paths.pop(FILE), DOCUMENT_BYTES)
    contents, left = {}, PACKAGE_BYTES
    for path, info in paths.items():
        contents[path] = _content(archive, info, min(FILE_BYTES, left))
        left -= len(contents[path])
    try:
        return Package(text.decode(), contents)
    except UnicodeDecodeError:
        raise InvalidPackage(f"{FILE} is not UTF-8.") from None


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    if info.compress_type not in METHODS:
        raise InvalidPackage(f"{info.filename} is compressed in a way that is not understood: use deflate.")
    with archive.open(info) as member:
        content = member.read(most + 1)
    if len(content) > most:
        raise _too_large()
    return content


def _too_large() -> InvalidPackage:
    return InvalidPackage(
        f"The archive is too large: a skill may have {PACKAGE_BYTES // MEBIBYTE} MiB unpacked, {MOST_FILES} files of at most "
        f"{FILE_BYTES // MEBIBYTE} MiB, and {DOCUMENT_BYTES // 1024} KiB in {FILE}."
    )


def _is_link(info: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(info.external_attr >> 16)


def _is_left_out(name: str) -> bool:
    """What desktops add."""
    return (name.startswith(".") and "/" not in name) or name.partition("/")[0] in _LEFT_OUT


def _require_safe(name: str) -> None:
    """Raises InvalidPackage for what would lead out of a folder, and what no file system takes."""
    parts = name.split("/")
    if "\\" in name or ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
        raise InvalidPackage(f"The archive has an unsafe path: {name[:200]!a}.")
    if not name.isprintable() or len(name.encode("utf-8", "replace")) > PATH_BYTES:
        raise InvalidPackage(
            f"The archive has a path with too many or unprintable characters: {name[:200]!a}."
        )


def _folder_of(names: Iterable[str]) -> str:
    """The folder of the skill in the archive, with a slash: none, or the only one."""
    tops = {name.partition("/")[0] if "/" in name else "" for name in names}
    only = f"{tops.pop()}/" if len(tops) == 1 else ""
    return "" if only == "/" else only


def _require_whole(paths: Iterable[str]) -> None:
    """Raises InvalidPackage, unless the files are those of one skill."""
    names = set(paths)
    if FILE not in names:
        raise InvalidPackage(f"The archive has no {FILE}, at its top or in its only folder.")
    if nested := next(
        (name for name in names if "/" in name and name.rpartition("/")[2].lower() == FILE.lower()), None
    ):
        raise InvalidPackage(f"The archive has another {FILE} inside: {nested}. Install one skill at a time.")
    if len(names) > MOST_FILES:
        raise _too_large()
    folders = {str(folder) for name in names for folder in PurePosixPath(name).parents}
    if both := next(iter(names & folders), None):
        raise InvalidPackage(f"The archive has {both} both as a file and as a folder.")
