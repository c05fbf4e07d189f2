"""What a process answers while it stops, and while its database is away."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import httpx
import pytest
from support.api import Api, shape_of

from slackwater.postgres.pool import Database

STOPPING = Path(__file__).parents[3] / "docs" / "stopping.md"
SLOW = {"assistant_id": "steps", "input": {"n": 50, "sleep": 0.4}}
PUBLIC = {"/", "/ok", "/info", "/health", "/ready"}
STOP_SECONDS = 60.0
"""A stop ends its process at its deadline, which here is that of the tests: they ask it for much until then."""


async def refused(http: httpx.AsyncClient, method: str, path: str, sentence: str) -> None:
    """The client is told to try again, on another connection: another process answers."""
    answer = await http.request(method, path, json={})
    assert answer.status_code == 503
    assert sentence in answer.json()["detail"]
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["connection"] == "close"


async def test_a_process_that_drains_takes_runs_in_for_others_and_then_nothing(
    api: Api, http: httpx.AsyncClient, database: Database, subtests: pytest.Subtests
) -> None:
    # GIVEN a process in the middle of a run
    threads = [(await http.post("/threads", json={})).json()["thread_id"] for _ in range(2)]
    run = (await http.post(f"/threads/{threads[0]}/runs", json=SLOW)).json()
    assert (await http.get("/ready")).status_code == 200

    # WHEN it begins to drain, and what the superstep comes to cannot be stored yet
    async with database.connection() as connection, connection.transaction():
        await connection.execute("lock table checkpoints in share mode")
        stop = asyncio.create_task(api.services.stop.drain("test", STOP_SECONDS))
        while not api.services.runtime.draining:
            await asyncio.sleep(0)

        # THEN load balancers look elsewhere, the platform lets it live, and a run that comes all the same is not lost
        ready = await http.get("/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
        assert (await http.get("/health")).status_code == 200
        late = (await http.post(f"/threads/{threads[1]}/runs", json=SLOW)).json()
        assert late["status"] == "pending"

    # AND when its runs have been handed over, it answers nothing more that needs the database
    await stop
    assert api.services.runtime.closed
    for path, operations in api.app.openapi()["paths"].items():
        for method in operations:
            if path not in PUBLIC | {"/metrics"}:
                with subtests.test(method=method, path=path):
                    await refused(http, method.upper(), shape_of(path), "This process is stopping")
    for path in PUBLIC - {"/ready"}:
        assert (await http.get(path)).status_code == 200
    assert (await http.get("/ready")).json() == {"status": "draining"}
    report = api.services.stop.report
    assert report is not None
    assert [line["outcome"] for line in report["runs"]] == ["drained"]
    documented = re.search(r"```json\n(.+?)\n```", STOPPING.read_text())
    assert documented is not None
    assert report["runs"][0].keys() == json.loads(documented[1])["runs"][0].keys()
    rows = await api.database.fetch("select run_id::text, status, attempt, handovers from slackwater.runs")
    assert {row["run_id"]: (row["status"], row["attempt"], row["handovers"]) for row in rows} == {
        run["run_id"]: ("pending", 1, 1),
        late["run_id"]: ("pending", 0, 0),
    }


async def test_a_database_that_is_away_is_no_failure_of_the_request(
    api: Api, http: httpx.AsyncClient
) -> None:
    await api.database.close(1)

    await refused(http, "POST", "/threads/search", "The database does not answer")
    await refused(http, "GET", shape_of("/threads/{thread_id}"), "The database does not answer")
    assert (await http.get("/health")).status_code == 200
    assert (await http.get("/ok?check_db=1")).status_code == 503
