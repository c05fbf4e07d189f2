"""The plain JavaScript client under Node, unmodified: `@langchain/langgraph-sdk`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.browser.test_page import NODES, SAID
from tests.drills.drill import Drill
from tests.sdk.test_the_client_never_notices import comparable
from tests.support.balancer import Balancer
from tests.support.browser import client_program
from tests.support.effects import finished, repeated, started

pytestmark = pytest.mark.drill

STREAMS = ("stream", "stateless", "joinStream", "threadStream")


async def read_runs(url: str, meanwhile: Callable[[], Awaitable[None]] | None = None) -> dict[str, Any]:
    """What each reader of runs.cjs has got; meanwhile something is done to them."""
    async with asyncio.timeout(60), client_program("runs.cjs", url) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        began = await program.stdout.readline()
        assert began == b"started\n", (await program.stderr.read()).decode()
        if meanwhile is not None:
            await meanwhile()
        out, errors = await program.communicate()
        assert not errors, errors.decode()
        return dict(json.loads(out))


def read(result: dict[str, Any]) -> list[str]:
    return comparable((part["event"], part["data"]) for part in result["parts"])


async def test_every_call_works_and_every_reader_gets_the_same_when_the_server_is_replaced(
    drill: Drill,
) -> None:
    first, second = await drill.fleet.start(2)
    # GIVEN what the client reads when nobody stops anything
    async with Balancer([second]).serve() as quiet:
        wanted = await read_runs(quiet.url)
    async with Balancer([first]).serve() as balancer:

        async def replace() -> None:
            await drill.until(lambda: drill.active("chat") == len(wanted), what="all runs")
            balancer.replicas.append(second)
            await drill.stop(first)

        # WHEN it reads the same, and the process that works and answers is stopped in the middle
        got = await read_runs(balancer.url, replace)
    # THEN each stream is the same, no event lost and none doubled
    assert {run["outcome"] for run in first.report()["runs"]} == {"drained"}
    for name in STREAMS:
        assert read(got[name]) == read(wanted[name]), name
        ids = [part["id"] for part in got[name]["parts"]]
        assert len(set(ids)) == len(ids)
    # AND so is what is said token by token
    assert got["thread"]["said"] == wanted["thread"]["said"]
    assert ["".join(tokens) for tokens in got["thread"]["said"]] == SAID
    assert all(len(tokens) > 10 for tokens in got["thread"]["said"])
    # AND so are the values; whoever only waits has asked again
    for name in ("thread", "wait", "join"):
        assert got[name]["texts"] == wanted[name]["texts"] == ["What is slack water?", *SAID]
    for name in ("wait", "join"):
        assert wanted[name]["cuts"] == 0
        assert got[name]["cuts"] > 0
    effects = drill.effects.of_runs([result["run_id"] for result in got.values()])
    for seen in effects.values():
        assert finished(seen) == NODES
        assert not repeated(started(seen))
    # AND every other call does what its caller expects
    second.tolerated = ("EmptyInputError",)  # of a run without any input
    async with asyncio.timeout(60), client_program("calls.cjs", second.url) as program:
        out, errors = await program.communicate()
        assert not out + errors, errors.decode()
