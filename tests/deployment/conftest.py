"""What is under scripts/ is not installed: its folder goes to the end of the path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
