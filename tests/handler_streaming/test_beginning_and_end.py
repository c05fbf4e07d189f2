"""How an environment that streams begins and ends."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from subprocess import run

import psycopg
import pytest

from tests.handler_streaming.conftest import Start, complaints, from_url
from tests.support.server import ROOT, clean_environment


def test_elsewhere_than_on_lambda_it_says_what_to_do() -> None:
    done = run(
        [sys.executable, "-m", "slackwater_lambda.streaming"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.returncode == 1
    assert "slackwater lambda --stream" in done.stderr
    assert "Traceback" not in done.stderr


async def test_what_does_not_import_is_reported_and_ends_the_environment(
    start: Start, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "mangum.py").write_text("raise ImportError('not for this architecture')")

    environment = await start(folder=broken)

    assert await environment.gone() == 1
    assert environment.api.happened == ["init error"]
    report = environment.api.init_error
    assert report is not None
    assert report.headers["lambda-runtime-function-error-type"] == "Function.ImportError"
    assert report.result["errorMessage"] == "not for this architecture"
    assert report.result["errorType"] == "ImportError"
    assert "not for this architecture" in environment.log()


async def test_an_environment_whose_database_is_not_ready_answers_503_and_tries_again(
    start: Start, empty_database_uri: str
) -> None:
    environment = await start(SLACKWATER_DATABASE_URI=empty_database_uri)

    refused = await (await environment.invoke(from_url("GET", "/ok"))).end()
    migrated = await (await environment.invoke({"task": "migrate"})).end()
    served = await (await environment.invoke(from_url("GET", "/ok"))).end()

    assert refused.answer["statusCode"] == 503
    assert refused.answer["headers"]["retry-after"] == "1"
    assert "detail" in json.loads(refused.content)
    assert migrated.result["applied"]
    assert served.answer["statusCode"] == 200
    assert environment.api.init_error is None


@pytest.mark.prompt
async def test_sigterm_in_a_stream_hands_its_run_over_and_sends_the_reader_away(
    start: Start, database_uri: str, tmp_path: Path
) -> None:
    environment = await start()
    body = {"assistant_id": "gated", "input": {"gate": str(tmp_path / "never")}, "stream_mode": ["custom"]}
    invocation = await environment.invoke(from_url("POST", "/runs/stream", body))
    await invocation.until(lambda invocation: b"before the gate" in invocation.body)

    environment.process.send_signal(signal.SIGTERM)
    code = await environment.gone()

    await invocation.end()
    assert code == 0
    assert complaints(environment) == []
    async with await psycopg.AsyncConnection.connect(database_uri) as connection:
        state = await (await connection.execute("select status, handovers from slackwater.runs")).fetchone()
        away = await (await connection.execute("select count(*) from slackwater.cut_readers")).fetchone()
    assert state == ("pending", 1)
    # A clean end is the end of the run for a client, unless it is told otherwise when it asks.
    assert away == (1,) or invocation.ended == "truncated" or invocation.error is not None


async def test_sigterm_while_idle_ends_the_environment_at_once(start: Start) -> None:
    environment = await start()
    await (await environment.invoke(from_url("GET", "/ok"))).end()
    await environment.api.idle()

    environment.process.send_signal(signal.SIGTERM)

    assert await environment.gone() == 0
    assert complaints(environment) == []


async def test_a_node_that_holds_the_event_loop_ends_the_environment_at_the_deadline(
    start: Start, database_uri: str
) -> None:
    """GIVEN an answer that nobody can end any more THEN it is broken off, and the next request has a new environment."""
    environment = await start()
    await (await environment.invoke({"task": "run", "assistant_id": "trace", "input": {"n": 1}})).end()
    body = {"assistant_id": "stuck", "input": {"sleep": 60}, "stream_mode": ["custom"]}

    invocation = await environment.invoke(from_url("POST", "/runs/stream", body), seconds=5)
    await invocation.until(lambda invocation: b"for ever" in invocation.body)
    await environment.gone()

    await invocation.end()
    assert invocation.ended == "truncated"
    # Its lease ends soon: whoever sweeps then finds the run.
    async with await psycopg.AsyncConnection.connect(database_uri) as connection:
        lease = await connection.execute(
            "select lease_until < now() + interval '15 seconds' from slackwater.runs where status = 'running'"
        )
        assert await lease.fetchall() == [(True,)]


async def test_an_environment_whose_runtime_api_goes_away_leaves(start: Start) -> None:
    environment = await start()
    await environment.api.idle()

    await environment.api.close()

    assert await environment.gone() == 0


async def test_with_snapstart_a_snapshot_is_taken_before_the_first_event(start: Start) -> None:
    environment = await start(AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
    api = environment.api
    async with asyncio.timeout(60), api.said:
        await api.said.wait_for(lambda: "snapshot" in api.happened)
    assert "next" not in api.happened

    api.copies.set()
    invocation = await (await environment.invoke(from_url("POST", "/threads", {}))).end()

    assert invocation.answer["statusCode"] == 200
    assert api.happened.index("extension registered") < api.happened.index("snapshot")


async def test_without_an_extensions_api_the_environment_serves(start: Start) -> None:
    """GIVEN nothing that holds the freeze THEN runs end, or are handed over, before the next event is asked for."""
    environment = await start(SLACKWATER_LAMBDA_EXTENSION="false")
    body = {"assistant_id": "trace", "input": {"n": 1}}

    streamed = await (await environment.invoke(from_url("POST", "/runs/stream", body))).end()

    assert b"event: values" in streamed.content
    assert "extension registered" not in environment.api.happened
