"""A database, servers on it, and a watch for what nobody owns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.drills.drill import ENDS, PROJECT, Drill
from tests.support.effects import Effects, Watcher
from tests.support.server import fleet_of


@pytest.fixture
async def drill(database_uri: str, tmp_path: Path) -> AsyncIterator[Drill]:
    """A drill on a database of its own, checked when the test is done with it."""
    effects, watcher = Effects(database_uri), Watcher(database_uri)
    watcher.query(ENDS)
    async with fleet_of(database_uri, tmp_path, PROJECT, {"DRILL_EFFECTS_URI": database_uri}) as fleet:
        drill = Drill(watcher, fleet, effects)
        watch = asyncio.create_task(drill.watch(), name="watch")
        try:
            yield drill
            await fleet.close()
            drill.check()
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
            await drill.close()
            watcher.close()
            effects.watcher.close()
