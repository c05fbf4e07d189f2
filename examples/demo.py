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
    python = environment(ROOT / ".demo" / "venv")
    os.environ["PYTHONPATH"] = str(ROOT / "examples")
    os.execv(python, [str(python), "-m", "handover", *sys.argv[1:]])
