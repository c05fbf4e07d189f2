"""The whole application in this process, lifespan included: real graphs, a real runtime, a real database.

It sweeps only when the test says so.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.api import Api

from slackwater.identity.keys import ApiKey, new_key
from slackwater.main import create_app
from slackwater.settings import Settings

PROJECT = Path(__file__).parents[1] / "graphs"


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The application adds to `sys.path` and sends the logs of the process to stderr."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def serve(database_uri: str) -> Callable[..., Any]:
    """Serves with these settings: `async with serve(max_body_bytes=1000) as api`."""

    @asynccontextmanager
    async def serve(*, names: tuple[str, ...] = (), **settings: Any) -> AsyncIterator[Api]:
        keys: list[ApiKey] = []
        secrets = {}
        for name in names:
            secrets[name], key = new_key(name)
            keys.append(key)
        app = create_app(
            Settings.load(
                **{
                    "project": PROJECT,
                    "database_uri": database_uri,
                    "wake": "poll",
                    "pool_max_size": 4,
                    "poll_seconds": 0.2,
                    "sweep_seconds": 1000,
                    "grace_seconds": 10,  # at the end of it the process is made to leave: this one
                    "drain_reserve_seconds": 1,
                    "hard_reserve_seconds": 0.3,
                    "api_keys": tuple(keys),
                    **settings,
                }
            )
        )
        async with AsyncExitStack() as stack:
            state = await stack.enter_async_context(app.router.lifespan_context(app))
            assert state is not None
            yield Api(app, state["services"], dict(state), stack, secrets)

    return serve


@pytest.fixture
async def api(serve: Callable[..., Any]) -> AsyncIterator[Api]:
    """An application without keys."""
    async with serve() as api:
        yield api


@pytest.fixture
def http(api: Api) -> httpx.AsyncClient:
    """The client of an application without keys."""
    return api.client()
