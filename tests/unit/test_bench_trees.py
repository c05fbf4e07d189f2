"""A benchmark that compares source trees runs the code of each."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.lab import AGAINST, THIS, Tree, clean_environment

MODULES = {
    "today's names": ("app/slackwater/__init__.py", "app/slackwater/__main__.py"),
    "the names before": ("app/__init__.py", "app/cli/__init__.py", "app/cli/__main__.py"),
}


@pytest.mark.parametrize("names", MODULES)
def test_the_command_of_another_tree_is_its_own(tmp_path: Path, names: str) -> None:
    for module in MODULES[names]:
        path = tmp_path / module
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import sys\nprint(__file__, *sys.argv[1:])\n" if path.stem == "__main__" else "")
    other = Tree(AGAINST, tmp_path)

    # WHEN it is started from where this tree's modules are found
    done = subprocess.run(
        other.command("serve"),
        cwd=other.root,
        env=clean_environment() | THIS.environment | other.environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == [str(tmp_path / MODULES[names][-1]), "serve"]
