"""The drills by hand: python -m tests.drills --count 500 [--only NAME]."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="runs that each drill stops (CI: 20)")
    parser.add_argument("--only", help="drills whose name has this in it, as pytest's -k")
    chosen = parser.parse_args()
    command = [sys.executable, "-m", "pytest", "-v", str(Path(__file__).parent)]
    command += ["-k", chosen.only] if chosen.only else []
    sys.exit(subprocess.run(command, env={**os.environ, "SLACKWATER_DRILLS": str(chosen.count)}).returncode)
