"""Environments of the function that streams."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulator import LocalEnvironment, request
from tests.support.runtime_api import StreamingEnvironment, streaming_environment
from tests.support.server import FORBIDDEN

PROJECT = Path(__file__).parent / "project"
KEY = "secret"
SETTINGS = {
    "SLACKWATER_API_KEYS": f"me:{hashlib.sha256(KEY.encode()).hexdigest()}",
    "SLACKWATER_PROJECT": str(PROJECT),
    "SLACKWATER_HANDOVER": "sweep",
}


def from_url(method: str, path: str, body: object = None, **headers: str) -> dict[str, Any]:
    """The event that a Function URL makes of a request."""
    event = request(method, path, body, headers={"x-api-key": KEY, **headers})
    event["requestContext"]["domainName"] = "abcdefg.lambda-url.us-east-1.on.aws"
    return event


def complaints(environment: StreamingEnvironment | LocalEnvironment, *, but: str = "\n") -> list[str]:
    """Lines of its log that say what no log may say, those left out that have `but` in them."""
    lines = environment.log().splitlines()
    return [line for line in lines if any(word in line for word in FORBIDDEN) and but not in line]


Start = Callable[..., Awaitable[StreamingEnvironment]]


@pytest.fixture
async def start(database_uri: str, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts environments on the test's database: `environment = await start(SLACKWATER_…=…)`."""
    async with AsyncExitStack() as stack:

        async def start(folder: Path = PROJECT, **env: str) -> StreamingEnvironment:
            settings = {**SETTINGS, "SLACKWATER_DATABASE_URI": database_uri, **env}
            log_file = tmp_path / "environment.log"
            return await stack.enter_async_context(
                streaming_environment(log_file, folder=folder, env=settings)
            )

        yield start
