"""A project that takes a minute to import."""

from __future__ import annotations

import os
import time
from pathlib import Path

Path(os.environ["DRILL_IMPORTING"]).touch()
time.sleep(60)
