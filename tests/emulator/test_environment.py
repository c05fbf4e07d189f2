"""One execution environment on the real emulator."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from tests.emulator.conftest import TINY
from tests.support.emulator import LocalEnvironment

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_one_process_takes_event_after_event(tiny: LocalEnvironment) -> None:
    first = await tiny.invoke({"do": "echo"})
    second = await tiny.invoke({"do": "echo"})

    assert first.payload["pid"] == second.payload["pid"] == tiny.runtime_pid
    assert second.payload["invocations"] == first.payload["invocations"] + 1


async def test_the_function_sees_what_the_template_would_say_and_nothing_of_the_shell(
    tiny: LocalEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of the shell")
    reply = await tiny.invoke({"do": "facts"})

    facts, environment = reply.payload, reply.payload["environment"]
    assert facts["cwd"] == environment["LAMBDA_TASK_ROOT"] == str(TINY)
    assert facts["name"] == environment["AWS_LAMBDA_FUNCTION_NAME"] == "slackwater"
    assert facts["memory_mb"] == 1024
    assert 0 < facts["remaining_ms"] <= 4000
    assert environment["AWS_ACCESS_KEY_ID"] == "local"
    assert environment["_HANDLER"] == "tiny.lambda_handler"
    assert "OPENAI_API_KEY" not in environment
    assert "VIRTUAL_ENV" not in environment


async def test_the_response_is_there_before_the_extension_lets_go(tiny: LocalEnvironment) -> None:
    """The emulator itself answers only at the end; AWS does not wait."""
    reply = await tiny.invoke({"do": "hold", "seconds": 2})

    assert reply.payload["body"] == "held"
    assert reply.answered_ms < reply.done_ms - 500
    assert reply.done_ms >= 2000


async def test_a_second_event_at_the_same_time_is_refused_and_the_emulator_lives(
    tiny: LocalEnvironment,
) -> None:
    first = tiny.begin({"do": "sleep", "seconds": 0.3})

    with pytest.raises(RuntimeError, match="busy"):
        tiny.begin({"do": "echo"})

    assert (await first.outcome).error is None
    await first.done
    assert (await tiny.invoke({"do": "echo"})).error is None


async def test_an_exception_is_an_error_with_its_type(tiny: LocalEnvironment) -> None:
    reply = await tiny.invoke({"do": "fail"})

    assert reply.error == "Unhandled"
    assert reply.payload["errorType"] == "LookupError"
    assert reply.payload["errorMessage"] == "no such tide"


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"do": "leave"}, "Runtime.ExitError"),
        ({"do": "sleep", "seconds": 60}, "Sandbox.Timedout"),
        ({"do": "large", "bytes": 6_400_000}, "Function.ResponseSizeTooLarge"),
    ],
)
async def test_after_a_crash_a_timeout_or_too_large_a_response_a_new_process_takes_the_next_event(
    tiny: LocalEnvironment, event: dict[str, object], error: str
) -> None:
    before = (await tiny.invoke({"do": "echo"})).payload["pid"]

    failed = await tiny.invoke(event)

    assert failed.error == error
    after = await tiny.invoke({"do": "echo"})
    assert after.error is None
    assert after.payload["pid"] != before
    assert not Path(f"/proc/{before}").exists()


async def test_a_frozen_environment_answers_when_it_is_thawed(tiny: LocalEnvironment) -> None:
    await tiny.invoke({"do": "echo"})
    tiny.freeze()
    invocation = tiny.begin({"do": "echo"})
    await asyncio.sleep(0.3)
    assert not invocation.outcome.done()

    tiny.thaw()

    assert (await invocation.outcome).error is None
    await invocation.done


async def test_nothing_of_it_listens_beyond_loopback(tiny: LocalEnvironment) -> None:
    await tiny.invoke({"do": "echo"})

    addresses = {address for pid in tiny.environment.pids().values() for address in listening_addresses(pid)}

    assert addresses == {"0100007F"}


def listening_addresses(pid: int) -> set[str]:
    """The local addresses of the process's listening TCP sockets, as the kernel writes them."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        if match := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(descriptor)):
            inodes.add(match[1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1].partition(":")[0])
    return found
