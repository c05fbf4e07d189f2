"""The official server comes from a package registry. Where that cannot be reached, a sentence says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.server import ROOT


def test_what_cannot_be_installed_is_a_sentence_and_leaves_nothing_that_passes_for_it(tmp_path: Path) -> None:
    # GIVEN a checkout in which nothing was installed, and no registry
    scripts = [f"scripts/{name}.py" for name in ("peer", "bootstrap", "lock")]
    for name in (*scripts, "pyproject.toml", "uv.lock", "tests/differential/requirements.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "COVERAGE_"))}
    # WHEN the official server is asked for
    done = subprocess.run(
        [sys.executable, str(tmp_path / "scripts" / "peer.py")],
        env={**env, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
        timeout=120,
    )
    # THEN
    assert done.returncode == 1
    assert "is there a network?" in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / ".test" / "peer" / "slackwater.stamp").exists()
