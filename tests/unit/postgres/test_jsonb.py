from __future__ import annotations

import json
from typing import Any

import pytest

from slackwater.postgres import jsonb


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"text": "tide", "list": [1, 2.5, True, None], "nested": {"é": "\U0001f30a"}},
        2**63,
        -(2**63) - 1,
        [1, 2**200, -(2**80)],
        {"deep": [{"number": 2**64}]},
        {"version": "00000000000000000000000000000002.0.1234567890123456"},
        {"float": 5e-324, "large": 1.5e300},
        r"a path \u0000 that only looks like one",
        "\\",
    ],
)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    assert jsonb.loads(jsonb.dumps(value)) == value
    # THEN also in the spelling of `jsonb`, which has spaces
    assert jsonb.loads(json.dumps(value).encode()) == value
    assert jsonb.loads(json.dumps(value)) == value


def test_integers_beyond_64_bits_do_not_become_floats() -> None:
    assert jsonb.loads(b'{"a": 18446744073709551617}') == {"a": 18446744073709551617}
    assert jsonb.loads(b"-9223372036854775809") == -9223372036854775809


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("a\0b", "a\ufffdb"),
        ({"k\0": ["\0\0"]}, {"k\ufffd": ["\ufffd\ufffd"]}),
        ("\\\0", "\\\ufffd"),
        ("\\\\\0 \\u0000", "\\\\\ufffd \\u0000"),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
        ({"big": 2**70, "nul": "\0"}, {"big": 2**70, "nul": "\ufffd"}),
    ],
)
def test_what_jsonb_refuses_is_replaced(value: Any, stored: Any) -> None:
    assert jsonb.loads(jsonb.dumps(value)) == stored


def test_keys_that_are_not_strings_become_strings() -> None:
    assert jsonb.loads(jsonb.dumps({1: "a", None: "b", False: "c"})) == {"1": "a", "null": "b", "false": "c"}


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError):
        jsonb.dumps({"a": object()})
