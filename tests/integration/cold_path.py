"""What a process has imported, step by step: run by `test_cold_path.py` in a fresh interpreter. Prints one JSON object."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

HEAVY = (
    "langgraph",
    "langchain_core",
    "langsmith",
    "langgraph_sdk",
    "mcp",
    "mcp_types",
    "a2a",
    "boto3",
    "botocore.session",
    "typer",
    "rich",
    "uvicorn",
    "slackwater_lambda",
    "slackwater.web.middleware.custom_app",
    "slackwater.web.sdk_transport",
    "slackwater.postgres.embedded",
    "slackwater.runtime.execution.loaded",
)

MISSING = "00000000-0000-4000-8000-000000000000"

seen: dict[str, list[str]] = {}


def look(step: str) -> None:
    seen[step] = [name for name in HEAVY if name in sys.modules]


async def call(app: Any, state: Any, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """One request, without a client library: those import half of what is looked for."""
    sent: list[dict[str, Any]] = []
    data = b"" if body is None else json.dumps(body).encode()

    messages = [{"type": "http.request", "body": data, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        return await asyncio.Future()  # the client stays

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    path, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), *HEADERS],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": dict(state),
    }  # fmt: skip
    async with asyncio.timeout(20):
        await app(scope, receive, send)
    answer = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads(answer) if answer else None


HEADERS: list[tuple[bytes, bytes]] = []


async def main() -> None:
    from slackwater.api.assistants.service import system_id
    from slackwater.identity.keys import new_key
    from slackwater.main import create_app
    from slackwater.settings import Settings

    look("import")
    secret, key = new_key("alice")
    HEADERS.append((b"x-api-key", secret.encode()))
    app = create_app(Settings.load(api_keys=(key,)))
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        look("lifespan")
        requests: list[tuple[str, str, object]] = [
            ("GET", "/ok?check_db=1", None),
            ("GET", "/ready", None),
            ("GET", "/info", None),
            ("POST", "/assistants/search", {}),
            ("POST", "/assistants/count", {}),
            ("GET", f"/assistants/{MISSING}", None),
            ("POST", "/threads", {}),
            ("POST", "/threads/search", {}),
            ("GET", f"/threads/{MISSING}", None),
            ("GET", f"/threads/{MISSING}/runs/{MISSING}", None),
            ("POST", f"/threads/{MISSING}/runs", {"assistant_id": MISSING}),
            ("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "initialize"}),
            ("POST", "/a2a/flow", {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"id": "x"}}),
            ("GET", "/openapi.json", None),
        ]
        for method, path, body in requests:
            status, answer = await call(app, state, method, path, body)
            step = f"{method} {path} {status}"
            look(step)
            if path == "/threads":
                thread_id = answer["thread_id"]
        for path in ("", "/runs", "/state", "/history"):
            status, _ = await call(app, state, "GET", f"/threads/{thread_id}{path}")
            look(f"GET thread{path} {status}")
        services = state["services"]
        await services.runtime.sweep()
        look("sweep")
        await services.runtime.worker._take(1)
        look("claim of nothing")
        path = f"/assistants/{system_id('flow')}"
        named = (await call(app, state, "GET", path))[1]["name"]
        # Outside an invocation's window a run is taken in for others.
        run = {"assistant_id": "flow", "input": {"text": "a"}}
        look(f"POST run {(await call(app, state, 'POST', f'/threads/{thread_id}/runs', run))[0]}")
        services.runtime.open_window(time.monotonic() + 30)
        await services.runtime.work(time.monotonic() + 20)
        worked = (await call(app, state, "GET", f"/threads/{thread_id}"))[1]["values"]
        told = {
            graph: (
                await call(app, state, "POST", "/runs/wait", {"assistant_id": graph, "input": {"text": "a"}})
            )[1]
            for graph in ("flow", "broken")
        }
        look("runs")
        renamed = (await call(app, state, "GET", path))[1]["name"]
        refused = await call(app, state, "GET", f"/assistants/{system_id('broken')}/graph")
    print(
        json.dumps(
            {"seen": seen, "names": [named, renamed], "told": told, "worked": worked, "refused": refused}
        )
    )


asyncio.run(main())
