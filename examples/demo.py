"""The demo in one line: python3 examples/demo.py

Makes a private virtual environment in .demo/ when it runs for the first time, and starts the demo proper, `handover`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from bootstrap import environment  # noqa: E402  (its folder has just been put on the path)

if __name__ == "__main__":
    try:
        python = environment(ROOT / ".demo" / "venv")
    except KeyboardInterrupt:
        sys.exit(130)
    os.environ["PYTHONPATH"] = str(ROOT / "examples")
    # -P: the working directory may contain modules with the names of those that the demo imports.
    os.execv(python, [str(python), "-P", "-m", "handover", *sys.argv[1:]])  # noqa: S606 - nor is a shell wanted
