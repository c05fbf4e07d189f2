"""The routes of threads in front of a working runtime, for several owners. It sweeps only when the test says so."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from slackwater.api.assistants.service import system_id
from slackwater.api.threads.routes import router
from slackwater.graphs.registry import Graphs
from slackwater.identity.principal import LOCAL_OWNER, Principal
from slackwater.kit.budget import Budget
from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database
from slackwater.runtime.process import stop
from slackwater.runtime.queue.admission import NewRun
from slackwater.runtime.runtime import Runtime
from slackwater.settings import Settings
from slackwater.web.bodies import body_quota
from slackwater.web.http import install_error_handlers

PROJECT = Path(__file__).parents[2] / "graphs"


@pytest.fixture
def project() -> Path:
    """The project that is served."""
    return PROJECT


@pytest.fixture
def lease_seconds() -> float:
    return 30.0


@pytest.fixture
async def runtime(
    database: Database, project: Path, lease_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Runtime]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    settings = Settings.load(wake="poll", lease_seconds=lease_seconds, sweep_seconds=1000)
    runtime = Runtime(settings, database, Graphs.load(project))
    await runtime.start()
    yield runtime
    budget = Budget.of(5, drain_reserve=4.5, hard_reserve=0.5)
    await stop.drain(runtime, budget, "test")
    await stop.release(runtime, budget)


@pytest.fixture
async def client(runtime: Runtime) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:
    """Makes a client that is a given owner."""
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(router)
    services = SimpleNamespace(
        bodies=body_quota(1_000_000),
        settings=runtime.settings,
        database=runtime.database,
        graphs=runtime.graphs,
        runtime=runtime,
    )
    async with AsyncExitStack() as stack:

        def make(owner: str = LOCAL_OWNER) -> httpx.AsyncClient:
            async def with_services(scope: Any, receive: Any, send: Any) -> None:
                await app(
                    {**scope, "state": {"services": services}, "principal": Principal(owner)}, receive, send
                )

            made = httpx.AsyncClient(transport=httpx.ASGITransport(with_services), base_url="http://test")
            stack.push_async_callback(made.aclose)
            return made

        yield make


@pytest.fixture
def http(client: Callable[..., httpx.AsyncClient]) -> httpx.AsyncClient:
    return client()


@pytest.fixture
async def thread(http: httpx.AsyncClient) -> str:
    """The id of a new thread."""
    return str((await http.post("/threads", json={})).json()["thread_id"])


@pytest.fixture
def ended(database: Database) -> Callable[[UUID], Any]:
    """Waits for a run's end; its row."""

    async def ended(run_id: UUID) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while True:
                row = await database.fetch_one("select * from slackwater.runs where run_id = %s", [run_id])
                assert row is not None
                if row["status"] not in ("pending", "running"):
                    return row
                await asyncio.sleep(0.01)

    return ended


@pytest.fixture
def run(runtime: Runtime, ended: Callable[[UUID], Any]) -> Callable[..., Any]:
    """Runs a graph on a thread, and waits for its end unless `wait=False`; the run's row."""

    async def run(
        thread_id: str,
        graph_id: str,
        given: Any = None,
        *,
        wait: bool = True,
        configurable: dict[str, Any] | None = None,
        command: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        new = NewRun(
            run_id=uuid7(),
            thread_id=UUID(thread_id),
            owner=LOCAL_OWNER,
            assistant_id=system_id(graph_id),
            graph_id=graph_id,
            kwargs={"input": given, "command": command, "config": {"configurable": configurable or {}}},
            metadata={},
            assistant_metadata={},
            assistant_configurable={},
        )
        admitted = await runtime.admit(new)
        return await ended(new.run_id) if wait else dict(admitted.row)

    return run
