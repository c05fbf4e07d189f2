"""Crons that come due every second, while processes are killed and replaced: no date is lost to them, none starts twice."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from tests.drills.drill import COUNT
from tests.support.server import fleet_of

pytestmark = pytest.mark.drill

PROJECT = Path(__file__).parents[1] / "graphs"
CRONS = 6
KILLS = max(1, COUNT // 4)

# Each date that a cron leaves raises its revision.
COUNTS = """
select c.cron_id, c.revision - 1 as dates, count(r.run_id) as runs,
       count(r.run_id) filter (where r.status = 'success') as done
  from slackwater.crons c
  left join slackwater.runs r on r.kwargs #>> '{config,configurable,cron_id}' = c.cron_id::text
 group by c.cron_id, c.revision"""


async def counts(uri: str) -> list[dict[str, Any]]:
    async with await psycopg.AsyncConnection.connect(uri, row_factory=dict_row) as connection:
        return await (await connection.execute(COUNTS)).fetchall()


async def test_each_due_date_starts_one_run_whatever_is_killed_meanwhile(
    database_uri: str, tmp_path: Path
) -> None:
    env = {"SLACKWATER_SWEEP_SECONDS": "0.05"}
    async with fleet_of(database_uri, tmp_path, PROJECT, env) as fleet:
        # GIVEN two replicas that both look all the time, and crons of every second
        servers = await fleet.start(2)
        body = {
            "assistant_id": "echo",
            "schedule": "* * * * * *",
            "input": {"text": "c"},
            "on_run_completed": "keep",
        }
        async with httpx.AsyncClient(base_url=servers[0].url, timeout=15) as http:
            for n in range(CRONS):
                path = "/runs/crons"
                if n % 2:
                    thread = (await http.post("/threads", json={})).json()["thread_id"]
                    path = f"/threads/{thread}/runs/crons"
                assert (await http.post(path, json=body)).status_code == 200
        # WHEN one after the other is killed, or told to stop, and replaced
        for number in range(KILLS):
            victim = servers.pop(0)
            servers.append(fleet.launch())
            await servers[-1].until_ready()
            await asyncio.sleep(random.uniform(0, 1))
            victim.sigterm() if number % 3 == 2 else victim.sigkill()
            assert await victim.wait() == (0 if number % 3 == 2 else -9), victim.tail()
        async with httpx.AsyncClient(base_url=servers[-1].url, timeout=15) as http:
            for cron in (await http.post("/runs/crons/search", json={"limit": 100})).json():
                answer = await http.patch(f"/runs/crons/{cron['cron_id']}", json={"enabled": False})
                assert answer.status_code == 200
        # THEN all that was started ends, and for each date that is over there is one run
        async with asyncio.timeout(60):
            while any(row["done"] < row["runs"] for row in await counts(database_uri)):
                await asyncio.sleep(0.1)
        rows = await counts(database_uri)
        assert len(rows) == CRONS
        for row in rows:
            # The change at the end raised the revision, too.
            assert row["runs"] == row["dates"] - 1, (rows, fleet.logs())
            assert row["runs"] > 1
    assert fleet.complaints == []
