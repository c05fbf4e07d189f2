"""`slackwater lambda`: the gateway in front of real environments, with a tiny function behind it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

from tests.emulator.conftest import TINY
from tests.support.emulator import gateway_of, lives
from tests.support.server import ROOT, ServerProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_SECONDS = 4.0
HANDLER = ("--handler", "tiny.lambda_handler")
SETTINGS = {
    # Of nobody: the function under test does not use it.
    "SLACKWATER_DATABASE_URI": "postgresql://nobody@127.0.0.1:1/none",
    "PYTHONPATH": os.pathsep.join(filter(None, [str(TINY), os.environ.get("PYTHONPATH")])),
}


@dataclass(eq=False)
class Twin:
    """A gateway, a client for it, and what its function has noted."""

    server: ServerProcess
    client: httpx.AsyncClient
    notes: Path

    async def do(self, what: str, **request: Any) -> httpx.Response:
        return await self.client.post("/", json={"do": what, **request})

    async def until_started(self) -> None:
        """Wait until both environments take events."""
        async with asyncio.timeout(60):
            while any(response.status_code != 200 for response in await self._both()):
                await asyncio.sleep(0.1)

    async def _both(self) -> list[httpx.Response]:
        return await asyncio.gather(*(self.do("sleep", seconds=0.3) for _ in range(2)))

    def noted(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    async def until_noted(self, *lines: str) -> None:
        deadline = time.monotonic() + 30
        while not set(lines) <= set(self.noted()):
            assert time.monotonic() < deadline, (self.noted(), self.server.tail())
            await asyncio.sleep(0.02)

    def sdk(self) -> Any:
        return boto3.client(
            "lambda",
            endpoint_url=self.server.url,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )


@asynccontextmanager
async def twin_of(folder: Path, *options: str, env: dict[str, str] | None = None) -> AsyncIterator[Twin]:
    notes = folder / "notes"
    options = (*HANDLER, "--env", f"TINY_NOTES={notes}", *options)
    async with (
        gateway_of(
            folder, ROOT / "tests/graphs", env={**SETTINGS, **(env or {})}, timeout_seconds=8, options=options
        ) as server,
        httpx.AsyncClient(base_url=server.url, timeout=20, trust_env=False) as client,
    ):
        yield Twin(server, client, notes)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def twin(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Twin]:
    limits = {
        "SLACKWATER_GATEWAY_LIMIT_SECONDS": str(LIMIT_SECONDS),
        "SLACKWATER_STREAM_PAGE_SECONDS": "1",
    }
    async with twin_of(tmp_path_factory.mktemp("gateway"), env=limits) as twin:
        # Both environments have to be there before the limit means anything on a busy machine.
        await twin.until_started()
        yield twin


async def test_a_request_becomes_an_event_and_the_result_its_answer(twin: Twin) -> None:
    response = await twin.client.post(
        "/threads/a%20b?x=%20&x=2", json={"do": "echo"}, headers={"X-Tide": "ebb", "cookie": "a=b"}
    )

    event = response.json()["event"]
    assert event["rawPath"] == "/threads/a b"
    assert event["rawQueryString"] == "x=%20&x=2"
    assert event["headers"]["x-tide"] == "ebb"
    assert event["cookies"] == ["a=b"]
    assert event["requestContext"]["http"]["sourceIp"] == "127.0.0.1"


async def test_an_answer_has_its_status_its_headers_and_its_bytes(twin: Twin) -> None:
    answer = {
        "statusCode": 418,
        "headers": {"x-tide": "flood", "content-type": "application/octet-stream"},
        "cookies": ["a=b; Path=/", "c=d"],
        "body": "AP8=",
        "isBase64Encoded": True,
    }

    response = await twin.do("answer", answer=answer)

    assert response.status_code == 418
    assert response.headers["x-tide"] == "flood"
    assert response.headers.get_list("set-cookie") == ["a=b; Path=/", "c=d"]
    assert response.content == b"\x00\xff"


async def test_requests_at_the_same_time_have_an_environment_each_and_the_rest_waits_in_line(
    twin: Twin,
) -> None:
    await twin.until_started()
    began = time.monotonic()

    responses = await asyncio.gather(*(twin.do("sleep", seconds=0.4) for _ in range(3)))

    assert {response.status_code for response in responses} == {200}
    assert len({response.json()["pid"] for response in responses}) == 2
    assert time.monotonic() - began >= 0.8


async def test_the_gateway_gives_up_at_its_limit_and_the_function_does_not(twin: Twin) -> None:
    began = time.monotonic()

    response = await twin.do("sleep", seconds=6)

    assert response.status_code == 503
    assert response.json() == {"message": "Service Unavailable"}
    assert LIMIT_SECONDS <= time.monotonic() - began < 6
    assert (await twin.do("echo")).status_code == 200  # by the other environment
    await twin.until_started()


@pytest.mark.parametrize(
    "request_", [{"do": "fail"}, {"do": "leave"}, {"do": "answer", "answer": {"statusCode": "many"}}]
)
async def test_a_function_that_fails_is_an_internal_server_error(
    twin: Twin, request_: dict[str, Any]
) -> None:
    response = await twin.client.post("/", json=request_)

    assert response.status_code == 500
    assert response.json() == {"message": "Internal Server Error"}


async def test_bodies_over_the_limits_are_refused(twin: Twin) -> None:
    for size in (6_300_000, 10_500_000):
        response = await twin.client.post("/", content=b"x" * size, headers={"content-type": "text/plain"})
        assert response.status_code == 413
        assert response.json() == {"message": "Request Entity Too Large"}


async def test_the_sdk_invokes_the_function(twin: Twin) -> None:
    answer = await asyncio.to_thread(
        twin.sdk().invoke, FunctionName="slackwater", Payload=json.dumps({"do": "echo"})
    )

    assert answer["StatusCode"] == 200
    assert "FunctionError" not in answer
    assert json.loads(answer["Payload"].read())["event"] == {"do": "echo"}


async def test_the_sdk_hears_of_an_error(twin: Twin) -> None:
    arn = "arn:aws:lambda:us-east-1:012345678912:function:slackwater:live"

    answer = await asyncio.to_thread(twin.sdk().invoke, FunctionName=arn, Payload=json.dumps({"do": "fail"}))

    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorType"] == "LookupError"


async def test_an_asynchronous_invocation_is_accepted_at_once_and_carried_out(twin: Twin) -> None:
    began = time.monotonic()

    answer = await asyncio.to_thread(
        twin.sdk().invoke,
        FunctionName="slackwater",
        InvocationType="Event",
        Payload=json.dumps({"do": "note", "note": "asynchronous"}),
    )

    assert answer["StatusCode"] == 202
    assert time.monotonic() - began < 6
    await twin.until_noted("asynchronous")


async def test_another_function_is_not_found(twin: Twin) -> None:
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        await asyncio.to_thread(twin.sdk().invoke, FunctionName="another")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer x"},
        {"authorization": "AWS4-HMAC-SHA256 x", "host": "tides.example"},
        {"authorization": "AWS4-HMAC-SHA256 x", "origin": "http://tides.example"},
    ],
)
async def test_a_web_page_cannot_invoke_the_function(twin: Twin, headers: dict[str, str]) -> None:
    """It could otherwise start runs, past every key."""
    response = await twin.client.post(
        "/2015-03-31/functions/slackwater/invocations",
        json={"do": "note", "note": "by a web page"},
        headers=headers,
    )

    assert response.status_code == 403
    assert "by a web page" not in twin.noted()


async def test_without_keys_an_authorizer_names_whoever_calls_from_this_machine(twin: Twin) -> None:
    event = (await twin.do("echo")).json()["event"]

    assert event["requestContext"]["authorizer"] == {"lambda": {"principalId": "local"}}


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "tides.example"},
        {"origin": "http://tides.example"},
        {"origin": "null"},
        {"x-forwarded-for": "127.0.0.1"},
        {"host": "tides.example", "x-api-key": "made up"},
    ],
)
@pytest.mark.parametrize("path", ["/runs", "/ok"])
async def test_without_keys_whatever_comes_from_elsewhere_is_refused(
    twin: Twin, path: str, headers: dict[str, str]
) -> None:
    request = {"do": "note", "note": "from elsewhere"}
    response = await twin.client.post(path, json=request, headers=headers)

    assert response.status_code == 403
    assert "from elsewhere" not in twin.noted()


async def test_with_keys_what_is_for_anybody_is_so_and_a_key_speaks_for_itself(tmp_path: Path) -> None:
    """The function knows whether it is one."""
    env = {"SLACKWATER_API_KEYS": f"maria:{'0' * 64}", "SLACKWATER_AUTHORIZER": "lambda"}
    async with twin_of(tmp_path, env=env) as twin:
        for path, headers in (
            ("/ok", {"origin": "http://tides.example"}),
            ("/", {"host": "tides.example", "x-api-key": "of somebody"}),
        ):
            response = await twin.client.post(path, json={"do": "echo"}, headers=headers)
            assert "authorizer" not in response.json()["event"]["requestContext"]


async def test_a_schedule_invokes_again_and_again(tmp_path: Path) -> None:
    async with twin_of(tmp_path, "--schedule-seconds", "0.3") as twin:
        await twin.until_noted("Scheduled Event")
        while len(twin.noted()) < 2:
            await asyncio.sleep(0.02)


async def test_after_sigterm_everything_has_gone_within_seconds(tmp_path: Path) -> None:
    async with twin_of(tmp_path) as twin:
        hanging = asyncio.create_task(twin.do("hang"))
        breeding = (await twin.do("breed")).json()
        async with asyncio.timeout(30):
            # Both environments: the child, and for each a watchdog, an emulator and a runtime, below the gateway.
            while len(pids := [*processes_of(twin.server.pid), breeding["child"]]) < 9:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)

        began = twin.server.sigterm()

        assert await twin.server.wait(15) == 0
        assert time.monotonic() - began < 10
        assert [pid for pid in pids if lives(pid)] == []
        assert (await hanging).status_code == 500


async def test_after_sigkill_nothing_is_left_either(tmp_path: Path) -> None:
    async with twin_of(tmp_path) as twin:
        breeding = (await twin.do("breed")).json()
        pids = [*processes_of(twin.server.pid), breeding["child"]]

        twin.server.send(signal.SIGKILL)
        await twin.server.wait()

        deadline = time.monotonic() + 20
        while left := [pid for pid in pids if lives(pid)]:
            assert time.monotonic() < deadline, left
            await asyncio.sleep(0.02)


def processes_of(pid: int) -> list[int]:
    """The process and everything it has started, and what those have."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it has just ended
            for child in children.read_text().split():
                found += processes_of(int(child))
    return found
