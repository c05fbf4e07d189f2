"""A request that is still at work when its process leaves is told to try again: it did not fail."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import psycopg
from support.server import fleet_of
from support.sessions import until_waiting

PROJECT = Path(__file__).parents[2] / "graphs"


async def test_a_request_that_outlasts_the_stop_is_answered_503_and_no_error(
    database_uri: str, tmp_path: Path
) -> None:
    async with fleet_of(database_uri, tmp_path, PROJECT) as fleet:
        (server,) = await fleet.start()
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
            thread = (await http.post("/threads", json={})).json()["thread_id"]
            async with await psycopg.AsyncConnection.connect(database_uri) as other:
                await other.execute(
                    "select from slackwater.threads where thread_id = %s for update", [thread]
                )
                deletion = asyncio.create_task(http.delete(f"/threads/{thread}"), name="deletion")
                await until_waiting(database_uri)
                server.sigterm()
                answer = await deletion
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert await server.wait() == 0
        assert not fleet.complaints
