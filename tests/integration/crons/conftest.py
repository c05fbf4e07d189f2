"""Whole applications on one database, which sweep only when the test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.api import Api

from slackwater.identity.keys import ApiKey, new_key
from slackwater.main import create_app
from slackwater.settings import Settings

PROJECT = Path(__file__).parents[2] / "graphs"


@pytest.fixture
def serve(database_uri: str) -> Callable[..., Any]:
    """Serves with these settings: `async with serve(project=…) as api`."""
    keys: dict[str, tuple[str, ApiKey]] = {}

    @asynccontextmanager
    async def serve(*, names: tuple[str, ...] = (), **settings: Any) -> AsyncIterator[Api]:
        for name in names:
            keys.setdefault(name, new_key(name))
        app = create_app(
            Settings.load(
                **{
                    "project": PROJECT,
                    "database_uri": database_uri,
                    "wake": "poll",
                    "pool_max_size": 6,
                    "poll_seconds": 0.1,
                    "sweep_seconds": 1000,
                    "grace_seconds": 10,  # at the end of it the process is made to leave: this one
                    "drain_reserve_seconds": 1,
                    "hard_reserve_seconds": 0.3,
                    "api_keys": tuple(keys[name][1] for name in names),
                    **settings,
                }
            )
        )
        async with AsyncExitStack() as stack:
            state = await stack.enter_async_context(app.router.lifespan_context(app))
            assert state is not None
            secrets = {name: keys[name][0] for name in names}
            yield Api(app, state["services"], dict(state), stack, secrets)

    return serve


@pytest.fixture
async def api(serve: Callable[..., Any]) -> AsyncIterator[Api]:
    """An application without keys."""
    async with serve() as api:
        yield api


@pytest.fixture
def http(api: Api) -> httpx.AsyncClient:
    return api.client()
