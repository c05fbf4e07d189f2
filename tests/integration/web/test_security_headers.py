"""What a browser is told of every response, whoever makes it, and HSTS only where the request came over TLS."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.api import Api
from support.server import fleet_of

GRAPHS = Path(__file__).parents[2] / "graphs" / "graphs.py"

NOTHING_BUT_READ = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
NAMES = {*NOTHING_BUT_READ, "strict-transport-security"}

APP = """
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.middleware.base import BaseHTTPMiddleware

app = FastAPI()

@app.middleware("http")
async def passes_on(request, call_next):
    return await call_next(request)

@app.get("/page")
async def page():
    return HTMLResponse("<script src=/page.js></script>")

@app.get("/careful")
async def careful():
    return HTMLResponse("", headers={"Content-Security-Policy": "sandbox", "referrer-policy": "origin"})

@app.get("/broken")
async def broken():
    raise RuntimeError("mine")
"""

Serve = Callable[..., Any]


def told(answer: httpx.Response) -> dict[str, str]:
    """The headers for browsers, each of which is there once."""
    found = [(name, value) for name, value in answer.headers.multi_items() if name in NAMES]
    assert len(dict(found)) == len(found), found
    return dict(found)


async def test_every_response_has_them(serve: Serve, subtests: pytest.Subtests) -> None:
    async with serve(names=("maria",), cors_allow_origins=("https://a.example",), max_body_bytes=1000) as api:
        http, stranger = api.client("maria"), api.client()
        run = {"assistant_id": "echo", "input": {"text": "hi"}}
        page = {"origin": "https://a.example"}
        asking = {**page, "access-control-request-method": "POST"}
        for status, answer in (
            (200, await http.get("/ok")),
            (200, await http.head("/ok")),
            (200, await http.post("/threads", json={})),
            (200, await http.get("/openapi.json")),
            (200, await http.get("/metrics")),
            (200, await http.post("/runs/wait", json=run)),
            (200, await http.post("/runs/stream", json=run)),
            (401, await stranger.post("/threads", json={})),
            (401, await stranger.post("/threads", json={}, headers=page)),
            (200, await stranger.options("/threads", headers=asking)),
            (400, await stranger.options("/threads", headers={**asking, "origin": "https://b.example"})),
            (404, await http.get("/nothing")),
            (404, await http.get("/threads/00000000-0000-0000-0000-000000000000")),
            (405, await http.delete("/ok")),
            (413, await http.post("/threads", json={"metadata": {"a": "b" * 1000}})),
            (422, await http.post("/threads", content="{")),
        ):
            with subtests.test(status=status, url=str(answer.url)):
                assert answer.status_code == status
                assert told(answer) == NOTHING_BUT_READ


async def test_so_has_what_nobody_expected(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The 500 is made outside of everything else."""
    from slackwater.api.system import queries

    async def fails(*_: Any) -> bool:
        raise RuntimeError("unexpected")

    monkeypatch.setattr(queries, "answers", fails)
    async with serve() as api:
        transport = httpx.ASGITransport(with_state(api), client=("127.0.0.1", 1), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            answer = await http.get("/ok?check_db=1")
    assert answer.status_code == 500
    assert told(answer) == NOTHING_BUT_READ


async def test_so_has_a_refusal_of_the_guard(api: Api) -> None:
    answer = await api.client(peer="203.0.113.9").get("/ok")
    assert answer.status_code == 403
    assert told(answer) == NOTHING_BUT_READ


async def test_over_tls_the_browser_is_told_to_stay_there(serve: Serve) -> None:
    async with serve(names=("maria",)) as api:
        transport = httpx.ASGITransport(with_state(api))
        async with httpx.AsyncClient(transport=transport) as http:
            # What a caller says of itself counts for nothing: only the server knows which proxy it trusts.
            plain = await http.get("http://api.example/ok", headers={"x-forwarded-proto": "https"})
            safe = await http.get("https://api.example/ok")
            refused = await http.get("https://api.example/threads/x")
    assert told(plain) == NOTHING_BUT_READ
    assert refused.status_code == 401
    assert (
        told(safe) == told(refused) == {**NOTHING_BUT_READ, "strict-transport-security": "max-age=31536000"}
    )


@pytest.mark.parametrize(("trusted", "safe"), [("127.0.0.1", True), ("10.9.8.7", False)])
async def test_only_a_trusted_proxy_says_that_it_was_tls(
    database_uri: str, tmp_path: Path, trusted: str, safe: bool
) -> None:
    env = {"SLACKWATER_TRUSTED_PROXIES": trusted, "SLACKWATER_API_KEYS": f"maria:{'0' * 64}"}
    async with fleet_of(database_uri, tmp_path, GRAPHS.parent, env) as fleet:
        (server,) = await fleet.start()
        async with httpx.AsyncClient(base_url=server.url) as http:
            answer = await http.get("/ok", headers={"x-forwarded-proto": "https"})
    assert answer.status_code == 200
    assert ("strict-transport-security" in told(answer)) is safe


async def test_a_page_of_the_projects_own_loads_what_it_likes(serve: Serve, tmp_path: Path) -> None:
    # GIVEN a project with pages of its own, one of which knows what it needs
    (tmp_path / "web.py").write_text(APP)
    (tmp_path / "graphs.py").write_text(GRAPHS.read_text())
    (tmp_path / "langgraph.json").write_text(
        json.dumps({"graphs": {"echo": "./graphs.py:echo"}, "http": {"app": "./web.py:app"}})
    )
    async with serve(project=tmp_path) as api:
        http = api.client()
        page, careful = await http.get("/page"), await http.get("/careful")
        api_answer, absent = await http.post("/threads", json={}), await http.get("/nothing")

    # THEN the policy is the page's affair, and everything else is as everywhere
    rest = {name: value for name, value in NOTHING_BUT_READ.items() if name != "content-security-policy"}
    assert told(page) == rest
    assert told(careful) == {**rest, "content-security-policy": "sandbox", "referrer-policy": "origin"}
    # AND through its middleware, what the API answers is the API's
    assert (api_answer.status_code, absent.status_code) == (200, 404)
    assert told(api_answer) == told(absent) == NOTHING_BUT_READ


def with_state(api: Api) -> Any:
    """The application, as a server calls it that has entered its lifespan."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await api.app({**scope, "state": dict(api.state)}, receive, send)

    return app
