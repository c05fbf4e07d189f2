"""The contract by hand: python -m tests.contract --examples 200 [--seed 7]."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--examples", type=int, default=100, help="random requests of each kind for each operation (CI: 2)"
    )
    parser.add_argument("--seed", type=int, default=1, help="what the random requests depend on")
    chosen = parser.parse_args()
    environ = {"SLACKWATER_EXAMPLES": str(chosen.examples), "SLACKWATER_SEED": str(chosen.seed)}
    command = [sys.executable, "-m", "pytest", "-v", str(Path(__file__).parent)]
    sys.exit(subprocess.run(command, env={**os.environ, **environ}).returncode)
