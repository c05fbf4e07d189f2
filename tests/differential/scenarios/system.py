"""What is not about any resource: health, information, documentation, and how requests are refused in general."""

from __future__ import annotations

from tests.differential.scenario import scenario
from tests.differential.script import Script


@scenario("system.information")
async def information(s: Script) -> None:
    await s.get("/")
    await s.get("/ok")
    await s.get("/ok?check_db=1")
    await s.get("/info")
    for path in ("/docs", "/openapi.json", "/metrics"):
        # What they say is each server's own.
        answer = await s.ask("GET", path)
        s.note(f"GET {path}", {"status": answer.status, "content-type": answer.headers.get("content-type")})
    metrics = await s.ask("GET", "/metrics?format=json")
    s.note(
        "GET /metrics?format=json", sorted(metrics.body) if isinstance(metrics.body, dict) else metrics.body
    )


@scenario("system.refusals")
async def refusals(s: Script) -> None:
    await s.get("/nowhere")
    await s.post("/nowhere", {})
    await s.delete("/assistants/search")
    await s.put("/threads", {})
    await s.call("HEAD", "/info")
    await s.call("HEAD", "/ok")
    await s.post("/threads/search/", {})
    await s.get("/threads")
    await s.post("/assistants/search", b"{not json")
    await s.post("/assistants/search", b"")
    await s.post("/threads/search", b"[]")
    await s.post("/threads/search", None)
    await s.post("/threads", b'{"metadata": {"a": 1,}}')
    await s.post("/threads/search", {"limit": "many"})
    await s.post("/threads/search", {"limit": 0})
    await s.post("/threads/search", {"limit": 1001})
    await s.post("/threads/search", {"offset": -1})


@scenario("system.browsers")
async def browsers(s: Script) -> None:
    origin = {"origin": "http://127.0.0.1:3000"}
    for method, path in (("OPTIONS", "/threads"), ("GET", "/info")):
        answer = await s._client.request(
            method, path, headers={**origin, "access-control-request-method": "POST"}
        )
        s.note(
            f"{method} {path} of a page",
            {
                "status": answer.status_code,
                **{
                    name: value
                    for name, value in answer.headers.items()
                    if name in ("access-control-allow-origin", "access-control-expose-headers")
                },
            },
        )
