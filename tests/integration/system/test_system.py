from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from slackwater import __version__
from slackwater.api.system import docs
from slackwater.api.system.routes import router
from slackwater.graphs.registry import Graphs
from slackwater.kit.budget import Budget
from slackwater.postgres.pool import Database
from slackwater.runtime.process import stop
from slackwater.runtime.runtime import Runtime
from slackwater.settings import Settings

GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
graph = StateGraph(TypedDict("State", {"text": str})).add_node("node", print).add_edge(START, "node")
"""


@pytest.fixture
async def runtime(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Runtime]:
    """Not started yet; drained and released at the end."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "agent.py").write_text(GRAPH)
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"agent": "./agent.py:graph"}}))
    runtime = Runtime(Settings.load(), database, Graphs.load(tmp_path))
    yield runtime
    budget = Budget.of(5, drain_reserve=1, hard_reserve=0.5)
    await stop.drain(runtime, budget, "test")
    await stop.release(runtime, budget)


@pytest.fixture
async def http(runtime: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI(docs_url=None)
    app.include_router(router)
    services = SimpleNamespace(settings=runtime.settings, database=runtime.database, runtime=runtime)

    async def with_services(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": {"services": services}}, receive, send)

    transport = httpx.ASGITransport(with_services)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def asked(http: httpx.AsyncClient, path: str) -> tuple[int, Any]:
    answer = await http.get(path)
    return answer.status_code, answer.json()


async def test_ready_follows_the_life_of_the_process(http: httpx.AsyncClient, runtime: Runtime) -> None:
    assert await asked(http, "/ready") == (503, {"status": "starting"})

    await runtime.start()
    assert await asked(http, "/ready") == (200, {"status": "ready"})

    stop.stop_claiming(runtime, "test")
    assert await asked(http, "/ready") == (503, {"status": "draining"})
    assert await asked(http, "/health") == (200, {"status": "alive"})

    stop.close(runtime)
    assert await asked(http, "/ready") == (503, {"status": "draining"})


async def test_ready_says_no_while_the_database_takes_no_writes(
    http: httpx.AsyncClient, runtime: Runtime
) -> None:
    await runtime.start()
    database = runtime.database
    name = (await database.fetch("select current_database() as name"))[0]["name"]
    options = "-c default_transaction_read_only=off"
    async with await psycopg.AsyncConnection.connect(
        database.conninfo, options=options, autocommit=True
    ) as control:
        # WHEN somebody has met a server that takes no writes, and there is no other one yet
        await control.execute(f"alter database {name} set default_transaction_read_only = on")
        async with database.connection() as connection:
            await connection.execute("set default_transaction_read_only = on")
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("create table t (n int)")
        waiting = {"status": "starting", "services": {"database": "unhealthy"}}
        assert await asked(http, "/ready") == (503, waiting)
        assert await asked(http, "/health") == (200, {"status": "alive"})
        # THEN it says so until there is one, whether or not anybody asks for anything meanwhile
        await asyncio.sleep(0.5)
        assert await asked(http, "/ready") == (503, waiting)
        await control.execute(f"alter database {name} reset default_transaction_read_only")
    async with asyncio.timeout(10):
        while await asked(http, "/ready") != (200, {"status": "ready"}):
            await asyncio.sleep(0.05)
    await database.execute("create table t (n int)")


async def test_health_and_ok_do_not_need_the_database(http: httpx.AsyncClient, runtime: Runtime) -> None:
    await runtime.database.close(1)

    assert await asked(http, "/health") == (200, {"status": "alive"})
    for path in ("/", "/ok"):
        assert await asked(http, path) == (200, {"ok": True, "services": {}})


async def test_ok_tells_about_the_database_when_asked(http: httpx.AsyncClient, runtime: Runtime) -> None:
    assert await asked(http, "/ok?check_db=1") == (200, {"ok": True, "services": {"database": "healthy"}})

    await runtime.database.close(1)

    assert await asked(http, "/ok?check_db=1") == (503, {"ok": False, "services": {"database": "unhealthy"}})


async def test_info_names_the_versions_and_claims_nothing_that_is_not_there(http: httpx.AsyncClient) -> None:
    status, info = await asked(http, "/info")

    assert status == 200
    assert (info["version"], info["langgraph_py_version"]) == (__version__, version("langgraph"))
    flags = info["flags"]
    assert (flags["assistants"], flags["crons"], flags["langsmith"]) == (True, True, False)
    assert info["host"]["kind"] == "self-hosted"


async def test_the_page_of_the_docs_loads_nothing_from_elsewhere(http: httpx.AsyncClient) -> None:
    page = await http.get("/docs")

    assert page.status_code == 200
    assert "swagger" in page.text
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {source for sources in policy.values() for source in sources.split()} == {
        "'none'",
        "'self'",
        "data:",
    }
    # THEN everything that it names is served here, compressed or not
    named = re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text)
    assert {name.rpartition("/")[2].partition("?")[0] for name in named} == set(docs.FILES) - {
        "oauth2-redirect.js"
    }
    sizes: list[int] = []
    for name in (*named, "docs/oauth2-redirect.js"):
        plain = await http.get(f"/{name}", headers={"accept-encoding": "identity"})
        packed = await http.get(f"/{name}", headers={"accept-encoding": "gzip"})
        assert plain.status_code == packed.status_code == 200
        assert "content-encoding" not in plain.headers
        large = (docs.FOLDER / f"{name.rpartition('/')[2].partition('?')[0]}.gz").exists()
        assert ("content-encoding" in packed.headers) == large
        assert plain.content == packed.content != b""
        sizes.append(int(packed.headers["content-length"]))
        assert plain.headers["content-type"].startswith(docs.FILES[name.rpartition("/")[2].partition("?")[0]])
    assert sum(sizes) < 600_000  # on AWS Lambda a response has a limit, and so has the package
    redirect = await http.get("/docs/oauth2-redirect")
    assert redirect.headers["content-security-policy"] == docs.POLICY
    assert "/ready" in (await http.get("/openapi.json")).json()["paths"]
