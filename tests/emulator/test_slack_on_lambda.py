"""Slack and a function: it hears at once, and is told by whoever works on the run later, also when time is over meanwhile."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import psycopg

from slackwater.channels.slack import NOTICE
from tests.support.amazon import ACCOUNT
from tests.support.emulator import gateway_of
from tests.support.server import ROOT
from tests.support.slack import SIGNING_SECRET, TOKEN, event, sent, slack

AGENT = ROOT / "tests/integration/workspace/dialect/agent.py"
URL = "/api/channels/slack/webhook"
LIMITS = {
    "SLACKWATER_GATEWAY_LIMIT_SECONDS": "60",  # cold starts count, and the machine may be busy
    "SLACKWATER_DRAIN_RESERVE_SECONDS": "2",
    "SLACKWATER_GATEWAY": "true",
    "SLACKWATER_BLOBS": "s3://nobody/files",  # which nobody asks for a file
    "SLACKWATER_API_KEYS": f"anna:{sha256(b'a key').hexdigest()}",
}
ROOT_TS = "1700000001.000100"


async def test_slack_is_answered_first_and_told_later(database_uri: str, tmp_path: Path) -> None:
    """'Channels', and what must be shown: a delivery in flight at a deadline. The three seconds hold however long a run takes."""
    gate, project = tmp_path / "gate", tmp_path / "project"
    project.mkdir()
    async with slack() as team:
        channel = {"name": "slack", "kind": "slack", "owner": "ann", "assistant": "lead_agent"}
        channel |= {"secret": "$SIGNED", "token": "$BOT", "api": team.api}
        content = {"graphs": {"lead_agent": f"{AGENT}:graph"}, "gateway": {"channels": [channel]}}
        (project / "langgraph.json").write_text(json.dumps(content))
        variables = {"SIGNED": SIGNING_SECRET, "BOT": TOKEN, **ACCOUNT}
        options = tuple(part for name, value in variables.items() for part in ("--env", f"{name}={value}"))
        env = {**LIMITS, "SLACKWATER_DATABASE_URI": database_uri}
        async with (
            asyncio.timeout(230),
            gateway_of(tmp_path, project, env=env, environments=1, options=options) as server,
            httpx.AsyncClient(base_url=server.url, timeout=70) as http,
            await psycopg.AsyncConnection.connect(database_uri, autocommit=True) as database,
        ):

            async def post(payload: dict[str, Any], **how: Any) -> None:
                answer = await http.post(URL, **sent(payload, **how))
                assert (answer.status_code, answer.json()) == (200, {}), server.tail()

            async def until(condition: str) -> None:
                while not await (await database.execute(condition)).fetchone():  # type: ignore[arg-type]
                    await asyncio.sleep(0.02)

            # WHEN Slack brings what takes long THEN it hears before there is an answer
            asked = event("app_mention", f"wait:{gate}", ROOT_TS)
            await post(asked)
            await team.until(NOTICE)

            # WHEN the run has ended, and time is over before Slack has said that it was told
            await until("select 1 from slackwater.runs where status = 'running'")
            team.held = asyncio.Event()
            gate.touch()
            await team.until(f"answer to wait:{gate}")
            # THEN the answer is anybody's
            await until(
                "select 1 from slackwater.webhooks where run ->> 'status' = 'success' and attempts = 0 and claimed_until is null"
            )

            # AND whoever works next tells it again, in its place
            team.held.set()
            await post(event("message", "b", "1700000002.000100", thread_ts=ROOT_TS))
            await team.until(f"answer to wait:{gate}", "answer to b")
            await until("select 1 where not exists (select from slackwater.webhooks)")
            await post(asked, retry=1)
            assert await _ended(database) == [("success", 2, 1)]
            assert team.calls.count("chat.postMessage") == 2
    assert server.complaints() == []


async def _ended(database: psycopg.AsyncConnection) -> list[Any]:
    found = await database.execute(
        "select status, count(*), count(distinct thread_id) from slackwater.runs where kind = 'run' group by 1"
    )
    return await found.fetchall()
