"""A database, and environments on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.handler.scene import Scene, scene_of


@pytest.fixture
async def scene(database_uri: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene_of(database_uri, tmp_path) as scene:
        yield scene
