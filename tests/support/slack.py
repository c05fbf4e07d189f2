"""Slack, as far as a channel sees it: it signs its events, and keeps what is posted."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

SIGNING_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
TOKEN = "xoxb-of-the-bot"


@dataclass(eq=False)
class Slack:
    """Its API, on loopback, and what people see."""

    port: int = 0
    shown: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The messages by their `ts`, each as it was posted or updated last."""
    calls: list[str] = field(default_factory=list)
    fails: list[str] = field(default_factory=list)
    """Errors of the next calls."""
    held: asyncio.Event | None = None
    """Until it is set, no call is answered."""
    holds: str = "chat."
    """With what the methods begin that wait for it."""

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.shown.values()]

    async def until(self, *texts: str) -> None:
        """Wait until exactly these are shown, in any order."""
        try:
            async with asyncio.timeout(15):
                while sorted(self.texts) != sorted(texts):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{self.texts} are shown, and not {texts}") from None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in head[1:])}
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            method = head[0].split()[1].rpartition("/")[2]
            answer = self.answer(method, headers, body)
            if self.held is not None and method.startswith(self.holds):
                await self.held.wait()
            content = json.dumps(answer).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (len(content), content)
            )
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def answer(self, method: str, headers: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(method)
        if headers["authorization"] != f"Bearer {TOKEN}":
            return {"ok": False, "error": "invalid_auth"}
        if self.fails:
            return {"ok": False, "error": self.fails.pop(0)}
        ts = body.get("ts") or f"1700000000.{len(self.calls):06}"
        if "ts" in body and ts not in self.shown:
            return {"ok": False, "error": "message_not_found"}
        if method == "chat.delete":
            del self.shown[ts]
        elif method == "chat.update" and len(body["text"]) > 4000:
            return {"ok": False, "error": "msg_too_long"}
        else:
            self.shown[ts] = {**self.shown.get(ts, {}), **body}
        return {"ok": True, "channel": body["channel"], "ts": ts}


@asynccontextmanager
async def slack() -> AsyncIterator[Slack]:
    """One that is up."""
    one = Slack()
    server = await asyncio.start_server(one.serve, "127.0.0.1")
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()


def sent(payload: dict[str, Any], *, secret: str = SIGNING_SECRET, retry: int = 0) -> dict[str, Any]:
    """A request as Slack makes it."""
    content, now = json.dumps(payload).encode(), int(time.time())
    digest = hmac.new(secret.encode(), b"v0:%d:%b" % (now, content), hashlib.sha256).hexdigest()
    headers = {"x-slack-request-timestamp": str(now), "x-slack-signature": f"v0={digest}"}
    if retry:
        headers |= {"x-slack-retry-num": str(retry), "x-slack-retry-reason": "http_timeout"}
    return {"content": content, "headers": headers}


def event(kind: str, text: str, ts: str, **fields: Any) -> dict[str, Any]:
    """The payload of an event, as Slack's documentation has it."""
    said = {"type": kind, "channel": "C1", "user": "U1", "text": text, "ts": ts, "event_ts": ts, **fields}
    return {
        "type": "event_callback",
        "team_id": "T1",
        "api_app_id": "A1",
        "event_id": f"Ev-{kind}-{ts}",
        "event_time": int(float(ts)),
        "event": said,
    }
