"""Channels over processes that are killed and stopped: what came in is one run, and its answer is shown once (6.2, 'second delivery')."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psycopg
from support.slack import SIGNING_SECRET, TOKEN, Slack, event, sent, slack

from slackwater.channels.slack import NOTICE
from tests.support.server import ServerProcess, fleet_of

AGENT = Path(__file__).parent / "dialect" / "agent.py"
MANY = 4


async def deliver(http: httpx.AsyncClient, servers: list[ServerProcess], payload: dict[str, Any]) -> None:
    """As Slack does: again, until somebody has said that it has come."""
    attempt = 0
    while True:
        url = f"{servers[attempt % len(servers)].url}/api/channels/slack/webhook"
        try:
            answer = await http.post(url, **sent(payload, retry=attempt))
        except httpx.HTTPError:
            answer = None
        if answer is not None and answer.status_code == 200:
            return
        attempt += 1
        await asyncio.sleep(0.05)


def mention(text: str, second: int) -> dict[str, Any]:
    return event("app_mention", text, f"17000000{second:02}.000100")


def answers(team: Slack) -> Counter[str]:
    """What each run has been answered by. Of two messages that say the same, it can be told whether they are of one run."""
    said = {(told["metadata"]["event_payload"]["run_id"], told["text"]) for told in team.shown.values()}
    return Counter(text for _, text in said if text != NOTICE)


async def shown(team: Slack, wanted: Counter[str]) -> None:
    async with asyncio.timeout(30):
        while answers(team) != wanted:
            await asyncio.sleep(0.02)


async def test_what_came_in_is_answered_once_whoever_is_killed_or_stopped(
    database_uri: str, tmp_path: Path
) -> None:
    """What must be shown: a delivery, and an answer, in flight at SIGKILL and at SIGTERM; a Slack client across a restart."""
    async with (
        slack() as team,
        await psycopg.AsyncConnection.connect(database_uri, autocommit=True) as database,
        fleet_of(database_uri, tmp_path, project(tmp_path, team), ENV) as fleet,
        httpx.AsyncClient(timeout=10, verify=False) as http,  # no certificates to load
        asyncio.timeout(90),
    ):

        async def until(condition: str) -> None:
            while not await (await database.execute(condition)).fetchone():  # type: ignore[arg-type]
                await asyncio.sleep(0.02)

        killed, stopped = both = await fleet.start(2)
        # GIVEN one whose notice Slack has taken, and has not said so
        team.held = asyncio.Event()
        await deliver(http, [killed], mention("first", 1))
        await team.until(NOTICE)

        # WHEN many come at once, to both, and it is killed meanwhile
        many = [mention(f"{n}", 10 + n) for n in range(MANY)]
        ways = [(to, each) for each in many for to in (both, both[::-1])]
        sending = [asyncio.create_task(deliver(http, to, each)) for to, each in ways]
        await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
        killed.sigkill()
        await asyncio.gather(*sending)
        team.held.set()
        await killed.wait()
        # its claims end later than a test can wait, and the last one may still be on its way
        await until(
            f"select 1 where not exists (select from pg_stat_activity where application_name = 'slackwater serve {killed.pid}')"
        )
        await database.execute("update slackwater.webhooks set claimed_until = null, due_at = now()")
        # THEN all of it is answered, once
        wanted = Counter(f"answer to {text}" for text in ("first", *map(str, range(MANY))))
        await shown(team, wanted)
        await until("select 1 where not exists (select from slackwater.webhooks)")

        # WHEN the other one is stopped while Slack does not say whether an answer was taken
        gate = tmp_path / "gate"
        last = mention(f"wait:{gate}", 30)
        [successor], _ = await asyncio.gather(fleet.start(), deliver(http, [stopped], last))
        await until("select 1 where not exists (select from slackwater.webhooks)")
        team.held = asyncio.Event()
        gate.touch()
        wanted[f"answer to wait:{gate}"] = 1
        await shown(team, wanted)
        stopped.sigterm()
        assert await stopped.wait() == 0
        # THEN the next one tells it in the same place, and takes nothing twice
        posted = team.calls.count("chat.postMessage")
        team.held.set()
        await deliver(http, [successor], last)
        await until("select 1 where not exists (select from slackwater.webhooks)")
        assert answers(team) == wanted
        assert team.calls.count("chat.postMessage") == posted
        assert team.texts.count(f"answer to wait:{gate}") == 1
        found = await database.execute(
            "select status, count(distinct thread_id), count(*) from slackwater.runs where kind = 'run' group by status"
        )
        assert await found.fetchall() == [("success", MANY + 2, MANY + 2)]
    assert fleet.complaints == []


ENV = {"SLACKWATER_GATEWAY": "true", "SIGNED": SIGNING_SECRET, "BOT": TOKEN}


def project(folder: Path, team: Slack) -> Path:
    channel = {"name": "slack", "kind": "slack", "owner": "ann", "assistant": "lead_agent", "api": team.api}
    channel |= {"secret": "$SIGNED", "token": "$BOT"}
    content = {"graphs": {"lead_agent": f"{AGENT}:graph"}, "gateway": {"channels": [channel]}}
    (folder / "project").mkdir()
    (folder / "project" / "langgraph.json").write_text(json.dumps(content))
    return folder / "project"
