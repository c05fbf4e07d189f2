"""JSON, times, error objects and event frames as the SDKs read them."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from array import array
from collections import deque, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import orjson
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langgraph.errors import EmptyInputError, GraphRecursionError, InvalidUpdateError
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from slackwater.errors import Draining
from slackwater.kit import json_format, sse

Pair = namedtuple("Pair", "x y")


class Color(Enum):
    RED = "red"


class Model(BaseModel):
    name: str
    blob: bytes = b"ab"


@dataclass
class Data:
    n: int
    _hidden: int = 1


class OldModel:
    def dict(self) -> dict[str, int]:
        return {"old": 1}


class ProviderError(Exception):
    pass


def through(value: Any) -> Any:
    return json.loads(json_format.dumps(value))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Model(name="m"), {"name": "m", "blob": "YWI="}),
        (OldModel(), {"old": 1}),
        (Pair(1, 2), {"x": 1, "y": 2}),
        (Data(3), {"n": 3}),
        (Send("node", {"a": 1}), {"node": "node", "args": {"a": 1}}),
        (Command(goto="x"), {"graph": None, "update": None, "resume": None, "goto": "x"}),
        (Interrupt("why", id="i"), {"value": "why", "id": "i", "response_schema": None}),
        ({"b", "a"}, ["a", "b"]),
        (frozenset({2, 1}), [1, 2]),
        ({None}, [None]),
        (deque([2, 1]), [2, 1]),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (array("i", [1, 2]), [1, 2]),
        ((1, 2), [1, 2]),
        (b"ab", "YWI="),
        (memoryview(b"ab"), "YWI="),
        (Decimal("1.50"), 1.5),
        (Decimal("2.0"), 2),
        (Decimal("NaN"), None),
        (math.inf, None),
        (timedelta(seconds=90), 90.0),
        (timezone.utc, "UTC"),  # noqa: UP017
        (PurePosixPath("/a/b"), "/a/b"),
        (re.compile("a+"), "a+"),
        (Color.RED, "red"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (date(2026, 1, 2), "2026-01-02"),
        (object(), None),
        (int, None),
        (ValueError("bad"), {"error": "ValueError", "message": "bad"}),
        ({1: "a", False: "b", None: "c"}, {"1": "a", "false": "b", "null": "c"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_state_holds_has_a_json_form(value: Any, shown: Any) -> None:
    assert through(value) == shown
    # The slow way, which a single lone surrogate leads to, chooses the same form.
    assert through({"v": value, "s": "\ud800"}) == {"v": shown, "s": "?"}


def test_messages_have_exactly_the_fields_that_the_sdks_know() -> None:
    common = ["content", "additional_kwargs", "response_metadata", "type", "name", "id"]
    ai = [*common, "tool_calls", "invalid_tool_calls", "usage_metadata"]
    assert list(through(HumanMessage("hi"))) == common
    assert list(through(AIMessage("hi"))) == ai
    assert list(through(AIMessageChunk("hi"))) == [*ai, "tool_call_chunks", "chunk_position"]
    assert list(through(ToolMessage("1", tool_call_id="c"))) == [
        *common,
        "tool_call_id",
        "artifact",
        "status",
    ]


def test_nul_becomes_the_replacement_character_and_its_escape_as_text_stays() -> None:
    value = {"nul": "a\0b\0\0", "text": "a\\u0000b", "both": "\\\0", "key\0": 1}
    data = json_format.dumps(value)
    assert b"\\u0000b" in data
    assert json.loads(data) == {"nul": "a�b��", "text": "a\\u0000b", "both": "\\�", "key�": 1}


def test_lone_surrogates_become_question_marks_at_any_depth() -> None:
    value = {"a": ["\ud800x", {"k\udfff": AIMessage("\ud83d!")}], "t": ("\ud800",)}
    shown = through(value)
    assert shown["a"][0] == "?x"
    assert shown["a"][1]["k?"]["content"] == "?!"
    assert shown["t"] == ["?"]


def test_integers_of_any_size_and_keys_of_any_type_are_written() -> None:
    assert through({"big": 2**80, ("a", 1): 2, Color.RED: 3, UUID(int=1): 4, 1.5: 5}) == {
        "big": 2**80,
        "('a', 1)": 2,
        "red": 3,
        "00000000-0000-0000-0000-000000000001": 4,
        "1.5": 5,
    }


def test_a_set_of_things_without_an_order_is_a_list() -> None:
    assert sorted(through({"a", 1}), key=str) == [1, "a"]


def test_deeply_nested_values_are_written() -> None:
    value: Any = 1
    for _ in range(300):
        value = Pair(value, None)
    assert json_format.dumps(value).startswith(b'{"x":{"x":')


def test_fragments_keep_their_bytes() -> None:
    assert json_format.dumps({"f": orjson.Fragment(b'{"a": 1}')}) == b'{"f":{"a": 1}}'
    assert through({"f": orjson.Fragment(b'{"a": 1}'), "s": "\ud800"}) == {"f": {"a": 1}, "s": "?"}


def test_times_have_six_digits_and_an_offset() -> None:
    assert (
        json_format.timestamp(datetime(2026, 11, 23, 20, 58, 40, tzinfo=UTC))
        == "2026-11-23T20:58:40.000000+00:00"
    )
    east = timezone(timedelta(hours=2))
    assert json_format.timestamp(datetime(2026, 1, 1, 1, tzinfo=east)) == "2025-12-31T23:00:00.000000+00:00"
    assert json_format.timestamp(datetime(2026, 1, 1)) == "2026-01-01T00:00:00.000000+00:00"  # noqa: DTZ001


@pytest.mark.parametrize(
    ("error", "name", "message"),
    [
        (ValueError("v"), "ValueError", "v"),
        (KeyError("k"), "KeyError", "'k'"),
        (TimeoutError("slow"), "TimeoutError", "slow"),
        (GraphRecursionError("deep"), "GraphRecursionError", "deep"),
        (EmptyInputError("none"), "EmptyInputError", "none"),
        (InvalidUpdateError("two"), "InvalidUpdateError", "two"),
        (HTTPException(404, "Run not found"), "HTTPException", "404: Run not found"),
        (Draining(), "Draining", "This process is stopping: try again, and another process answers."),
    ],
)
def test_errors_of_the_known_classes_keep_their_message(error: Exception, name: str, message: str) -> None:
    assert json_format.error_object(error) == {"error": name, "message": message}


@pytest.mark.parametrize(
    "error", [OSError("postgres://user:secret@host"), ProviderError("key sk-1 is wrong")]
)
def test_errors_of_any_other_class_are_masked(error: Exception) -> None:
    masked = {"error": type(error).__name__, "message": "An internal error occurred"}
    assert json_format.error_object(error) == masked
    assert through({"error": error}) == {"error": masked}


def test_a_frame_is_event_data_id_with_crlf() -> None:
    assert sse.frame("values", b"{}", "3-1") == b"event: values\r\ndata: {}\r\nid: 3-1\r\n\r\n"
    assert sse.frame("updates|child:1", '"ü"', None) == 'event: updates|child:1\r\ndata: "ü"\r\n\r\n'.encode()
    assert sse.id_only("3-1") == b"id: 3-1\r\n\r\n"
    assert sse.HEARTBEAT == b": heartbeat\r\n\r\n"


def test_importing_it_does_not_import_langgraph() -> None:
    code = "import sys, slackwater.kit.json_format, slackwater.runtime.execution.encoding; sys.exit('langgraph' in sys.modules or 'langchain_core' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
