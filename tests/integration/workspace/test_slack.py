"""Slack on top of channels: events come in signed, once; a conversation has one thread; answers take the place of a notice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.api import Api
from support.slack import SIGNING_SECRET, TOKEN, Slack, event, sent, slack

from slackwater.channels.slack import FAILED, NOTICE

AGENT = Path(__file__).parent / "dialect" / "agent.py"
URL = "/api/channels/slack/webhook"


@pytest.fixture
async def team() -> AsyncIterator[Slack]:
    async with slack() as one:
        yield one


@pytest.fixture
def project(tmp_path: Path, team: Slack, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLACK_SIGNING_SECRET", SIGNING_SECRET)
    monkeypatch.setenv("SLACK_BOT_TOKEN", TOKEN)
    channel = {"name": "slack", "kind": "slack", "owner": "ann", "assistant": "lead_agent", "api": team.api}
    channel |= {"secret": "$SLACK_SIGNING_SECRET", "token": "$SLACK_BOT_TOKEN"}
    content = {"graphs": {"lead_agent": f"{AGENT}:graph"}, "gateway": {"channels": [channel]}}
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "langgraph.json").write_text(json.dumps(content))
    return folder


async def send(http: httpx.AsyncClient, payload: dict[str, Any], **how: Any) -> None:
    answer = await http.post(URL, **sent(payload, **how))
    assert (answer.status_code, answer.json()) == (200, {})


async def runs_of(api: Api) -> list[dict[str, Any]]:
    return await api.database.fetch(
        "select thread_id, status, kwargs -> 'input' as input from slackwater.runs where kind = 'run' order by created_at"
    )


async def now_due(api: Api) -> None:
    await api.database.execute("update slackwater.webhooks set due_at = now() where claimed_until is null")
    api.services.runtime.outbox.nudge()


async def test_a_conversation_in_slack(
    serve: Callable[..., Any], project: Path, team: Slack, tmp_path: Path
) -> None:
    async with serve(gateway=True, project=project, names=("ann",)) as api:
        http = api.client()
        # The URL is entered at Slack; somebody else enters it, too
        hello = {"type": "url_verification", "token": "x", "challenge": "3eZbrw1aB"}
        told = await http.post(URL, **sent(hello))
        assert (told.status_code, told.json()) == (200, {"challenge": "3eZbrw1aB"})
        forged = await http.post(URL, **sent(hello, secret="another secret that nobody has"))
        assert forged.status_code == 401

        # A mention begins a thread; Slack sends it again, as it has heard nothing
        gate = tmp_path / "gate"
        asked = event("app_mention", f"<@U0BOT> wait:{gate}", "1700000001.000100")
        await asyncio.gather(send(http, asked), *(send(http, asked, retry=n) for n in (1, 2, 3)))
        await team.until(NOTICE)
        gate.touch()
        await team.until(f"answer to wait:{gate}")
        [message] = team.shown.values()
        assert (message["channel"], message["thread_ts"]) == ("C1", "1700000001.000100")
        assert team.calls == ["chat.postMessage", "chat.update"]

        # In its thread: once, though a mention comes as two events; without a mention; and with what is not to be obeyed
        again = {"thread_ts": "1700000001.000100"}
        both = [
            event(kind, "<@U0BOT> &lt;b&gt;", "1700000002.000100", **again)
            for kind in ("app_mention", "message")
        ]
        await asyncio.gather(*(send(http, each) for each in both))
        await team.until(f"answer to wait:{gate}", "answer to &lt;b&gt;")
        await send(http, event("message", "&lt;!channel&gt;", "1700000003.000100", **again))
        await team.until(f"answer to wait:{gate}", "answer to &lt;b&gt;", "answer to &lt;!channel&gt;")
        [*_, last] = await runs_of(api)
        assert last["input"] == {"messages": [{"role": "human", "content": "<!channel>"}]}
        assert len({run["thread_id"] for run in await runs_of(api)}) == 1

        # Nobody has called it: people among themselves, other apps, itself, an edit, a thread that it is not in
        for payload in (
            event("message", "a", "1700000004.000100"),
            event("message", "a", "1700000005.000100", thread_ts="1600000000.000100"),
            event("app_mention", "a", "1700000006.000100", bot_id="B1"),
            event("message", "a", "1700000007.000100", subtype="message_changed", **again),
            event("reaction_added", "a", "1700000008.000100", **again),
            {"type": "app_rate_limited"},
        ):
            await send(http, payload)
        assert len(await runs_of(api)) == 3

        # A direct message needs no mention, and is answered beside it
        direct = {"channel": "D1", "channel_type": "im"}
        for n in range(2):
            await send(http, event("message", f"dm {n}", f"1700000010.00010{n}", **direct))
        await team.until(*team.texts[:3], "answer to dm 0", "answer to dm 1")
        assert [m.get("thread_ts") for m in team.shown.values() if m["channel"] == "D1"] == [None, None]
        assert len({run["thread_id"] for run in await runs_of(api)}) == 2

        # A run that waits for somebody says what for
        await send(http, event("message", "ask", "1700000011.000100", **direct))
        await team.until(*team.texts[:5], "Shall I?")
        await _until_none(api)


async def test_an_answer_is_not_lost_and_shown_once(
    serve: Callable[..., Any], project: Path, team: Slack, tmp_path: Path
) -> None:
    """Slack refuses, or loses a message; and the process ends before it is told, and in the middle of it."""
    async with serve(gateway=True, project=project) as api:
        http = api.client()
        # The notice is on its way while the run ends: its answer waits for it
        gate = tmp_path / "first"
        first = f"answer to wait:{gate}"
        team.held = asyncio.Event()
        await send(http, event("app_mention", f"wait:{gate}", "1700000001.000100"))
        await team.until(NOTICE)
        gate.touch()
        await _until(api, "run ->> 'status' = 'success' and claimed_until is not null")
        assert team.calls == ["chat.postMessage"]
        team.held.set()
        await team.until(first)
        await _until_none(api)
        # It is told again, by whoever does not know that it was
        await api.database.execute(
            """insert into slackwater.webhooks (run_id, thread_id, owner, url, run, "values")
               select run_id, thread_id, owner, 'channel:slack', jsonb_build_object('run_id', run_id, 'status', 'success'),
                 jsonb_build_object('messages', jsonb_build_array(jsonb_build_object('type', 'ai', 'content', %s::text)))
               from slackwater.channel_deliveries""",
            [first],
        )
        await now_due(api)
        await _until_none(api)
        assert team.texts == [first]
        # Somebody deletes the notice: the answer is a message of its own
        gate = tmp_path / "second"
        second = f"answer to wait:{gate}"
        await send(http, event("app_mention", f"wait:{gate}", "1700000003.000100"))
        await team.until(first, NOTICE)
        team.shown.popitem()
        gate.touch()
        await team.until(first, second)
        await _until_none(api)
        # Too long to take the place of anything. Slack does not say that the notice is gone before the process ends.
        before, team.held, team.holds = len(team.calls), asyncio.Event(), "chat.delete"
        gate = tmp_path / "third"
        long = f"wait:{'/' * 5000}{gate}"
        await send(http, event("app_mention", long, "1700000004.000100"))
        long = f"answer to {long}"
        await team.until(first, second, NOTICE)
        gate.touch()
        await team.until(first, second, long)
        assert team.calls[before:] == ["chat.postMessage", "chat.postMessage", "chat.delete"]
        # Slack refuses the notice and the answer, and later does not
        team.fails += ["ratelimited", "ratelimited"]
        await send(http, event("app_mention", "fail", "1700000002.000100"))
        await _until(api, "run ->> 'status' = 'error' and attempts = 1 and claimed_until is null")
        assert len(team.shown) == 3
    team.fails.clear()
    before = len(team.calls)
    async with serve(gateway=True, project=project) as other:
        await now_due(other)
        await team.until(first, second, long, FAILED)
        team.held.set()
        await _until_none(other)
    # What was told is not told again
    assert sorted(team.calls[before:]) == ["chat.delete", "chat.postMessage"]


async def _until(api: Api, condition: str) -> None:
    async with asyncio.timeout(15):
        while not await api.database.fetch(f"select 1 from slackwater.webhooks where {condition}"):  # type: ignore[arg-type]
            await asyncio.sleep(0.02)


async def _until_none(api: Api) -> None:
    async with asyncio.timeout(15):
        while await api.database.fetch("select 1 from slackwater.webhooks"):
            await asyncio.sleep(0.02)
