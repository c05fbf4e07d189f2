"""What a reader of protocol v2 wants to hear."""

from __future__ import annotations

from typing import Any

import pytest

from slackwater.protocols.events.subscription import SEQ_MAX, Subscription, since_of, unknown_channels
from slackwater.protocols.events.translation import Envelope

CHILD, GRAND = "child:1", "grand:2"


def event(method: str = "values", *namespace: str) -> Envelope:
    return Envelope(1, "1-1", method, namespace, 0, {})


@pytest.mark.parametrize(
    ("body", "namespace", "wanted"),
    [
        ({}, (CHILD, GRAND), True),
        ({"namespaces": []}, (CHILD,), True),
        ({"namespaces": [[]]}, (CHILD,), True),
        ({"namespaces": [[]], "depth": 0}, (), True),
        ({"namespaces": [[]], "depth": 0}, (CHILD,), False),
        ({"namespaces": [["child"]]}, (CHILD, GRAND), True),
        ({"namespaces": [["child"]], "depth": 0}, (CHILD, GRAND), False),
        ({"namespaces": [["child"]], "depth": 1}, (CHILD, GRAND), True),
        ({"namespaces": [[CHILD]]}, (CHILD,), True),
        ({"namespaces": [["child:2"]]}, (CHILD,), False),
        ({"namespaces": [["other"], ["child"]]}, (CHILD,), True),
        ({"namespaces": [["child", "grand"]]}, (CHILD,), False),
        ({"depth": 0}, (CHILD,), True),
        # What makes no sense is no limit
        ({"namespaces": "child"}, (), True),
        ({"namespaces": [7]}, (), True),
        ({"namespaces": [["child"]], "depth": True}, (CHILD, GRAND), True),
        ({"namespaces": [["child"]], "depth": -1}, (CHILD, GRAND), True),
        ({"namespaces": [["child"]], "depth": "0"}, (CHILD, GRAND), True),
    ],
)
def test_namespaces_are_prefixes_and_depth_counts_from_their_end(
    body: dict[str, Any], namespace: tuple[str, ...], wanted: bool
) -> None:
    assert Subscription.of({"channels": ["values"], **body}).wants(event("values", *namespace)) is wanted


def test_a_question_is_on_the_channel_of_input() -> None:
    assert Subscription.of({"channels": ["input"]}).wants(event("input.requested"))
    assert not Subscription.of({"channels": ["values", "custom:x"]}).wants(event("input.requested"))


@pytest.mark.parametrize(
    ("channels", "named", "nameless"),
    [
        (["custom"], True, True),
        (["custom:progress"], True, False),
        (["custom:other"], False, False),
        (["values"], False, False),
    ],
)
def test_an_extension_is_asked_for_by_its_name(channels: list[str], named: bool, nameless: bool) -> None:
    wanted = Subscription.of({"channels": channels})

    assert wanted.wants(Envelope(1, "1-1", "custom", (), 0, {"name": "progress", "n": 1})) is named
    assert wanted.wants(Envelope(1, "1-1", "custom", (), 0, {"payload": {"n": 1}})) is nameless


def test_channels_that_there_are_not() -> None:
    known = ["values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom"]
    assert unknown_channels([*known, "custom:mine"]) == []
    assert unknown_channels(["debug", "custom:", 7, None, "Values"]) == [
        "debug",
        "custom:",
        "7",
        "None",
        "Values",
    ]


@pytest.mark.parametrize(
    ("since", "expected"),
    [(0, 0), (17, 17), (-1, None), (True, None), ("17", None), (1.5, None), (None, None), (10**30, SEQ_MAX)],
)
def test_where_a_reader_goes_on(since: Any, expected: int | None) -> None:
    assert since_of({"since": since}) == expected
