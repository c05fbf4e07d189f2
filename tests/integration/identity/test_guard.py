"""Without keys one guard stands before everything: the project's own routes, what is public, preflights, WebSockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.api import Api
from support.server import ServerProcess, address_of_this_machine, fleet_of

from slackwater.kit.ids import uuid7

GRAPHS = Path(__file__).parents[2] / "graphs" / "graphs.py"

APP = """
from fastapi import FastAPI, WebSocket
from starlette.middleware.base import BaseHTTPMiddleware

asked = []
app = FastAPI()

@app.middleware("http")
async def seen(request, call_next):
    asked.append(request.url.path)
    return await call_next(request)

@app.get("/my/notes")
async def notes():
    return {"secret": "local notes"}

@app.post("/my/delete")
async def delete():
    return {"asked": asked}

@app.websocket("/my/socket")
async def talk(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text("local notes")
    await websocket.close()
"""

Serve = Callable[..., Any]
Header = tuple[bytes, bytes]

HERE: tuple[Header, ...] = ((b"host", b"127.0.0.1:2024"),)
PAGE = (b"origin", b"http://localhost:3000")
ELSEWHERE: dict[str, tuple[Header, ...]] = {
    "a rebound name": ((b"host", b"evil.example:2024"),),
    "a name that only begins well": ((b"host", b"localhost.evil.example"),),
    "credentials before a name": ((b"host", b"evil.example@localhost"),),
    "no host": (),
    "an empty host": ((b"host", b""),),
    "two hosts": ((b"host", b"localhost"), (b"host", b"evil.example")),
    "a foreign page": (*HERE, (b"origin", b"https://evil.example")),
    "a page without an origin of its own": (*HERE, (b"origin", b"null")),
    "two origins": (*HERE, PAGE, (b"origin", b"https://evil.example")),
    **{
        f"a proxy that says {name}": (*HERE, (name.encode(), value.encode()))
        for name, value in (
            ("forwarded", "for=127.0.0.1"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "localhost"),
            ("x-forwarded-proto", ""),
            ("x-real-ip", "127.0.0.1"),
            ("via", "1.1 proxy"),
        )
    },
}
PATHS = (
    ("GET", "/"),
    ("GET", "/ok"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("HEAD", "/info"),
    ("POST", "/threads"),
    ("POST", "/threads/search"),
    ("OPTIONS", "/threads"),
    ("GET", "/my/notes"),
    ("POST", "/my/delete"),
    ("GET", "/nowhere"),
)


@pytest.fixture
def own(serve: Serve, tmp_path: Path) -> Serve:
    """Serves a project with an application of its own, and this `http` block besides."""

    @asynccontextmanager
    async def own(http: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[Api]:
        async with serve(project=project(tmp_path, http), **settings) as api:
            yield api

    return own


def project(folder: Path, http: dict[str, Any] | None = None) -> Path:
    (folder / "web.py").write_text(APP)
    (folder / "graphs.py").write_text(GRAPHS.read_text())
    content = {"graphs": {"echo": "./graphs.py:echo"}, "http": {"app": "./web.py:app", **(http or {})}}
    (folder / "langgraph.json").write_text(json.dumps(content))
    return folder


async def ask(
    api: Api,
    method: str,
    path: str,
    headers: Sequence[Header],
    *,
    client: tuple[str, int] | None = ("127.0.0.1", 1),
    kind: str = "http",
) -> list[dict[str, Any]]:
    """What the application sends upon a request, or a handshake, with exactly these headers."""
    scope: dict[str, Any] = {
        "type": kind,
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "client": client,
        "server": ("127.0.0.1", 2024),
        "subprotocols": [],
        "state": dict(api.state),
    }
    if kind == "websocket":
        del scope["method"]
    received = asyncio.Queue[dict[str, Any]]()
    first = {"type": "websocket.connect"} if kind == "websocket" else {"type": "http.request", "body": b"{}"}
    received.put_nowait(first)
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(15):
        await api.app(scope, received.get, send)
    return sent


@pytest.mark.parametrize(
    "http",
    [
        None,
        {"mount_prefix": "/agents"},
        {"enable_custom_route_auth": True, "middleware_order": "auth_first"},
        {"cors": {"allow_origins": ["*", "https://evil.example"], "allow_origin_regex": ".*"}},
    ],
    ids=["plain", "prefix", "auth first", "open cors"],
)
async def test_nothing_from_elsewhere_reaches_anything(
    own: Serve, http: dict[str, Any] | None, subtests: pytest.Subtests
) -> None:
    asking = [(b"access-control-request-method", b"POST")]
    prefix = (http or {}).get("mount_prefix", "")
    async with own(http) as api:
        for place, headers in ELSEWHERE.items():
            for method, path in PATHS:
                with subtests.test(place=place, method=method, path=path):
                    extra = asking if method == "OPTIONS" else []
                    start, *_ = await ask(api, method, prefix + path, [*headers, *extra])
                    assert start["status"] == 403
                    assert b"access-control-allow-origin" not in dict(start["headers"])
            for path in ("/my/socket", f"/threads/{uuid7()}/stream/events"):
                with subtests.test(place=place, websocket=path):
                    sent = await ask(api, "GET", prefix + path, headers, kind="websocket")
                    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
                    assert sent[-1]["code"] == 4403
        # AND its own middleware was not asked either
        answer = await api.client().post(f"{prefix}/my/delete")
        assert answer.json() == {"asked": [f"{prefix}/my/delete"]}


@pytest.mark.parametrize("client", [None, ("10.1.2.3", 1), ("2001:db8::1", 1), ("", 0), ("unix", 1)])
async def test_who_is_not_seen_to_be_here_is_elsewhere(
    own: Serve, client: tuple[str, int] | None, subtests: pytest.Subtests
) -> None:
    """Behind a Unix socket there is no peer, and mostly a proxy."""
    async with own() as api:
        for method, path in PATHS:
            with subtests.test(method=method, path=path):
                start, body = await ask(api, method, path, HERE, client=client)
                assert start["status"] == 403
                assert method == "HEAD" or b"slackwater keys new" in body["body"]


async def test_this_machine_is_served_by_all_its_names(own: Serve, subtests: pytest.Subtests) -> None:
    async with own() as api:
        for peer in ("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"):
            for host in (b"localhost", b"LocalHost:1", b"127.0.0.1:65535", b"[::1]:2024", b"127.1.2.3"):
                for origin in (
                    [],
                    [PAGE],
                    [(b"origin", b"https://127.0.0.1")],
                    [(b"origin", b"http://[::1]:8")],
                ):
                    with subtests.test(peer=peer, host=host, origin=origin):
                        headers = [(b"host", host), *origin]
                        start, *_ = await ask(api, "GET", "/my/notes", headers, client=(peer, 1))
                        assert start["status"] == 200
                        told = dict(start["headers"]).get(b"access-control-allow-origin")
                        assert told == (origin[0][1] if origin else None)


async def test_with_keys_the_keys_decide_and_not_the_guard(own: Serve) -> None:
    async with own({"enable_custom_route_auth": True}, names=("maria",)) as api:
        key = (b"x-api-key", api.secrets["maria"].encode())
        for headers in ELSEWHERE.values():
            start, *_ = await ask(api, "POST", "/threads", [*headers, key], client=("203.0.113.9", 1))
            assert start["status"] == 200
            start, *_ = await ask(api, "GET", "/my/notes", headers, client=("203.0.113.9", 1))
            assert start["status"] == 401


async def test_origins_that_cors_would_let_in_are_named_in_a_warning(
    own: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with own(cors_allow_origins=("https://a.example", "http://localhost:3000")) as api:
        start, *_ = await ask(api, "GET", "/ok", [*HERE, PAGE])
        assert dict(start["headers"])[b"access-control-allow-origin"] == PAGE[1]
        start, *_ = await ask(api, "GET", "/ok", [*HERE, (b"origin", b"http://localhost:3001")])
        assert b"access-control-allow-origin" not in dict(start["headers"])
    (warned,) = [record for record in caplog.records if "slackwater keys new" in record.getMessage()]
    assert "https://a.example" in warned.getMessage()
    assert "localhost" not in warned.getMessage()


# With a real server in between


async def raw(server: ServerProcess, host: str, *lines: str, path: str = "/my/notes") -> int:
    """The status of the answer to a request with exactly these header lines."""
    reader, writer = await asyncio.open_connection(host, int(server.url.rpartition(":")[2]))
    try:
        writer.write("\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode())
        async with asyncio.timeout(15):
            return int((await reader.readline()).split()[1])
    finally:
        writer.close()


async def test_plain_uvicorn_that_believes_every_proxy(database_uri: str, tmp_path: Path) -> None:
    """uvicorn replaces the peer by what X-Forwarded-For says, before anything of ours sees the request."""
    env = {"FORWARDED_ALLOW_IPS": "*", "UVICORN_HOST": "0.0.0.0"}
    (tmp_path / "project").mkdir()
    async with fleet_of(database_uri, tmp_path, project(tmp_path / "project"), env) as fleet:
        (server,) = await fleet.start(uvicorn=True)
        here = "Host: localhost:2024"
        assert await raw(server, "127.0.0.1", here) == 200
        for path in ("/my/notes", "/ok", "/threads/x"):
            elsewhere = address_of_this_machine()
            assert await raw(server, elsewhere, here, path=path) == 403
            assert await raw(server, elsewhere, here, "X-Forwarded-For: 127.0.0.1", path=path) == 403
            assert await raw(server, "127.0.0.1", here, "X-Forwarded-For: 127.0.0.1", path=path) == 403
            assert await raw(server, "127.0.0.1", "Host: evil.example", path=path) == 403
            assert await raw(server, "127.0.0.1", path=path) in (400, 403)
            assert await raw(server, "127.0.0.1", here, "Host: evil.example", path=path) in (400, 403)
