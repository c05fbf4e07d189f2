"""Installs the official server, to compare ours with, in its own environment `.test/peer`; it is never a dependency.

python3 scripts/peer.py makes it if it is missing or if its pinned versions have changed, and prints where its programs
are. Several processes may ask at once; one makes it, the others wait.
"""

from __future__ import annotations

import fcntl
import shutil
import sys

from bootstrap import ROOT, _create, _fail, _quiet

FOLDER = ROOT / ".test" / "peer"
REQUIREMENTS = ROOT / "tests" / "differential" / "requirements.txt"
"""Every package that it needs, pinned: pip has nothing to resolve, and installs in half the time."""


def main() -> None:
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with FOLDER.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        provide()
    print(FOLDER / "bin")


def provide() -> None:
    """Create the environment. Exits with a message if that fails."""
    stamp, wanted = FOLDER / "slackwater.stamp", "\n".join([sys.version, REQUIREMENTS.read_text()])
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    log = FOLDER.with_suffix(".log")
    log.write_text("")
    python = FOLDER / "bin" / "python"
    pip = _create(FOLDER, python, log)
    options = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--no-compile"]
    if not _quiet([*pip, "install", *options, "--no-deps", "-r", str(REQUIREMENTS)], log):
        _fail("The official server could not be installed: is there a network?", log)
    stamp.write_text(wanted)


if __name__ == "__main__":
    main()
