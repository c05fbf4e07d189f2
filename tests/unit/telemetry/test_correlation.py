"""The id that the lines of an invocation have in common with whoever sent its event."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slackwater_lambda.observability import correlation_of

EVENTS = Path(__file__).parents[3] / "events"


@pytest.mark.parametrize(
    ("name", "correlation_id"),
    [
        ("http_api_ok", "JKJaXmPLvHcESHA="),
        ("rest_api", "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"),
        ("function_url", "e1506fd5-9e7b-434f-bd42-4f8fa224b599"),
        ("alb", "Root=1-6743f2b0-0123456789abcdef01234567"),
        ("sqs", "059f36b4-87a3-44ab-83d2-661975830a7d"),
        ("scheduled", "cdc73f9d-aea9-11e3-9d5a-835b769c0d9c"),
        ("scheduler_run", "b7f1c9d2-3c2a-4b7e-9d51-2f6a8c0e4d13"),
        ("sweep", ""),
        ("unknown", ""),
    ],
)
def test_an_event_is_correlated_by_the_id_that_its_sender_knows(name: str, correlation_id: str) -> None:
    assert correlation_of(json.loads((EVENTS / f"{name}.json").read_text())) == correlation_id


@pytest.mark.parametrize("event", [None, [], "task", 7, {}, {"Records": []}, {"Records": ["x"]}])
def test_what_is_no_event_at_all_has_no_id(event: object) -> None:
    assert correlation_of(event) == ""
