"""How requests reach a server: by HTTP and WebSocket from a client, or as events of AWS Lambda from what stands in front."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from slackwater.emulator import events
from slackwater.kit import sse
from slackwater.web.route_table import WEBSOCKET
from tests.integration.identity.matrix.asks import OPENED, Request
from tests.support.emulator import LocalEnvironment
from tests.support.server import ROOT


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. A WebSocket that is closed with 4401 has the status 401."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def all(self) -> str:
        return "\n".join([*(f"{name}: {value}" for name, value in self.headers.items()), self.text])


Way = Callable[[Request, bool], Awaitable[Answer]]
"""`await way(request, endless)`: with what an endless answer has to say of what there is already."""


def by_http(client: httpx.AsyncClient) -> Way:
    """To a server, by real sockets."""

    async def send(request: Request, endless: bool) -> Answer:
        if request.method == WEBSOCKET:
            return await _by_socket(f"{client.base_url}".replace("http", "ws", 1).rstrip("/"), request)
        sent = client.build_request(
            request.method, request.path, content=request.body, headers=request.headers
        )
        answer = await client.send(sent, stream=True)
        body = b""
        async for chunk in answer.aiter_bytes():
            body += chunk
            if endless and sse.HEARTBEAT in body:
                break
        await answer.aclose()
        return Answer(answer.status_code, dict(answer.headers), body.decode(errors="replace"))

    return send


async def _by_socket(base: str, request: Request) -> Answer:
    """What is said until the second command is answered, or until it is closed."""
    heard: list[str] = []
    command = {"id": 1, "method": "subscription.subscribe", "params": {"channels": ["values", "lifecycle"]}}
    tree = {"id": 2, "method": "agent.getTree", "params": {}}
    async with connect(
        f"{base}{request.path}", additional_headers=request.headers, open_timeout=15
    ) as socket:
        try:
            for message in (command, tree):
                await socket.send(json.dumps(message))
            async for said in socket:
                heard.append(str(said))
                if '"id":2' in heard[-1]:
                    return Answer(OPENED, {}, "\n".join(heard))
        except ConnectionClosed:
            pass
    code = socket.close_code or 0
    status = code - 4000 if code > 4000 else OPENED
    return Answer(status, {}, "\n".join([*heard, socket.close_reason or ""]))


# AWS Lambda


def http_api(request: Request) -> dict[str, object]:
    """The event of an HTTP API: format 2.0."""
    return events.from_request(_scope(request), request.body or b"")


def function_url(request: Request) -> dict[str, object]:
    return events.from_request(_scope(request), request.body or b"", streams=True)


def rest_api(request: Request) -> dict[str, object]:
    """The event of a REST API: format 1.0."""
    event: dict[str, object] = json.loads((ROOT / "events" / "rest_api.json").read_text())
    path, _, query = request.path.partition("?")
    headers = {"Host": "127.0.0.1", **request.headers}
    pairs = parse_qsl(query)
    return {
        **event,
        "path": path,
        "httpMethod": request.method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": dict(pairs) or None,
        "multiValueQueryStringParameters": {name: [value] for name, value in pairs} or None,
        "body": None if request.body is None else request.body.decode(),
    }


EVENTS = (http_api, rest_api, function_url)


def by_events(environment: LocalEnvironment) -> Way:
    """To a function, by all kinds of events."""

    async def send(request: Request, endless: bool) -> Answer:
        reply = await environment.invoke(EVENTS[request.kind % len(EVENTS)](request))
        assert reply.error is None, reply.payload
        payload = reply.payload
        body = payload.get("body") or ""
        if payload.get("isBase64Encoded"):
            body = base64.b64decode(body).decode(errors="replace")
        headers = payload.get("headers") or {
            name: ", ".join(values) for name, values in (payload.get("multiValueHeaders") or {}).items()
        }
        return Answer(payload["statusCode"], {name.lower(): value for name, value in headers.items()}, body)

    return send


def _scope(request: Request) -> dict[str, object]:
    path, _, query = request.path.partition("?")
    return {
        "method": request.method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "http_version": "1.1",
        "headers": [(name.encode(), value.encode()) for name, value in request.headers.items()],
        "client": ("203.0.113.9", 1),
    }
