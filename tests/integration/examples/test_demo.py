"""The demo, whole: a SIGTERM in the middle of a run, another process, and one client that notices nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import namesakes
from support.server import ROOT

pytestmark = pytest.mark.drill

BOUND_SECONDS = 150
TEXT = "The tide turns every six hours, and the harbour knows it. " * 3

DEMO = f"""
import runpy, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "scripts")!r})
import bootstrap
bootstrap.environment = lambda folder: Path(sys.executable)
runpy.run_path({str(ROOT / "examples" / "demo.py")!r}, run_name="__main__")
"""
"""`python3 examples/demo.py` with this environment in place of one that it would make, which takes a minute."""


def demo(*arguments: str, folder: Path | None = None, **settings: str) -> subprocess.Popen[str]:
    """The demo, started in `folder`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLACKWATER_")}
    return subprocess.Popen(
        [sys.executable, "-c", DEMO, *arguments],
        cwd=folder,
        env={**environment, "LANGSMITH_TRACING": "false", **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_demo_shows_a_run_that_goes_on_in_another_process(tmp_path: Path) -> None:
    # GIVEN some texts, in a folder that has packages and modules of the names that the demo imports
    caller = namesakes.packages(tmp_path / "caller")
    for name in ("digest", "handover", "slackwater"):
        (caller / f"{name}.py").write_text("raise ImportError('not of the demo')\n")
    (caller / "texts").mkdir()
    for number in range(3):
        (caller / "texts" / f"{number}.txt").write_text(
            f"Text {number}. {TEXT} Nobody can leave in the middle of it."
        )

    # WHEN the demo is started there
    process = demo("--input", "texts", folder=caller)
    out, err = process.communicate(timeout=BOUND_SECONDS)

    # THEN it is the demo
    assert process.returncode == 0, out + err
    assert "SIGTERM to A, in the middle of superstep 3" in out
    assert re.search(r"The client's stream goes on: event 2-1 follows event 1-\d+", out)
    assert "7 supersteps with 15 tasks: each ran exactly once" in out
    assert '"outcome": "drained", "handed_over": true' in out
    assert out.count("✔") == 6
    assert "✘" not in out


def test_what_cannot_be_shown_is_said_and_is_no_success(tmp_path: Path) -> None:
    for name, sentence in (("empty", "There are no texts to read"), ("short", "give it more to read")):
        (tmp_path / name).mkdir()
        if name == "short":
            (tmp_path / name / "a.txt").write_text("Short.")

        process = demo("--input", str(tmp_path / name), DIGEST_WORDS_PER_SECOND="0")
        out, err = process.communicate(timeout=BOUND_SECONDS)

        assert process.returncode == 1, out + err
        assert sentence in err
        assert "Traceback" not in err


def test_a_demo_that_is_interrupted_leaves_no_process_behind() -> None:
    process = demo()
    assert process.stdout is not None
    shown = ""
    while "superstep 2" not in shown and (line := process.stdout.readline()):
        shown += line
    (pid,) = re.findall(r"pid (\d+) serves", shown)
    os.kill(int(pid), 0)

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=BOUND_SECONDS)

    assert process.returncode == 130
    assert "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
