"""What a collected answer can hold."""

from __future__ import annotations

from typing import Any

import orjson
from gateway import Environment, Gateway, read, without_fillers

from slackwater.kit.json_format import RESPONSE_BYTES, escaped_size
from slackwater.web.streams.bounds import PAGE_BYTES


async def test_a_page_ends_before_it_is_full_and_the_rest_follows(gateway: Gateway) -> None:
    sizes = [1_500_000] * 6
    async with gateway.serve() as client:
        parts = await read(client, "line", {"n": 6, "sizes": sizes}, stream_mode="updates")
    assert [len(data["step"]["text"]) for event, data in parts if event == "updates"] == sizes
    assert len(gateway.pages) >= 3
    assert all(escaped_size(page.body) <= PAGE_BYTES for page in gateway.pages)


async def test_an_event_that_is_larger_than_a_page_has_one_of_its_own(gateway: Gateway) -> None:
    sizes = [1000, 5_500_000, 1000]
    async with gateway.serve() as client:
        parts = await read(client, "line", {"n": 3, "sizes": sizes}, stream_mode="updates")
    assert [len(data["step"]["text"]) for event, data in parts if event == "updates"] == sizes
    assert [len(page.events) for page in gateway.pages if page.body.count(b"x") > 5_000_000] == [1]


async def test_an_event_that_no_answer_can_hold_is_an_error_with_its_id_after_which_one_may_go_on(
    gateway: Gateway,
) -> None:
    async with gateway.serve() as client:
        thread = await client.threads.create()
        stream = client.runs.stream(
            thread["thread_id"], "line", input={"n": 3, "sizes": [10, 6_300_000, 20]}, stream_mode="updates"
        )
        parts = [part async for part in stream]
        # THEN the stream ends there, and the client does not come back by itself
        assert [part.event for part in parts] == ["metadata", "updates", "error"]
        error: Any = parts[-1].data
        assert error["error"] == "EventTooLarge"
        assert (error["event"], error["event_id"], error["limit"]) == (
            "updates",
            parts[-1].id,
            RESPONSE_BYTES,
        )
        assert error["bytes"] > 6_300_000
        assert str(error["bytes"]) in error["message"]
        # AND a client that wants to goes on after it
        run_id = parts[0].data["run_id"]
        rest = client.runs.join_stream(thread["thread_id"], run_id, last_event_id=parts[-1].id)
        after = without_fillers([(part.event, part.data) async for part in rest])
    assert [len(data["step"]["text"]) for event, data in after if event == "updates"] == [20]


async def test_what_a_live_stream_sends_has_no_limit_of_its_own(environment: Environment) -> None:
    gateway = Gateway(environment, live=True)
    async with gateway.serve() as client:
        parts = await read(client, "line", {"n": 1, "sizes": [7_000_000]}, stream_mode="updates")
    assert [event for event, _ in parts] == ["metadata", "updates"]


def test_a_body_is_counted_as_lambda_takes_it() -> None:
    # As one JSON string in ASCII, with its quotes.
    for text in ('{"a":"b"}', "plain", "\r\n", "å🜄", "\\"):
        payload = orjson.dumps(text).decode().encode("ascii", "backslashreplace")
        assert escaped_size(text.encode()) >= len(payload) - 2
    assert escaped_size(b'{"a"}') == len(r'"{\"a\"}"')
    assert escaped_size("å".encode()) == len(r'"\u00e5"')
