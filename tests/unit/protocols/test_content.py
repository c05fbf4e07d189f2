"""Messages as content blocks."""

from __future__ import annotations

from typing import Any

import pytest

from slackwater.protocols.events.content import StreamedMessage, tool_message, whole


def said(*chunks: dict[str, Any]) -> list[dict[str, Any]]:
    message = StreamedMessage("m", "model", "t")
    return [*(data for chunk in chunks for data in message.add(chunk)), *message.finish()]


def finished(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [d["content"] for d in data if d["event"] == "content-block-finish"]


def call(index: int, args: str, name: str | None = None, id: str | None = None) -> dict[str, Any]:
    return {"content": "", "tool_call_chunks": [{"name": name, "args": args, "id": id, "index": index}]}


def test_tool_calls_are_put_together_from_their_arguments() -> None:
    data = said(call(0, "", "add", "c0"), call(0, '{"a": '), call(0, "2}"), call(1, "{}", "now", "c1"))
    assert [d["event"] for d in data] == [
        "message-start",
        "content-block-start",
        "content-block-delta",
        "content-block-delta",
        "content-block-start",
        "content-block-delta",
        "content-block-finish",
        "content-block-finish",
        "message-finish",
    ]
    assert data[1]["content"] == {
        "type": "tool_call_chunk",
        "id": "c0",
        "name": "add",
        "args": "",
        "index": 0,
    }
    assert data[2]["delta"] == {"type": "tool-call-delta", "args": '{"a": '}
    assert finished(data) == [
        {"type": "tool_call", "id": "c0", "name": "add", "args": {"a": 2}},
        {"type": "tool_call", "id": "c1", "name": "now", "args": {}},
    ]


def test_arguments_that_are_no_json_make_an_invalid_call() -> None:
    [block] = finished(said(call(0, "{", "add", "c0")))
    assert (block["type"], block["id"], block["args"]) == ("invalid_tool_call", "c0", "{")


def test_blocks_that_langchain_has_told_apart_are_taken_as_they_are() -> None:
    data = said(
        {"content": [], "content_blocks": [{"type": "reasoning", "reasoning": "Hm", "index": "r"}]},
        {
            "content": [],
            "content_blocks": [{"type": "reasoning", "reasoning": "m", "index": "r", "extras": {"s": 1}}],
        },
        {"content": [], "content_blocks": [{"type": "text", "text": "Yes", "index": 1}]},
    )
    assert data[1]["content"] == {"type": "reasoning", "reasoning": ""}
    assert data[2]["delta"] == {"type": "reasoning-delta", "reasoning": "Hm"}
    assert finished(data) == [
        {"type": "reasoning", "reasoning": "Hmm", "extras": {"s": 1}},
        {"type": "text", "text": "Yes"},
    ]


def test_what_a_message_has_cost_and_where_it_is_from_comes_with_its_end() -> None:
    data = said(
        {"content": "a", "response_metadata": {"model_provider": "p", "model_name": "n"}},
        {"content": "b", "usage_metadata": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}},
        {"content": "", "usage_metadata": {"output_tokens": 1, "output_token_details": {"reasoning": 1}}},
    )
    assert data[0]["metadata"] == {"provider": "p", "model": "n"}
    assert data[-1] == {
        "event": "message-finish",
        "usage": {
            "input_tokens": 1,
            "output_tokens": 3,
            "total_tokens": 3,
            "output_token_details": {"reasoning": 1},
        },
        "metadata": {"model_provider": "p", "model_name": "n"},
    }


def test_a_whole_message_goes_through_the_same_stages() -> None:
    message = {
        "content": ["Hi", {"type": "image", "url": "u"}],
        "tool_calls": [{"name": "add", "args": {"a": 1}, "id": "c", "type": "tool_call"}],
        "invalid_tool_calls": [{"name": "x", "args": "{", "id": "d", "error": "no"}],
    }
    assert finished(whole(message, "m")) == [
        {"type": "text", "text": "Hi"},
        {"type": "image", "url": "u"},
        {"type": "tool_call", "name": "add", "args": {"a": 1}, "id": "c"},
        {"type": "invalid_tool_call", "name": "x", "args": "{", "id": "d", "error": "no"},
    ]


@pytest.mark.parametrize(
    ("output", "call_id", "message_id", "text"),
    [
        ({"id": "m", "content": "5"}, "c", "m", "5"),
        ({"id": None, "content": [{"a": 1}]}, "c", "tool-c", '[{"a":1}]'),
        ({"content": None}, "c", "tool-c", ""),
    ],
)
def test_a_tools_end_as_a_message(output: dict[str, Any], call_id: str, message_id: str, text: str) -> None:
    data = tool_message(output, call_id)
    assert data[0] == {"event": "message-start", "role": "tool", "id": message_id, "tool_call_id": call_id}
    assert finished(data) == [{"type": "text", "text": text}]
    assert tool_message({"content": "5"}, None) == []
