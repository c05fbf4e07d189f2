"""Applications in this process, on one database, behind a gateway that a stock client talks to over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from gateway import Environment, Gateway, Holds, Start
from gateway import holds as the_holds

from slackwater.main import create_app
from slackwater.settings import Settings

PROJECT = Path(__file__).parent / "pages_project"


@pytest.fixture(autouse=True)
def holds() -> Iterator[Holds]:
    the_holds.reset()
    yield the_holds
    the_holds.reset()


@pytest.fixture
async def start(database_uri: str) -> AsyncIterator[Start]:
    """Starts an environment: `await start(stream_page_seconds=2)`."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Environment:
            app = create_app(
                Settings.load(
                    **{
                        "project": PROJECT,
                        "database_uri": database_uri,
                        "wake": "poll",
                        "pool_max_size": 6,
                        "poll_seconds": 0.2,
                        "grace_seconds": 10,  # at the end of it the process is made to leave: this one
                        "drain_reserve_seconds": 1,
                        "hard_reserve_seconds": 0.3,
                        **settings,
                    }
                )
            )
            state = await stack.enter_async_context(app.router.lifespan_context(app))
            assert state is not None
            return Environment(app, state["services"], dict(state))

        yield start
        the_holds.reset()  # a stop would wait for what is held


@pytest.fixture
async def environment(start: Start) -> Environment:
    return await start()


@pytest.fixture
def gateway(environment: Environment) -> Gateway:
    """One environment behind a gateway that collects its answers."""
    return Gateway(environment)
