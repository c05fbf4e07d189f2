"""Protocol v2 by WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from support.api import Api
from support.socket import SocketClient, connect

from slackwater.protocols.events.subscription import SUBSCRIPTIONS_MAX
from slackwater.runtime.process import stop

ALL = ["values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom"]


@pytest.fixture
async def api(serve: Any) -> AsyncIterator[Api]:
    """An application for Alice and Bob."""
    async with serve(names=("alice", "bob")) as api:
        yield api


def path_of(thread: str) -> str:
    return f"/threads/{thread}/stream/events"


def has_ended(socket: SocketClient, count: int = 1, status: str = "completed") -> bool:
    ends = [
        event
        for event in socket.events
        if event["method"] == "lifecycle"
        and event["params"]["namespace"] == []
        and event["params"]["data"]["event"] == status
    ]
    return len(ends) >= count


async def test_commands_and_events_share_a_connection(api: Api) -> None:
    thread = str(uuid4())
    async with connect(api, path_of(thread), "alice") as socket:
        subscribed = await socket.ask("subscription.subscribe", channels=ALL)
        assert (subscribed["type"], subscribed["result"]["replayed_events"]) == ("success", 0)
        started = await socket.ask("run.start", assistant_id="hitl", input={"text": "x"})
        assert started["type"] == "success"
        asked = await socket.until(lambda: [e for e in socket.events if e["method"] == "input.requested"])
        told = await socket.ask(
            "input.respond", interrupt_id=asked[0]["params"]["data"]["interrupt_id"], response="yes"
        )
        assert told["result"] == {}
        await socket.until(lambda: has_ended(socket))
        tree = (await socket.ask("agent.getTree"))["result"]["tree"]
        assert (tree["graph_name"], tree["status"]) == ("hitl", "completed")
        live = socket.events
    # Who connects later, with what he has heard already or without, hears the same
    for since in (None, live[3]["seq"]):
        async with connect(api, path_of(thread), "alice") as socket:
            given = {} if since is None else {"since": since}
            await socket.ask("subscription.subscribe", channels=ALL, **given)
            await socket.until(lambda: has_ended(socket))
            assert socket.events == [event for event in live if event["seq"] > (since or 0)]


async def test_a_connection_has_only_so_many_subscriptions(api: Api) -> None:
    async with connect(api, path_of(str(uuid4())), "alice") as socket:
        for _ in range(SUBSCRIPTIONS_MAX):
            last = await socket.ask("subscription.subscribe", channels=["lifecycle"])
            assert last["type"] == "success"
        for refused in (
            await socket.ask("subscription.subscribe", channels=["lifecycle"]),
            await socket.ask("subscription.subscribe", channels=["lifecycle"] * 101),
        ):
            assert (refused["type"], refused["error"]) == ("error", "invalid_argument")
            assert "at most 100" in refused["message"]
        # One that is given up makes room for another
        gone = last["result"]["subscription_id"]
        await socket.ask("subscription.unsubscribe", subscription_id=gone)
        assert (await socket.ask("subscription.subscribe", channels=["lifecycle"]))["type"] == "success"


async def test_each_subscription_gets_the_past_and_everybody_together_the_present_once(api: Api) -> None:
    thread = str(uuid4())
    async with connect(api, path_of(thread), "alice") as socket:
        await socket.ask("subscription.subscribe", channels=["values", "lifecycle"])
        await socket.ask("run.start", assistant_id="echo", input={"text": "a"})
        await socket.until(lambda: has_ended(socket))
        first = len(socket.events)
        # WHEN a second one comes THEN it is told what has been, and how much that was
        second = await socket.ask("subscription.subscribe", channels=["updates", "lifecycle"])
        replayed = socket.events[first:]
        assert second["result"]["replayed_events"] == len(replayed)
        assert {event["method"] for event in replayed} == {"updates", "lifecycle"}
        # AND what happens from now on is told once
        await socket.ask("run.start", assistant_id="echo", input={"text": "b"})
        await socket.until(lambda: has_ended(socket, 3))
        present = socket.events[first + len(replayed) :]
        assert len({event["seq"] for event in present}) == len(present)
        assert {event["method"] for event in present} == {"values", "updates", "lifecycle"}
        # WHEN it goes THEN only the first is told
        await socket.ask("subscription.unsubscribe", subscription_id=second["result"]["subscription_id"])
        before = len(socket.events)
        await socket.ask("run.start", assistant_id="echo", input={"text": "c"})
        await socket.until(lambda: has_ended(socket, 4))
        assert {event["method"] for event in socket.events[before:]} == {"values", "lifecycle"}
        back = await socket.ask(
            "subscription.reconnect", channels=["updates"], since=present[-1]["seq"], subscription_id="mine"
        )
        assert back["result"] == {"subscription_id": "mine", "replayed_events": 1}


async def test_what_is_wrong_is_said_and_the_socket_stays(api: Api, subtests: pytest.Subtests) -> None:
    async with connect(api, path_of(str(uuid4())), "alice") as socket:
        for frame in ("", "{", "[]", "7", '{"id":"x","method":"run.start"}', '{"id":1}', '{"a\\u0000":1}'):
            with subtests.test(frame=frame):
                before = len(socket.heard)
                socket.send(frame)
                await socket.until(lambda: len(socket.heard) > before)  # noqa: B023
                told = socket.heard[-1]
                assert (told["type"], told["error"]) == ("error", "invalid_argument")
        for method, params, code in (
            ("subscription.subscribe", {}, "invalid_argument"),
            ("subscription.subscribe", {"channels": []}, "invalid_argument"),
            ("subscription.subscribe", {"channels": ["bogus"]}, "invalid_argument"),
            ("subscription.reconnect", {"channels": ["values"]}, "invalid_argument"),
            ("subscription.reconnect", {"channels": ["values"], "since": True}, "invalid_argument"),
            ("subscription.unsubscribe", {}, "invalid_argument"),
            ("subscription.unsubscribe", {"subscription_id": "x"}, "no_such_subscription"),
            ("subscription.nonsense", {}, "unknown_command"),
            ("run.start", {}, "invalid_argument"),
            ("agent.getTree", {}, "no_such_run"),
            ("nonsense", {}, "unknown_command"),
        ):
            with subtests.test(method=method, params=params):
                assert (await socket.ask(method, **params))["error"] == code
        assert (await socket.ask("subscription.subscribe", channels=["values"]))["type"] == "success"


async def test_an_id_that_is_none_and_anothers_thread(api: Api) -> None:
    async with connect(api, "/threads/7/stream/events", "alice") as socket:
        await socket.until(lambda: socket.closed)
        assert socket.closed == (4422, "Invalid thread ID: must be a UUID")
    thread = str(uuid4())
    async with connect(api, path_of(thread), "alice") as hers:
        await hers.ask("subscription.subscribe", channels=ALL)
        await hers.ask("run.start", assistant_id="echo", input={"text": "a"})
        await hers.until(lambda: has_ended(hers))
    async with connect(api, path_of(thread), "bob") as his:
        await his.ask("subscription.subscribe", channels=ALL)
        refused = await his.ask("run.start", assistant_id="echo", input={"text": "b"})
        assert refused["message"] == "404: Thread or assistant not found."
        await asyncio.sleep(0.3)
        assert his.events == []


async def test_a_process_that_leaves_closes_it_so_that_the_sdks_come_back(api: Api) -> None:
    thread, runtime = str(uuid4()), api.services.runtime
    async with (
        connect(api, path_of(thread), "alice") as socket,
        connect(api, path_of(thread), "alice") as idle,
    ):
        await socket.ask("subscription.subscribe", channels=ALL)
        await socket.ask("run.start", assistant_id="echo", input={"text": "a"})
        await socket.until(lambda: has_ended(socket))
        stop.stop_claiming(runtime, "test")
        assert socket.closed is None
        stop.close(runtime)
        await socket.until(lambda: socket.closed)
        assert socket.closed is not None
        assert socket.closed[0] == 1012
        # One that nobody has subscribed by is closed, too
        await idle.until(lambda: idle.closed)
        assert idle.closed is not None
        assert idle.closed[0] == 1012
    async with connect(api, path_of(thread), "alice") as late:
        await late.until(lambda: late.closed)
        assert late.closed is not None
        assert late.closed[0] == 4503
