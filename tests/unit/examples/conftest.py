"""What is under examples/ and scripts/ is not installed: its folders go to the end of the path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
sys.path += [str(ROOT / folder) for folder in ("examples", "examples/digest", "scripts")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A library with two texts, two levels deep."""
    folder = tmp_path / "library"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.md").write_text(
        "# Boats\n\nA boat floats on water. A boat that leaks sinks in water. Nobody knows."
    )
    (folder / "deep" / "a.txt").write_text("In 1911 the harbour froze. The harbour was closed for 40 days.")
    return folder


@pytest.fixture
def digest(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """The module `digest.graph`, with a library, an output folder and a fast model of the test's own."""
    from digest import graph
    from digest.library import Library
    from digest.model import SkimmingModel
    from digest.settings import Settings

    settings = Settings(root=folder, out=tmp_path / "out", model=None, words_per_second=0)
    monkeypatch.setattr(graph, "settings", settings)
    monkeypatch.setattr(graph, "library", Library(folder))
    monkeypatch.setattr(graph, "model", SkimmingModel(words_per_second=0))
    return graph
