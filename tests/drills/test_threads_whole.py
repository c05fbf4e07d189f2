"""What changes whole threads, with its process stopped or killed in the middle: all of it is done, or nothing."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from tests.drills.drill import BATCH, COUNT
from tests.support.server import ROOT, ServerProcess, fleet_of
from tests.support.sessions import until_waiting

pytestmark = pytest.mark.drill

TABLES = {
    "slackwater.threads": "thread_id::text",
    "slackwater.runs": "thread_id::text",
    "slackwater.run_events": "thread_id::text",
    "checkpoints": "thread_id",
    "checkpoint_blobs": "thread_id",
    "checkpoint_writes": "thread_id",
}

BLOCKED = "checkpoints"
"""The table that each of them writes to."""


async def counted(connection: psycopg.AsyncConnection[Any], thread: str) -> dict[str, int]:
    """How many rows there are of the thread, by table."""
    counts = {}
    for table, column in TABLES.items():
        cursor = await connection.execute(f"select count(*) from {table} where {column} = %s", [thread])
        row = await cursor.fetchone()
        counts[table] = row[0] if row else 0
    return counts


@dataclass(frozen=True)
class Scene:
    """Threads that something is about to be done to, and how many rows each had before."""

    deleted: str
    kept: str
    copied: str
    drafted: str
    before: dict[str, dict[str, int]]

    @classmethod
    async def of(cls, http: httpx.AsyncClient, watch: psycopg.AsyncConnection[Any]) -> Scene:
        threads = [(await http.post("/threads", json={})).json()["thread_id"] for _ in range(3)]
        for thread in threads:
            body = {"assistant_id": "steps", "input": {"n": 3}}
            await http.post(f"/threads/{thread}/runs/wait", json=body)
        return cls(*threads, str(uuid4()), {thread: await counted(watch, thread) for thread in threads})

    @property
    def requests(self) -> list[tuple[str, Any]]:
        update = {"values": {"n": 2}, "as_node": "__input__"}
        return [
            ("/threads/prune", {"thread_ids": [self.deleted]}),
            ("/threads/prune", {"thread_ids": [self.kept], "strategy": "keep_latest"}),
            (f"/threads/{self.copied}/copy", None),
            (
                "/threads",
                {
                    "thread_id": self.drafted,
                    "metadata": {"graph_id": "steps"},
                    "supersteps": [{"updates": [update]}],
                },
            ),
        ]

    async def check(self, watch: psycopg.AsyncConnection[Any]) -> None:
        """Each is done, or has not happened."""
        before = self.before
        assert await counted(watch, self.deleted) in (before[self.deleted], dict.fromkeys(TABLES, 0))
        after = await counted(watch, self.kept)
        assert after == before[self.kept] or after["checkpoints"] == 1
        assert after["slackwater.runs"] == before[self.kept]["slackwater.runs"]
        cursor = await watch.execute(
            "select thread_id::text from slackwater.threads where not thread_id::text = any(%s)",
            [list(before)],
        )
        for (new,) in await cursor.fetchall():
            rows = await counted(watch, new)
            if new == self.drafted:
                assert rows["checkpoints"] == 1
            else:
                parts = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
                assert [rows[part] for part in parts] == [before[self.copied][part] for part in parts]
        orphans = await watch.execute(
            "select 1 from checkpoints c where not exists ("
            "select 1 from slackwater.threads t where t.thread_id::text = c.thread_id)"
        )
        assert await orphans.fetchall() == []


@asynccontextmanager
async def watching(uri: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(uri, autocommit=True) as watch:
        yield watch


async def end(server: ServerProcess, how: str) -> None:
    """Wait until the process has gone, as it should."""
    assert await server.wait() == (0 if how == "sigterm" else -signal.SIGKILL), server.tail()


@pytest.mark.parametrize("how", ["sigterm", "sigkill"])
async def test_a_process_that_goes_in_the_middle_leaves_nothing_half_done(
    database_uri: str, tmp_path: Path, how: str
) -> None:
    connections = {"SLACKWATER_POOL_MAX_SIZE": "10"}  # for each of them one that is no lane
    async with fleet_of(database_uri, tmp_path, ROOT / "tests" / "graphs", connections) as fleet:
        (server,) = await fleet.start(tolerated=("Traceback", "thread"))
        async with (
            httpx.AsyncClient(base_url=server.url, timeout=20) as http,
            watching(database_uri) as watch,
            await psycopg.AsyncConnection.connect(database_uri) as block,
        ):
            scene = await Scene.of(http, watch)
            # GIVEN each of them in the middle of its work
            await block.execute(f"lock table {BLOCKED} in share row exclusive mode")
            sent = [asyncio.create_task(http.post(path, json=body)) for path, body in scene.requests]
            await until_waiting(database_uri, len(sent))
            # WHEN their process goes, and then nothing is in the way any more
            getattr(server, how)()
            if how == "sigkill":
                await end(server, how)
            else:
                await asyncio.sleep(0.3)
            await block.rollback()
            await end(server, how)
            await asyncio.gather(*sent, return_exceptions=True)
            # THEN each is done, or has not happened
            await _quiet(watch)
            await scene.check(watch)


@pytest.mark.parametrize("how", ["sigterm", "sigkill"])
async def test_a_process_that_goes_at_any_moment_leaves_nothing_half_done(
    database_uri: str, tmp_path: Path, how: str
) -> None:
    async with (
        fleet_of(database_uri, tmp_path, ROOT / "tests" / "graphs") as fleet,
        watching(database_uri) as watch,
    ):
        for _ in range(max(2, COUNT // BATCH)):
            (server,) = await fleet.start(tolerated=("Traceback", "thread"))
            async with httpx.AsyncClient(base_url=server.url, timeout=20) as http:
                scene = await Scene.of(http, watch)
                sent = [asyncio.create_task(http.post(path, json=body)) for path, body in scene.requests]
                await asyncio.sleep(random.uniform(0, 0.1))
                getattr(server, how)()
                await end(server, how)
                await asyncio.gather(*sent, return_exceptions=True)
                await _quiet(watch)
                await scene.check(watch)
                await watch.execute(f"truncate {', '.join(TABLES)} cascade")


async def _quiet(watch: psycopg.AsyncConnection[Any]) -> None:
    """Until nobody else does anything."""
    async with asyncio.timeout(15):
        while True:
            cursor = await watch.execute(
                "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()"
                " and backend_type = 'client backend' and datname = current_database()"
            )
            row = await cursor.fetchone()
            if row and row[0] == 0:
                return
            await asyncio.sleep(0.05)
