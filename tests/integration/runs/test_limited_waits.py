"""Waiting for the end of a run where nobody waits for an answer for ever."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
from gateway import Environment, Gateway, Holds, Start, ended

from slackwater.web.streams import bounds

HELD = {"assistant_id": "held", "input": {"log": []}}
LINE = {"assistant_id": "line", "input": {"n": 2}}


@pytest.fixture
async def hasty(start: Start) -> Gateway:
    """A gateway that gives up after two seconds."""
    return Gateway(await start(gateway_limit_seconds=2, stream_page_seconds=1))


async def test_a_run_that_ends_in_time_is_answered_as_everywhere(gateway: Gateway) -> None:
    async with gateway.serve() as client:
        thread = await client.threads.create()
        assert (await client.runs.wait(thread["thread_id"], "line", input={"n": 2}))["log"] == [
            "step-0",
            "step-1",
        ]
        assert (await client.runs.wait(None, "line", input={"n": 1}))["log"] == ["step-0"]
        [run] = await client.runs.list(thread["thread_id"])
        assert (await client.runs.join(thread["thread_id"], run["run_id"]))["log"] == ["step-0", "step-1"]  # type: ignore[call-overload]
    for answer in gateway.answers:
        assert not answer.body.startswith(b"\n")
        assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("stateless", [False, True])
async def test_a_wait_that_takes_too_long_says_where_to_go_on_waiting(
    hasty: Gateway, holds: Holds, stateless: bool
) -> None:
    holds.hold("b")
    async with hasty.serve() as client:
        http = client.http.client
        path = "/runs/wait"
        if not stateless:
            path = f"/threads/{(await client.threads.create())['thread_id']}{path}"
        began = time.monotonic()
        answer = await http.post(path, json=HELD)
        assert 0.8 < time.monotonic() - began < 15
        assert answer.status_code == 408
        assert "GET the Location" in answer.json()["detail"]
        location = answer.headers["location"]
        # WHEN it is asked for again, and again too early
        again = await http.get(location)
        assert (again.status_code, again.headers["retry-after"]) == (504, "1")
        assert "same request again" in again.json()["detail"]
        holds.let_go("b")
        await ended(hasty)
        assert (await http.get(location)).json()["log"] == ["a", "b", "c"]


async def test_the_stock_client_s_wait_fails_with_a_sentence_and_starts_no_second_run(
    hasty: Gateway, holds: Holds
) -> None:
    holds.hold("b")
    async with hasty.serve() as client:
        thread = await client.threads.create()
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await client.runs.wait(thread["thread_id"], "held", input={"log": []})
        assert caught.value.response.status_code == 408
        assert len(await client.runs.list(thread["thread_id"])) == 1


async def test_a_cancel_that_waits_too_long_names_the_way_to_join(gateway: Gateway, hasty: Gateway) -> None:
    async with gateway.serve() as client:
        thread = (await client.threads.create())["thread_id"]
        [environment] = gateway.environments
        run = await client.runs.create(thread, "line", input={"n": 1}, after_seconds=60)
        path = f"/threads/{thread}/runs/{run['run_id']}"
        answer = await client.http.client.post(f"{path}/cancel?wait=1")
        assert answer.status_code == 200
        # WHEN its owner does not hear of it: another process, that has stopped without a word
        late = await client.runs.create(thread, "line", input={"n": 1}, after_seconds=60)
        await environment.services.database.execute(
            "update slackwater.runs set status = 'running', ready = false, holds_thread = true, worker = 'elsewhere', "
            "lease_until = clock_timestamp() + interval '60 seconds', fence = 1, attempt = 1 where run_id = %s",
            [late["run_id"]],
        )
    async with hasty.serve() as client:
        path = f"/threads/{thread}/runs/{late['run_id']}"
        answer = await client.http.client.post(f"{path}/cancel?wait=1")
    assert (answer.status_code, answer.headers["location"]) == (408, f"{path}/join")


async def test_the_end_of_the_delivery_counts_where_it_comes_before_the_gateway_s(
    environment: Environment, holds: Holds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "RESERVE_SECONDS", 2)
    holds.hold("b")
    gateway = Gateway(environment, seconds=2.7)
    async with gateway.serve() as client:
        answer = await client.http.client.post("/runs/wait", json=HELD)
    assert answer.status_code == 408
    assert gateway.answers[0].seconds < 2.7


async def test_a_wait_that_was_sent_away_gives_its_client_time_to_return(
    hasty: Gateway, holds: Holds
) -> None:
    holds.hold("b")
    async with hasty.serve() as client:
        answer = await client.http.client.post("/runs/wait", json={**HELD, "on_disconnect": "cancel"})
        assert answer.headers["location"].endswith("/join?cancel_on_disconnect=1")
        database = hasty.environments[0].services.database
        [row] = await database.fetch("select status, reader_left_at from slackwater.runs")
        assert row["status"] == "running"
        assert row["reader_left_at"] is not None
        holds.let_go("b")
        await ended(hasty)
        assert (await client.http.client.get(answer.headers["location"])).json()["log"] == ["a", "b", "c"]


async def test_a_drain_sends_waiting_clients_to_another_environment(start: Start, holds: Holds) -> None:
    first, second = await start(), await start(sweep_seconds=0.2)
    holds.hold("b")
    gateway = Gateway(first)
    async with gateway.serve() as client:
        http = client.http.client
        waiting = asyncio.create_task(http.post("/runs/wait", json=HELD))
        await holds.until_reached("b")
        gateway.environments[:] = [second]
        stopping = asyncio.create_task(first.services.stop.drain("test", 30))
        while not first.services.runtime.draining:
            await asyncio.sleep(0)
        holds.let_go("b")
        answer = await waiting
        await stopping
        assert answer.status_code == 408
        assert (await http.get(answer.headers["location"])).json()["log"] == ["a", "b", "c"]


@pytest.mark.filterwarnings("ignore:Request failed, attempting reconnect:UserWarning")
async def test_a_live_wait_beats_and_is_cut_off_at_its_end_so_that_the_stock_client_returns(
    start: Start, holds: Holds
) -> None:
    gateway = Gateway(await start(heartbeat_seconds=0.2), live=True, seconds=4)
    holds.hold("b")

    async def let_go() -> None:
        while len(gateway.answers) < 3:  # it has returned
            await asyncio.sleep(0.01)
        holds.let_go("b")

    async with gateway.serve() as client:
        thread = await client.threads.create()
        releasing = asyncio.create_task(let_go())
        values: Any = await client.runs.wait(thread["thread_id"], "held", input={"log": []})
        await releasing
    assert values["log"] == ["a", "b", "c"]
    waited = gateway.answers[1]
    assert (waited.status, waited.complete) == (200, False)
    assert waited.body.count(b"\n") > 3


async def test_requests_that_wait_for_nothing_are_the_same_in_every_delivery(gateway: Gateway) -> None:
    async with gateway.serve() as client:
        thread = (await client.threads.create())["thread_id"]
        path = f"/threads/{thread}/runs/00000000-0000-4000-8000-000000000000"
        http = client.http.client
        assert (await http.get(f"{path}/join")).json()["__error__"]["message"] == "404: Run not found"
        assert "404: Run not found" in (await http.get(f"{path}/stream")).text
        assert (await http.get(f"{path}/stream?reader=nobody")).status_code == 422
