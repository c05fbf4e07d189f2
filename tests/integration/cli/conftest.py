from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.command import Answer, run_command


@pytest.fixture
def slackwater(tmp_path: Path) -> Callable[..., Answer]:
    """Runs `slackwater ARGUMENTS` in an empty folder."""
    return partial(run_command, tmp_path)
