"""The checks that the official server passes pass here: in a container, and on AWS Lambda behind a gateway."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest

from tests.conformance import checks
from tests.support.emulator import gateway_of
from tests.support.server import ROOT, fleet_of

pytestmark = [
    pytest.mark.drill,
    pytest.mark.skipif(checks.MISSING, reason=f"no checks in {checks.CONFORMANCE}"),
]

STRICTER = {
    "system.cors_exposes_content_location": "without keys a page from elsewhere gets 403 on every path, `/ok` too",
}
"""Where the official server is looser; docs/compatibility.md says so."""

BUFFERED = {
    "stream.messages_arrive_while_the_model_talks": "an answer is seen when it is complete",
    "runs.stream_location_headers": "`Location` names the reader, whose run is shown as running until he is back",
    "disconnect.cancel_stops_a_stream_run": "nobody tells a function that its client has gone",
    "disconnect.cancel_stops_a_wait_run": "nobody tells a function that its client has gone",
}
"""What cannot be where a gateway collects answers."""

CHANCE = {
    "resumable.drop_and_resume_loses_nothing": "it takes the second page for the rest, and there may be a third",
}
"""What the moment decides there."""

JOBS = 4
ENVIRONMENTS = 12
"""Each takes one event at a time, and goes on with a run after it. On AWS there are as many as it takes: a check keeps up to three
busy, and one that finds none free comes too late for what it looks at."""
STARTING = 3
"""Environments that start side by side: twelve on two cores would be at it for longer than a gateway waits."""


async def test_every_check_passes(database_uri: str, tmp_path: Path) -> None:
    env = {"SLACKWATER_GRACE_SECONDS": "25", "SLACKWATER_LEASE_SECONDS": "30"}
    async with fleet_of(database_uri, tmp_path, checks.PROJECT, env) as fleet:
        # Its graph `fail` is there to fail.
        (server,) = await fleet.start(tolerated=("Traceback",))
        checks.judge(await checks.run(server.url, tmp_path, jobs=5), STRICTER)


async def test_every_check_passes_behind_a_gateway_but_those_that_cannot(
    database_uri: str, tmp_path: Path
) -> None:
    env = {
        "SLACKWATER_DATABASE_URI": database_uri,
        "SLACKWATER_LEASE_SECONDS": "30",
        "SLACKWATER_AFTER_RESPONSE_SECONDS": "5",
    }
    async with gateway_of(
        tmp_path,
        checks.PROJECT,
        env=env,
        environments=ENVIRONMENTS,
        options=("--schedule-seconds", "5"),
    ) as server:
        # GIVEN environments that are there, as the checks' patience is not meant for cold starts
        body = {"assistant_id": "echo", "input": {"text": "warm"}}
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
            for warm in range(STARTING, ENVIRONMENTS + 1, STARTING):
                # One for each environment that is there, and for those that start.
                answers = await asyncio.gather(*(http.post("/runs/wait", json=body) for _ in range(warm)))
                assert {answer.status_code for answer in answers} <= {200, 503}
        # THEN
        checks.judge(await checks.run(server.url, tmp_path, jobs=JOBS), STRICTER | BUFFERED, CHANCE)
    server.tolerated = ("Traceback",)
    assert server.complaints() == []


def test_the_document_has_the_same_list() -> None:
    document = (ROOT / "docs" / "lambda-local.md").read_text()
    assert set(re.findall(r"`([a-z_]+\.[a-z_]+)`", document.partition("## What buffering rules out")[2])) == {
        *BUFFERED,
        *CHANCE,
    }
