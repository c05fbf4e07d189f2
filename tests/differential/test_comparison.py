"""What counts as the same, and as a difference: the pure parts, without any server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.differential.compare import ABSENT, differences
from tests.differential.deliberate import At, Deliberate, explained
from tests.differential.normal import normal
from tests.differential.routes import uncalled
from tests.differential.script import Answer, Event, Step, parse

A, B, C, D = (f"00000000-0000-4000-8000-00000000000{n}" for n in range(4))


def compared(official: Any, ours: Any) -> list[tuple[str, Any, Any]]:
    """The differences of two traces of one step each."""
    sides = [normal([Step("1 GET /x", "/x", side)], "http://here") for side in (official, ours)]
    return [(found.place, found.official, found.ours) for found in differences("s", *sides)]


def answer(body: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, headers, body)


@pytest.mark.parametrize(
    ("official", "ours"),
    [
        ({"id": A, "again": [A]}, {"id": C, "again": [C]}),
        ({"at": "2026-01-02T03:04:05.6+00:00"}, {"at": "2026-02-03T04:05:06+00:00"}),
        ({"ns": f"child:{A}"}, {"ns": f"child:{B}"}),
        ({A: [1], B: [2]}, {D: [2], C: [1]}),
        ({"url": "http://here/x"}, {"url": "http://here/x"}),
    ],
)
def test_what_differs_each_time_is_the_same(official: Any, ours: Any) -> None:
    assert compared(answer(official), answer(ours)) == []


@pytest.mark.parametrize(
    ("official", "ours", "path"),
    [
        ({"id": A, "parent": A}, {"id": B, "parent": C}, "body.parent"),
        ({"id": A, "parent": B}, {"id": C, "parent": C}, "body.parent"),
        ({"n": 1}, {"n": True}, "body.n"),
        ({"n": None}, {}, "body.n"),
        ([1], [1, 2], "body[1]"),
        ({"at": "2026-01-02T03:04:05Z"}, {"at": None}, "body.at"),
    ],
)
def test_a_difference_is_named_by_its_place(official: Any, ours: Any, path: str) -> None:
    assert [place for place, *_ in compared(answer(official), answer(ours))] == [f"s / 1 GET /x: {path}"]


def test_of_two_statuses_only_these_differ() -> None:
    assert compared(answer({"a": 1}), answer({"detail": "no"}, 422)) == [("s / 1 GET /x: status", 200, 422)]


def test_one_more_event_is_one_difference() -> None:
    one, two = Event("values", {"n": 1}, None), Event("updates", {"n": 2}, "1-1")
    official, ours = Answer(200, {}, events=[one, two]), Answer(200, {}, events=[one, one, two])

    assert [(place, before) for place, before, _ in compared(official, ours)] == [
        ("s / 1 GET /x: events[0 values]", ABSENT)
    ]


def test_a_frame_without_an_event_is_none() -> None:
    text = "id: 1-0\r\n\r\n: heartbeat\r\n\r\nevent: values\r\ndata: {}\r\nid: 1-1\r\n\r\nevent: cut"

    assert parse(text) == [Event("values", {}, "1-1")]


def test_a_difference_needs_an_explanation_and_an_explanation_a_difference() -> None:
    sides = [normal([Step("1 GET /x", "/x", answer({"a": 1, "b": n}))], "") for n in (1, 2)]
    found = list(differences("s", *sides))
    meant, other = At("s / *: body.b", 1, lambda value: value > 1), At("s / *: body.c")

    assert explained(found, [Deliberate("b", (meant, other))]) == ([], [("b", other)])
    assert explained(found, [Deliberate("b", (At("s / *: body.b", 1, 1),))])[0] == found


def test_a_route_is_called_by_the_path_that_it_alone_answers() -> None:
    routes = {("POST", "/threads/search"), ("POST", "/threads/{id}"), ("GET", "/threads/{id}")}

    assert uncalled(routes, {("POST", "/threads/search"), ("GET", f"/threads/{A}")}) == ["POST /threads/{id}"]
