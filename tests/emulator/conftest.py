"""One environment for many tests: each that is started costs a second of a CPU."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.emulator import LocalEnvironment, environment_of

TINY = pathlib.Path(__file__).parent


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiny(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalEnvironment]:
    """An environment of `tiny.py`, with an extension and a timeout of four seconds."""
    log = tmp_path_factory.mktemp("tiny") / "log"
    async with environment_of(
        log, folder=TINY, handler="tiny.lambda_handler", timeout_seconds=4, env={"TINY_EXTENSION": "1"}
    ) as environment:
        yield environment
