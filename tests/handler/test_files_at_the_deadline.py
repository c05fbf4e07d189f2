"""A function that runs out of time with files, messages, tokens, a call and an upload in flight, and goes on in the next invocation."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3

from tests.handler.scene import Scene, asked
from tests.support.amazon import object_store, way_to
from tests.support.emulator import LocalEnvironment
from tests.support.mcp_server import mcp_stand

PROJECT = Path(__file__).parent / "agent"
SECONDS = 10
"""How long an invocation may take."""
STEPS = 4
TOKENS = 15
"""Of each call of the model."""


async def test_what_the_deadline_cuts_is_neither_lost_nor_counted_twice_nor_seen_by_halves(
    scene: Scene, tmp_path: Path
) -> None:
    """What must be shown, 3: an output file, a message flush, a usage write, a call of an MCP server and an upload at a Lambda deadline."""
    gate, (halved, storing, asking, uploaded) = tmp_path / "gate", (str(uuid4()) for _ in range(4))
    gate.mkdir()
    with object_store() as store, mcp_stand() as stand:
        async with (
            way_to(store["AWS_ENDPOINT_URL_S3"]) as way,
            way_to(store["AWS_ENDPOINT_URL_S3"]) as other_way,
        ):
            env = {
                **store,
                "SLACKWATER_GATEWAY": "true",
                "SLACKWATER_PROJECT": str(PROJECT),
                "SLACKWATER_DRAIN_RESERVE_SECONDS": "2.5",  # the machine may be busy
            }
            first, second = await asyncio.gather(
                scene.environment(SECONDS, {**env, "AWS_ENDPOINT_URL_S3": way.url}),
                scene.environment(SECONDS, {**env, "AWS_ENDPOINT_URL_S3": other_way.url}),
            )

            # WHEN the time is over while S3 takes the second file of an upload
            other_way.hold(after=1)
            upload = second.begin(form(uploaded, {"a.txt": b"a", "b.txt": b"b" * 1000}))

            # AND while one node has written half of a file, and S3 takes what another one has written
            servers = {"mcp_servers": {"slow": {"url": stand.url}}}
            configured = await scene.ask(first, "PUT", "/api/mcp/config", servers)
            assert configured["mcp_servers"]["slow"]["url"] == stand.url
            adding = {"total": 1, "ask": 0, "tool": "slow_add", "arguments": {"a": 1, "b": 1}}
            await scene.begin(first, "writer", **{**given(gate), **adding})  # all is imported
            runs = [
                await begin_later(scene, first, halved, {**given(gate), "half": 1}),
                await begin_later(scene, first, storing, {**given(gate), "hold": 2}),
                await begin_later(scene, first, asking, {**given(gate), "ask": 1, "tool": "slow_wait"}),
            ]
            await scene.until(lambda: all(is_due(scene, run) for run in runs))
            work = first.begin({"task": "sweep"})
            await scene.until(lambda: all((gate / name).exists() for name in ("half-1", "hold-2")))
            await stand.begun()
            way.hold()
            (gate / "go").touch()
            await way.held()
            await work.done
            # THEN the runs are anybody's, and what is seen of their files is what the boundary before had
            for run in runs:
                row = scene.row(run)
                assert (row["status"], row["stopped"], row["worker"]) == ("pending", "cut", None), first.log()
            way.let_go()
            assert await report(scene, first, halved) == "<0>"
            assert await report(scene, first, storing) == "<0><1>"
            assert await report(scene, first, asking) == "<0>"
            stand.released.set()
            # AND in the next invocations all of it is there, once
            for run in runs:
                await scene.sweep_until_over(first, run)
                await check(scene, first, run)

            # AND nothing of the upload is there
            await other_way.held()
            outcome = await upload.outcome
            assert (outcome.error, json.loads(outcome.payload)["statusCode"]) == (None, 504), second.log()
            await upload.done
            listed = await scene.ask(first, "GET", f"/api/threads/{uploaded}/uploads/list")
            assert listed == {"files": [], "count": 0}

            # AND when the time has come, what S3 has got of all that goes, however late it has got it
            await scene.until(lambda: not way.busy)
            staged = scene.watcher.query("select key from slackwater.blobs where state = 'staged'")
            assert {row["key"] for row in staged} & objects(store)
            scene.watcher.query(
                "update slackwater.blobs set changed_at = changed_at - interval '2 hours' where state = 'staged' returning 1"
            )
            await first.invoke({"task": "sweep"})
            live = {row["blob"] for row in scene.watcher.query("select blob from slackwater.files")}
            rows = {row["key"] for row in scene.watcher.query("select key from slackwater.blobs")}
            assert rows == live == objects(store)


def given(gate: Path) -> dict[str, Any]:
    return {"messages": [{"type": "human", "content": "a"}], "total": STEPS, "gate": str(gate)}


async def begin_later(
    scene: Scene, environment: LocalEnvironment, thread: str, input_: Mapping[str, Any]
) -> dict[str, Any]:
    """A run that is due in a second, so that one invocation works on several."""
    body = {"assistant_id": "writer", "input": input_, "after_seconds": 1}
    run: dict[str, Any] = await scene.ask(environment, "POST", f"/api/threads/{thread}/runs", body)
    return run


def is_due(scene: Scene, run: Mapping[str, Any]) -> bool:
    rows = scene.watcher.query(
        "select 1 from slackwater.runs where run_id = %s and available_at < clock_timestamp()",
        (run["run_id"],),
    )
    return bool(rows)


async def report(scene: Scene, environment: LocalEnvironment, thread: str) -> str:
    """The file, as anybody sees it."""
    path = f"/api/threads/{thread}/artifacts/mnt/user-data/outputs/report.txt"
    reply = await environment.invoke(asked("GET", path))
    assert reply.status == 200, reply
    return str(reply.payload["body"])


async def check(scene: Scene, environment: LocalEnvironment, run: Mapping[str, Any]) -> None:
    """The file is whole; each message is there once, as in the state, and each call of the model, marked if it was made again."""
    assert scene.row(run)["status"] == "success", environment.log()[-4000:]
    assert await report(scene, environment, run["thread_id"]) == "".join(f"<{n}>" for n in range(STEPS))
    thread = f"/api/threads/{run['thread_id']}"
    page = await scene.ask(environment, "GET", f"{thread}/runs/{run['run_id']}/messages")
    state = await scene.ask(environment, "GET", f"{thread}/state")
    messages = state["values"]["messages"]
    assert [row["content"]["id"] for row in page["data"]] == [message["id"] for message in messages]
    assert [message["content"] for message in messages] == ["a", *(f"step {n}" for n in range(STEPS))]
    used = await scene.ask(environment, "GET", f"{thread}/token-usage")
    assert (used["total_tokens"], used["total_runs"]) == ((STEPS + 1) * TOKENS, 1)
    rows = scene.watcher.query(
        "select repeated from slackwater.token_usage where run_id = %s", (run["run_id"],)
    )
    assert (len(rows), sum(row["repeated"] for row in rows)) == (STEPS + 1, 1)


def form(thread: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    """What an API makes of an upload: its body is bytes."""
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode() + content
        for name, content in files.items()
    ]
    event = asked("POST", f"/api/threads/{thread}/uploads")
    event["headers"]["content-type"] = "multipart/form-data; boundary=b"
    event["body"] = base64.b64encode(b"\r\n".join([*parts, b"--b--\r\n"])).decode()
    return {**event, "isBase64Encoded": True}


def objects(store: Mapping[str, str]) -> set[str]:
    """What S3 really has."""
    client = boto3.client(
        "s3",
        endpoint_url=store["AWS_ENDPOINT_URL_S3"],
        region_name=store["AWS_REGION"],
        aws_access_key_id=store["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=store["AWS_SECRET_ACCESS_KEY"],
    )
    bucket = store["SLACKWATER_BLOBS"].split("/")[2]
    found = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    client.close()
    return {item["Key"].removeprefix("files/") for item in found}
