"""Channels over processes that are killed and stopped: what came in is one run, and its answer is shown once (6.2, 'second delivery')."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import psycopg
from support.slack import SIGNING_SECRET, TOKEN, event, sent, slack

from slackwater.channels.slack import NOTICE
from tests.support.server import ServerProcess, fleet_of

AGENT = Path(__file__).parent / "dialect" / "agent.py"


async def deliver(servers: list[ServerProcess], payload: dict[str, Any]) -> None:
    """As Slack does: again, until somebody has said that it has come."""
    async with httpx.AsyncClient(timeout=10) as http, asyncio.timeout(30):
        attempt = 0
        while True:
            server = servers[attempt % len(servers)]
            try:
                url = f"{server.url}/api/channels/slack/webhook"
                answer = await http.post(url, **sent(payload, retry=attempt))
            except httpx.HTTPError:
                answer = None
            if answer is not None and answer.status_code == 200:
                return
            attempt += 1
            await asyncio.sleep(0.05)


async def test_what_came_in_is_answered_once_whoever_is_killed_or_stopped(
    database_uri: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    async with slack() as team:
        channel = {"name": "slack", "kind": "slack", "owner": "ann", "assistant": "lead_agent"}
        channel |= {"secret": "$SIGNED", "token": "$BOT", "api": team.api}
        project = tmp_path / "project"
        project.mkdir()
        content = {"graphs": {"lead_agent": f"{AGENT}:graph"}, "gateway": {"channels": [channel]}}
        (project / "langgraph.json").write_text(json.dumps(content))
        env = {"SLACKWATER_GATEWAY": "true", "SIGNED": SIGNING_SECRET, "BOT": TOKEN}
        async with fleet_of(database_uri, tmp_path, project, env) as fleet:
            killed, stopped = await fleet.start(2)
            both = [killed, stopped]
            asked = event("app_mention", f"wait:{gate}", "1700000001.000100")
            await deliver(both, asked)
            await team.until(NOTICE)

            # Many come at once, to both, and one of them is killed meanwhile
            many = [event("app_mention", f"{n}", f"170000001{n}.000100") for n in range(6)]
            sending = [asyncio.create_task(deliver(both, each)) for each in (*many, *many)]
            await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
            killed.sigkill()
            await asyncio.gather(*sending)

            # The other one is stopped, with the run that waits; the last one answers
            [last] = await fleet.start()
            stopped.sigterm()
            await stopped.wait()
            await deliver([last], asked)
            gate.touch()
            wanted = {f"answer to wait:{gate}", *(f"answer to {n}" for n in range(6))}
            async with asyncio.timeout(30):
                while not wanted <= {*team.texts}:
                    await asyncio.sleep(0.05)
            # A notice whose process was killed, before it could say that it was there, stays where it is.
            assert {*team.texts} - {NOTICE} == wanted
        async with await psycopg.AsyncConnection.connect(database_uri) as connection:
            found = await connection.execute(
                "select status, count(distinct thread_id), count(*) from slackwater.runs where kind = 'run' group by status"
            )
            assert await found.fetchall() == [("success", 7, 7)]
    assert fleet.complaints == []
