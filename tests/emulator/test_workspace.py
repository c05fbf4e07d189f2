"""The gateway below `/api` behind API Gateway and AWS Lambda: files in S3, and the dialect by the SDK's own client."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import httpx
from langgraph_sdk import get_client

from tests.support.amazon import object_store
from tests.support.emulator import gateway_of
from tests.support.server import ROOT

PROJECT = ROOT / "tests/graphs"
BYTES = bytes(range(256)) * 40
LARGE = b"0123456789abcdef" * 500_000
"""8 MB: more than an invocation may be sent."""
LIMITS = {
    "SLACKWATER_GATEWAY_LIMIT_SECONDS": "60",  # cold starts count, and the machine may be busy
    "SLACKWATER_STREAM_PAGE_SECONDS": "1.5",
    "SLACKWATER_AFTER_RESPONSE_SECONDS": "2",
    "SLACKWATER_DRAIN_RESERVE_SECONDS": "2",
}


async def test_a_page_works_against_a_function(database_uri: str, tmp_path: Path) -> None:
    """U1, U2, U9, U10, U12, V1, V3, P1, B1, L1, K2, Z2, and the rows `POST /threads` and `DELETE /threads/{id}`."""
    key, thread = "a person's own", str(uuid4())
    with object_store() as store:
        env = {
            **LIMITS,
            "SLACKWATER_DATABASE_URI": database_uri,
            "SLACKWATER_GATEWAY": "true",
            "SLACKWATER_BLOBS": store.pop("SLACKWATER_BLOBS"),
            "SLACKWATER_API_KEYS": f"anna:{sha256(key.encode()).hexdigest()}",
        }
        options = [part for name, value in store.items() for part in ("--env", f"{name}={value}")]
        async with (
            asyncio.timeout(230),
            gateway_of(tmp_path, PROJECT, env=env, environments=2, options=tuple(options)) as server,
            httpx.AsyncClient(base_url=f"{server.url}/api", headers={"x-api-key": key}, timeout=70) as http,
            httpx.AsyncClient(timeout=70) as outside,
            get_client(url=f"{server.url}/api/langgraph", api_key=key) as client,
        ):
            # WHEN files are sent before there is a thread
            uploads = f"/threads/{thread}/uploads"
            assert (await http.get(f"{uploads}/limits")).json()["max_files"] == 10
            form = [("files", ("a.bin", BYTES)), ("files", ("a.bin", b"b")), ("files", ("p.html", b"<p>"))]
            sent = await http.post(uploads, files=form)
            assert sent.status_code == 200, sent.text
            assert [file["filename"] for file in sent.json()["files"]] == ["a.bin", "a_1.bin", "p.html"]
            # THEN they come back as they are, and active content is only saved
            files = f"/threads/{thread}/artifacts/mnt/user-data/uploads"
            shown = await http.get(f"{files}/a.bin")
            assert shown.content == BYTES
            part = await http.get(f"{files}/a.bin", headers={"range": "bytes=250-260"})
            assert (part.status_code, part.content) == (206, BYTES[250:261])
            again = await http.get(f"{files}/a.bin", headers={"if-none-match": shown.headers["etag"]})
            assert again.status_code == 304
            assert (await http.get(f"{files}/p.html")).headers["content-disposition"].startswith("attachment")

            # WHEN one is too large for an invocation THEN it goes to S3 and comes from there
            wish = {"files": [{"filename": "large.bin", "size": len(LARGE)}]}
            (place,) = (await http.post(f"{uploads}/presign", json=wish)).json()["uploads"]
            put = await outside.request(
                place["method"], place["url"], headers=place["headers"], content=LARGE
            )
            assert put.status_code == 200, put.text
            done = {"files": [{"upload_id": place["upload_id"], "filename": "large.bin"}]}
            assert (await http.post(f"{uploads}/complete", json=done)).json()["success"]
            moved = await http.get(f"{files}/large.bin")
            assert moved.status_code == 307
            assert (await outside.get(moved.headers["location"])).content == LARGE
            assert (await http.delete(f"{uploads}/a_1.bin")).status_code == 200
            listed = (await http.get(f"{uploads}/list")).json()
            assert [file["filename"] for file in listed["files"]] == ["a.bin", "large.bin", "p.html"]

            # WHEN somebody speaks, THEN the answer is streamed in pages, and told in messages and tokens
            for _ in range(2):
                assert (await client.threads.create(thread_id=thread))["thread_id"] == thread
            said = {"messages": [{"type": "human", "content": "slack water"}]}
            run_ids: list[str] = []
            streamed = [
                part.event
                async for part in client.runs.stream(
                    thread,
                    "chat",
                    input=said,
                    stream_mode=["values", "messages-tuple"],
                    on_run_created=lambda run: run_ids.append(run["run_id"]),
                )
            ]
            assert {"metadata", "values", "messages"} <= set(streamed)
            state = await client.threads.get_state(thread)
            (run_id,) = run_ids
            page = (await http.get(f"/threads/{thread}/runs/{run_id}/messages")).json()
            assert [row["content"]["id"] for row in page["data"]] == [
                message["id"] for message in state["values"]["messages"]
            ]
            assert (await http.get(f"/threads/{thread}/token-usage")).json()["thread_id"] == thread
            rated = await http.put(f"/threads/{thread}/runs/{run_id}/feedback", json={"rating": 1})
            assert rated.json()["rating"] == 1

            # WHEN something is remembered THEN so it is in whichever environment
            fact = (await http.post("/memory/facts", json={"content": "Likes tea"})).json()["facts"][0]
            changed = await http.patch(f"/memory/facts/{fact['id']}", json={"confidence": 1})
            assert changed.json()["facts"] == [{**fact, "confidence": 1}]
            assert (await http.get("/memory")).json() == changed.json()

            # WHEN a server of tools is configured, and switched off by the page, THEN its secret is kept and not shown
            weather = {"url": "https://mcp.example.com/mcp", "headers": {"Authorization": "s3cret"}}
            body = {"mcp_servers": {"weather": weather}}
            assert (await http.put("/mcp/config", json=body)).status_code == 200
            body = (await http.get("/mcp/config")).json()
            assert body["mcp_servers"]["weather"]["headers"] == {"Authorization": "***"}
            body["mcp_servers"]["weather"]["enabled"] = False
            switched = (await http.put("/mcp/config", json=body)).json()["mcp_servers"]
            assert switched["weather"]["enabled"] is False
            body["mcp_servers"]["weather"]["description"] = "Another page's"
            assert (await http.put("/mcp/config", json=body)).status_code == 409

            # WHEN the thread is deleted, twice as the page does THEN so are its files
            for _ in range(2):
                assert (await http.delete(f"/threads/{thread}")).status_code == 200
            assert (await http.get(f"{files}/a.bin")).status_code == 404
    assert server.complaints() == []
