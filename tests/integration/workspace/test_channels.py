"""Channels (1.23, 'Channels'): what comes in by one starts one run, and is answered where it came from."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.api import Api
from support.receiver import Receiver, receiver

from slackwater.errors import SettingsError
from slackwater.identity.scopes import KeyScope
from slackwater.identity.stored_keys import service as keys
from slackwater.webhooks.signature import signature

AGENT = Path(__file__).parent / "dialect" / "agent.py"
SECRET = "a secret that both of us know"
STATES = ("dingtalk", "discord", "feishu", "slack", "telegram", "wechat", "wecom")


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    async with receiver() as one:
        yield one


@pytest.fixture
def project(tmp_path: Path, hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALERTS_SECRET", SECRET)
    alerts = {"name": "alerts", "kind": "webhook", "owner": "ann", "assistant": "lead_agent"}
    content = {
        "graphs": {"lead_agent": f"{AGENT}:graph"},
        "webhooks": {"url": {"disable_loopback": False, "require_https": False}},
        "gateway": {"channels": [{**alerts, "secret": "$ALERTS_SECRET", "reply": hook.url}]},
    }
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "langgraph.json").write_text(json.dumps(content))
    return folder


def signed(
    body: dict[str, Any], delivery: str, *, secret: str = SECRET, at: float | None = None
) -> dict[str, Any]:
    """A request as a sender of Standard Webhooks makes it."""
    content = json.dumps(body).encode()
    sent_at = int(time.time() if at is None else at)
    headers = {
        "webhook-id": delivery,
        "webhook-timestamp": str(sent_at),
        "webhook-signature": f"v1,AAAA {signature(secret.encode(), delivery, sent_at, content)}",
    }
    return {"content": content, "headers": headers}


def said(text: str, conversation: str = "room-7") -> dict[str, Any]:
    return {"conversation_id": conversation, "text": text, "user": "u-1"}


async def until_answered(hook: Receiver, count: int) -> list[dict[str, Any]]:
    return [got.json for got in await hook.until(count)]


async def test_a_delivery_starts_one_run_and_a_conversation_has_one_thread(
    serve: Callable[..., Any], project: Path, hook: Receiver
) -> None:
    """Brought many times at once, to two processes; 'Channels': POST threads and runs, answers after the last human message."""
    async with AsyncExitStack() as stack:
        apis: list[Api] = [
            await stack.enter_async_context(serve(gateway=True, project=project, names=("ann", "bob")))
            for _ in range(2)
        ]
        url = "/api/channels/alerts/webhook"
        both = [api.client() for api in apis] * 4  # nobody's key
        request = signed(said("a"), "d-1")
        answers = await asyncio.gather(*(one.post(url, **request) for one in both))
        assert {answer.status_code for answer in answers} == {202}, answers[0].text
        [first] = {json.dumps(answer.json()) for answer in answers}
        [told] = await until_answered(hook, 1)
        assert json.loads(first) == {"thread_id": told["thread_id"], "run_id": told["run_id"]}
        assert (told["owner"], told["status"]) == ("ann", "success")
        assert told["metadata"].items() >= {"channel": "alerts", "conversation_id": "room-7"}.items()
        assert [m["content"] for m in told["values"]["messages"]] == ["a", "answer to a"]
        assert told["values"]["told"]["context"]["channel_user_id"] == "u-1"

        # The conversation goes on where it was, and others begin: also those that begin at the same moment.
        sent = [("d-2", said("b")), *((f"e-{n}", said(f"c{n}", "room-8")) for n in range(4))]
        taken = await asyncio.gather(
            *(one.post(url, **signed(body, name)) for one, (name, body) in zip(both, sent, strict=False))
        )
        threads = [answer.json()["thread_id"] for answer in taken]
        assert threads[0] == told["thread_id"]
        assert len({*threads}) == 2
        heard = await until_answered(hook, 6)
        assert len({each["run_id"] for each in heard}) == 6
        last = max(
            (each for each in heard if each["thread_id"] == threads[1]), key=lambda e: e["run_ended_at"]
        )
        assert len(last["values"]["messages"]) == 8

        # A delivery stays taken when its thread is deleted; its conversation begins anew.
        ann, bob = apis[0].client("ann"), apis[1].client("bob")
        assert (await bob.get(f"/threads/{told['thread_id']}")).status_code == 404
        assert (await ann.delete(f"/threads/{told['thread_id']}")).status_code == 204
        again = await both[0].post(url, **request)
        assert again.json() == json.loads(first)
        anew = await both[0].post(url, **signed(said("d"), "d-3"))
        assert anew.json()["thread_id"] != told["thread_id"]
        await until_answered(hook, 7)
        assert len(hook.got) == 7


async def test_who_does_not_sign_is_nobody(serve: Callable[..., Any], project: Path, hook: Receiver) -> None:
    """331c949b9, 6.3: no credentials, no run; only administrators restart a channel."""
    async with serve(gateway=True, project=project, names=("ann",), database_keys=True) as api:
        anybody, ann = api.client(), api.client("ann")
        url, now = "/api/channels/alerts/webhook", time.time()
        good = signed(said("a"), "d-1")
        wrong: dict[str, dict[str, Any]] = {
            "another secret": signed(said("a"), "d-1", secret="another secret that nobody has"),
            "long ago": signed(said("a"), "d-1", at=now - 400),
            "to come": signed(said("a"), "d-1", at=now + 400),
            "another body": {**good, "content": good["content"] + b" "},
            "another id": {**good, "headers": {**good["headers"], "webhook-id": "d-2"}},
            "no time": {**good, "headers": {**good["headers"], "webhook-timestamp": "soon"}},
            "nothing": {"content": good["content"]},
        }
        for what, request in wrong.items():
            answer = await anybody.post(url, **request)
            assert answer.status_code == 401, what
            assert "not signed" in str(answer.json()["detail"]), what
        assert (await anybody.post("/api/channels/other/webhook", **good)).status_code == 401
        assert (await ann.post(url, content=good["content"])).status_code == 401  # a key is no signature
        for body in ({}, said(""), {**said("a"), "input": {}}, {"conversation_id": "", "text": "a"}):
            refused = await anybody.post(url, **signed(body, "d-1"))
            assert refused.status_code == 422, refused.text
        large = await anybody.post(url, **signed(said("a" * 1_100_000), "d-1"))
        assert large.status_code == 413
        assert await api.database.fetch("select 1 from slackwater.channel_threads") == []
        assert (await anybody.get(url)).status_code == 405

        # Which there are, and once more what could not be told
        assert (await anybody.get("/api/channels/")).status_code == 401
        shown = (await ann.get("/api/channels/")).json()
        assert shown["service_running"]
        assert shown["channels"] == {
            "alerts": {"enabled": True, "running": True},
            **{name: {"enabled": False, "running": False} for name in STATES},
        }
        secret, _ = await keys.create(api.database, "ann", [KeyScope.RUN])
        no_admin = await api.client(**{"x-api-key": secret}).post("/api/channels/alerts/restart")
        assert no_admin.status_code == 403
        hook.answers[:] = [500]
        assert (await anybody.post(url, **good)).status_code == 202
        await hook.until(1)
        await _until(api, "attempts = 1 and claimed_until is null")
        restarted = await ann.post("/api/channels/alerts/restart")
        assert restarted.json() == {"success": True, "message": "Channel alerts restarted successfully"}
        await hook.until(2)
        none = await ann.post("/api/channels/slack/restart")
        assert none.json() == {"success": False, "message": "Failed to restart channel slack"}


async def _until(api: Api, condition: str) -> None:
    async with asyncio.timeout(15):
        while not await api.database.fetch(f"select 1 from slackwater.webhooks where {condition}"):  # type: ignore[arg-type]
            await asyncio.sleep(0.02)


async def test_a_channel_without_its_secret_keeps_the_server_from_starting(
    serve: Callable[..., Any], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ALERTS_SECRET")
    with pytest.raises(
        SettingsError, match=r"gateway\.channels: alerts: the environment has no ALERTS_SECRET: set it\."
    ):
        async with serve(gateway=True, project=project):
            pass


async def test_without_channels_there_are_none(serve: Callable[..., Any]) -> None:
    """1.23: the service is down."""
    async with serve(gateway=True, project=AGENT.parent) as api:
        http: httpx.AsyncClient = api.client()
        shown = (await http.get("/api/channels/")).json()
        assert shown == {
            "service_running": False,
            "channels": {name: {"enabled": False, "running": False} for name in STATES},
        }
        restarted = await http.post("/api/channels/slack/restart")
        assert (restarted.status_code, "not running" in restarted.json()["detail"]) == (503, True)
