"""Accounts behind the gateways of AWS: two cookies in one answer, in the form that each of them wants, and cookies of requests."""

from __future__ import annotations

import base64
import json
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.handler.scene import Scene
from tests.support.emulator import LocalEnvironment, Reply
from tests.support.server import ROOT

AUTH = "/api/v1/auth"
EVENTS = Path(ROOT / "events")
ACCOUNT = {"email": "maria@example.org", "password": "correct horse battery"}
FORM = urlencode({"username": ACCOUNT["email"], "password": ACCOUNT["password"]})

SOURCES = ("http_api_ok", "rest_api", "function_url")


def event(source: str, method: str, path: str, body: str | None = None, **headers: str) -> dict[str, Any]:
    """The event that this source makes of a request without a key."""
    made: dict[str, Any] = json.loads((EVENTS / f"{source}.json").read_text())
    made["headers"] = {
        name: value for name, value in made["headers"].items() if name.lower() != "x-api-key"
    } | headers
    cookie = made["headers"].pop("cookie", None)
    if made.get("version") == "2.0":
        http = made["requestContext"]["http"]
        made |= {"rawPath": path, "rawQueryString": ""}
        made["requestContext"] = {**made["requestContext"], "http": {**http, "method": method, "path": path}}
        if cookie is not None:
            made["cookies"] = cookie.split("; ")
    else:
        made |= {"path": path, "httpMethod": method}
        if cookie is not None:
            made["headers"]["cookie"] = cookie
        made["multiValueHeaders"] = {name: [value] for name, value in made["headers"].items()}
    if body is not None:
        # Gateways encode what they do not take for text
        made |= {"body": base64.b64encode(body.encode()).decode(), "isBase64Encoded": True}
    return made


def cookies_of(reply: Reply) -> dict[str, Any]:
    payload = reply.payload
    many = payload.get("multiValueHeaders") or {}
    lines = payload.get("cookies") or next(
        (value for name, value in many.items() if name.lower() == "set-cookie"), []
    )
    return {name: morsel for line in lines for name, morsel in SimpleCookie(line).items()}


@pytest.fixture
async def environment(scene: Scene) -> LocalEnvironment:
    return await scene.environment(
        env={"SLACKWATER_API_KEYS": "", "SLACKWATER_ACCOUNTS": "true", "SLACKWATER_SETUP": "open"}
    )


async def test_accounts_behind_each_gateway(environment: LocalEnvironment, subtests: pytest.Subtests) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    made = await environment.invoke(
        event(
            "http_api_ok",
            "POST",
            f"{AUTH}/initialize",
            json.dumps(ACCOUNT),
            **{"content-type": "application/json"},
        )
    )
    assert made.status == 201
    for source in SOURCES:
        with subtests.test(source=source):
            refused = await environment.invoke(event(source, "GET", f"{AUTH}/me"))
            assert (refused.status, refused.body["detail"]["code"]) == (401, "not_authenticated")
            reply = await environment.invoke(event(source, "POST", f"{AUTH}/login/local", FORM, **form))
            assert reply.status == 200, reply
            cookies = cookies_of(reply)
            assert cookies.keys() == {"access_token", "csrf_token"}
            for cookie in cookies.values():  # the gateway's event says that it was called with TLS
                assert (cookie["secure"], cookie["max-age"] != "") == (True, True)
            sent = "; ".join(f"{name}={cookie.value}" for name, cookie in cookies.items())
            me = await environment.invoke(event(source, "GET", f"{AUTH}/me", cookie=sent))
            assert (me.status, me.body["email"]) == (200, ACCOUNT["email"])
            csrf = {"x-csrf-token": cookies["csrf_token"].value, "content-type": "application/json"}
            thread = await environment.invoke(event(source, "POST", "/threads", "{}", cookie=sent, **csrf))
            assert thread.status == 200
            sessions = await environment.invoke(event(source, "GET", f"{AUTH}/sessions", cookie=sent))
            (current,) = [each for each in sessions.body if each["current"]]
            assert current["address"] == "203.0.113.7"
            out = await environment.invoke(event(source, "POST", f"{AUTH}/logout", cookie=sent))
            assert (out.status, len(cookies_of(out))) == (200, 2)
            again = await environment.invoke(event(source, "GET", f"{AUTH}/me", cookie=sent))
            assert (again.status, again.body["detail"]["code"]) == (401, "token_invalid")
