"""A page of the server's own origin sets up the first administrator, changes the password, logs out and in again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.browser import Chromium
from tests.support.server import fleet_of

pytestmark = pytest.mark.drill

GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
graph = StateGraph(TypedDict("State", {"text": str})).add_node("node", print).add_edge(START, "node")
"""

# It is on every path: a mount at `/` must not hide the routes of accounts.
APP = '''
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Mount

PAGE = """<!doctype html>
<title>Accounts</title>
<body></body>
<script>
const token = () => decodeURIComponent(document.cookie.match(/(?:^|; )csrf_token=([^;]*)/)?.[1] ?? "");

async function call(method, name, body, headers = {}) {
  const answer = await fetch("/api/v1/auth/" + name, {method, body, headers, credentials: "include"});
  const text = await answer.text();
  return {status: answer.status, ...(text ? JSON.parse(text) : {})};
}
const json = (value) => JSON.stringify(value);
const JSON_BODY = {"Content-Type": "application/json"};
const initialize = (email, password) => call("POST", "initialize", json({email, password}), JSON_BODY);
const login = (username, password) => call("POST", "login/local", new URLSearchParams({username, password}));
const me = () => call("GET", "me");
const change = (current_password, new_password, more = {}) =>
  call("POST", "change-password", json({current_password, new_password}), {...JSON_BODY, "X-CSRF-Token": token(), ...more});
const logout = () => call("POST", "logout");
</script>
"""

app = Starlette(routes=[Mount("/", app=HTMLResponse(PAGE))])
'''


async def test_from_the_link_in_the_log_to_the_login_with_the_new_password(
    database_uri: str, tmp_path: Path, chromium: Chromium
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "agent.py").write_text(GRAPH)
    (project / "web.py").write_text(APP)
    config = '{"graphs": {"agent": "./agent.py:graph"}, "http": {"app": "./web.py:app"}}'
    (project / "langgraph.json").write_text(config)
    env = {"SLACKWATER_ACCOUNTS": "true", "SLACKWATER_SETUP": "token"}
    async with fleet_of(database_uri, tmp_path, project, env) as fleet:
        (server,) = await fleet.start()
        page = chromium.page()

        async def run(expression: str) -> dict[str, object]:
            return dict(await page.call("evaluate", expression))

        # WHEN somebody opens the link
        (link,) = set(re.findall(r"/api/v1/auth/setup\?token=[\w-]+", server.tail(100_000)))
        await page.call("goto", f"{server.url}{link}")
        # THEN they are at the page's form, which has no field for the token
        assert await page.call("evaluate", "location.pathname") == "/setup"
        made = await run("initialize('maria@example.org', 'correct horse battery')")
        assert (made["status"], made["system_role"]) == (201, "admin")
        assert (await run("me()"))["email"] == "maria@example.org"
        # AND no script reads the token of the session
        assert "access_token" not in str(await page.call("evaluate", "document.cookie"))

        forged = await run("change('correct horse battery', 'staple horse correct', {'X-CSRF-Token': 'x'})")
        assert forged["status"] == 403
        assert (await run("change('correct horse battery', 'staple horse correct')"))["status"] == 200
        assert (await run("me()"))["status"] == 200
        assert (await run("logout()"))["status"] == 200
        assert await page.call("evaluate", "document.cookie") == ""
        assert (await run("me()"))["status"] == 401
        assert (await run("login('maria@example.org', 'correct horse battery')"))["status"] == 401
        assert (await run("login('Maria@Example.org', 'staple horse correct')"))["status"] == 200
        assert (await run("me()"))["id"] == made["id"]
        assert await page.problems() == []
