"""uv.lock in pip's words: what is needed, in its locked version, with the hashes of its files.

uv exports the same, but whoever sets this repository up or builds it need not have uv.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parent.parent / "uv.lock"

Conjunction = frozenset[str]
"""Markers that all have to hold; none at all holds always."""
Package = Mapping[str, Any]


class NotLocked(LookupError):
    """uv.lock does not have the package: run `uv lock`."""


@dataclass(frozen=True)
class Wanted:
    """A package, and an extra of it."""

    name: str
    version: str
    extra: str = ""


def hashed(requirements: Iterable[str]) -> list[str]:
    """The requirements and all that they need, as lines for `pip install --require-hashes --no-deps -r`. Raises NotLocked.

    Each has the markers under which something needs it, so that one list serves every Python and platform.
    """
    by_name: dict[str, list[Package]] = {}
    for package in _packages():
        by_name.setdefault(package["name"], []).append(package)
    conditions: dict[Wanted, set[Conjunction]] = {}
    todo = [
        (wanted, condition)
        for text in requirements
        for wanted, condition in _wanted(_edge(text), frozenset(), by_name)
    ]
    while todo:
        wanted, condition = todo.pop()
        if not _admit(conditions.setdefault(wanted, set()), condition):
            continue
        (package,) = (each for each in by_name[wanted.name] if each["version"] == wanted.version)
        edges = (
            package.get("optional-dependencies", {}).get(wanted.extra, [])
            if wanted.extra
            else package.get("dependencies", [])
        )
        for edge in edges:
            todo += _wanted(edge, condition, by_name)
    together: dict[tuple[str, str], set[Conjunction]] = {}
    for wanted, found in conditions.items():
        for condition in found:
            _admit(together.setdefault((wanted.name, wanted.version), set()), condition)
    return [
        _line(package, together[package["name"], package["version"]])
        for package in _packages()
        if (package["name"], package["version"]) in together
    ]


def normal(name: str) -> str:
    """The name of a package as the lock writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _packages() -> list[Package]:
    return _packages_of(FILE.read_text())


@lru_cache(maxsize=1)
def _packages_of(locked: str) -> list[Package]:
    import tomllib  # not in a Python that is too old, which bootstrap.py refuses with a sentence

    return [each for each in tomllib.loads(locked)["package"] if "registry" in each["source"]]


def _edge(text: str) -> dict[str, Any]:
    """A requirement as the lock writes an edge."""
    requirement, _, marker = text.partition(";")
    match = re.match(r"\s*([\w.-]+)\s*(?:\[([^\]]*)\])?", requirement)
    assert match is not None
    extras = [extra.strip() for extra in (match[2] or "").split(",") if extra.strip()]
    return {"name": normal(match[1]), "extra": extras, **({"marker": marker.strip()} if marker else {})}


def _wanted(
    edge: Mapping[str, Any], condition: Conjunction, by_name: Mapping[str, list[Package]]
) -> Iterator[tuple[Wanted, Conjunction]]:
    name = edge["name"]
    versions = [edge["version"]] if "version" in edge else [each["version"] for each in by_name.get(name, ())]
    if len(versions) != 1:
        raise NotLocked(f"{name}: {NotLocked.__doc__}")
    if "marker" in edge:
        condition |= {edge["marker"]}
    for extra in ("", *edge.get("extra", ())):
        yield Wanted(name, versions[0], extra), condition


def _admit(found: set[Conjunction], condition: Conjunction) -> bool:
    """Add a condition unless a weaker one is there already; drop those that it makes unnecessary."""
    if any(weaker <= condition for weaker in found):
        return False
    found -= {stronger for stronger in found if condition <= stronger}
    found.add(condition)
    return True


def _line(package: Package, conditions: set[Conjunction]) -> str:
    files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else [])]
    hashes = " ".join(f"--hash={file['hash']}" for file in files)
    marker = " or ".join(
        sorted(" and ".join(f"({part})" for part in sorted(condition)) for condition in conditions)
    )
    return f"{package['name']}=={package['version']}{f' ; {marker}' if marker else ''} {hashes}"
