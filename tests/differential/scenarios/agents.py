"""Assistants for other agents: MCP and A2A."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from tests.differential.scenario import scenario
from tests.differential.script import Answer, Script

NOBODY = "00000000-0000-4000-8000-000000000000"
JSON = {"accept": "application/json, text/event-stream"}


def request(method: str, params: dict[str, Any] | None = None, *, number: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, **({"params": params} if params else {})}


@scenario("mcp.calls")
async def mcp(s: Script) -> None:
    async def call(method: str, params: dict[str, Any] | None = None, **headers: str) -> Answer:
        return await s.post(
            "/mcp", request(method, params), headers={**JSON, **headers}, label=f"POST /mcp {method}"
        )

    for version in ("2025-06-18", "2025-03-26", "2024-11-05", "1999-01-01"):
        client = {"name": "differential", "version": "1"}
        await call("initialize", {"protocolVersion": version, "capabilities": {}, "clientInfo": client})
    await call("ping")
    tools = await s.ask("POST", "/mcp", request("tools/list"), headers=JSON)
    by_name = {tool["name"]: tool for tool in tools["result"]["tools"]}
    s.note("tools", {name: by_name[name] for name in ("chat", "echo", "steps") if name in by_name})
    await call("tools/call", {"name": "steps", "arguments": {"n": 1}})
    await call("tools/call", {"name": "fail", "arguments": {"text": "x"}})
    await call("tools/call", {"name": "nobody", "arguments": {}})
    await call("nonsense")
    await s.post(
        "/mcp",
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        headers=JSON,
        label="POST /mcp notification",
    )


@scenario("mcp.refusals")
async def mcp_refusals(s: Script) -> None:
    # As the official document has it, with a slash.
    for method in ("GET", "POST", "DELETE"):
        await s.call(method, "/mcp/")
    await s.get("/mcp", headers={"accept": "application/json"})
    await s.delete("/mcp")
    await s.post("/mcp", request("ping"), headers={"accept": "text/html"})
    await s.post("/mcp", b"{", headers=JSON)
    await s.post("/mcp", [], headers=JSON)
    await s.post("/mcp", {"id": 1}, headers=JSON)


def message(text: str, **more: Any) -> dict[str, Any]:
    return {
        "message": {
            "role": "user",
            "parts": [{"kind": "text", "text": text}],
            "messageId": "m-1",
            "kind": "message",
            **more,
        }
    }


@scenario("a2a.calls")
async def a2a(s: Script) -> None:
    assistant = (await s.ask("POST", "/assistants", {"graph_id": "chat", "name": "Talker"}))["assistant_id"]
    path = f"/a2a/{assistant}"

    async def call(method: str, params: dict[str, Any]) -> Answer:
        return await s.post(path, request(method, params), headers=JSON, label=f"POST /a2a {method}")

    await s.get(f"{path}/.well-known/agent-card.json")
    await s.get(f"/.well-known/agent-card.json?assistant_id={assistant}")
    await s.get("/.well-known/agent-card.json")
    sent = await call("message/send", message("hello"))
    task = sent["result"]["id"]
    await call("tasks/get", {"id": task})
    await call("tasks/get", {"id": f"{NOBODY}:{NOBODY}"})
    await call("tasks/cancel", {"id": f"{NOBODY}:{NOBODY}"})
    await call("nonsense", {})
    streamed = await s.ask(
        "POST",
        path,
        request("message/stream", message("again", messageId="m-2")),
        headers={"accept": "text/event-stream"},
    )
    assert streamed.events is not None
    told = [event.data["result"] for event in streamed.events]
    # How many words come at once is not promised: what is told one after another is.
    kinds = [(one["kind"], (one.get("status") or {}).get("state")) for one in told]
    s.note("message/stream, its kinds", [kind for kind, _ in groupby(kinds)][-3:])
    s.note("message/stream, its artifacts", [one["artifact"]["parts"] for one in told if "artifact" in one])
    s.note("message/stream, its end", told[-1])
    await s.post(path, b"{", headers=JSON, label="POST /a2a broken")
    await s.get(path)
    await s.delete(path)
