"""Processes in one process, over the test's own database."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from helm import Helm
from helm import helm as the_helm
from rig import Fleet, Process, fleet_on

from slackwater.postgres.pool import Database


@pytest.fixture(autouse=True)
def helm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Helm]:
    """Steers the nodes of the test graphs."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    the_helm.reset()
    yield the_helm
    the_helm.reset()


@pytest.fixture
async def fleet(database_uri: str, database: Database) -> AsyncIterator[Fleet]:
    async with fleet_on(database_uri, database) as fleet:
        yield fleet


@pytest.fixture
async def process(fleet: Fleet) -> Process:
    """One process that does nothing by itself."""
    return await fleet.start()
