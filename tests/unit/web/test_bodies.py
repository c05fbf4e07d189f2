"""How much a body may hold, and how much all of them together."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from slackwater.errors import Crowded, Invalid
from slackwater.web import bodies
from slackwater.web.bodies import MAX_VALUES, body_quota, values_in

STRINGS = ['"', "\\", "\\\\", '\\"', '{["', ",,,", "é", "\\\\\\", "x" * 30]


def number_of(value: Any) -> int:
    """Objects, arrays and members but the first one of each."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(len(value) - 1, 0) + sum(map(number_of, value)) if isinstance(value, list) else 0


@pytest.mark.parametrize("size", [7, 64, 1000])
def test_what_is_in_a_string_is_no_value(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the text is cut into slices."""
    value = {text: [text, {"a": [text, other, 1]}, []] for text in STRINGS for other in STRINGS}
    text = json.dumps(value, ensure_ascii=False).encode()
    monkeypatch.setattr(bodies, "_SLICE", size)
    monkeypatch.setattr(bodies, "MAX_VALUES", number_of(value))
    assert values_in(text) == number_of(value)
    monkeypatch.setattr(bodies, "MAX_VALUES", number_of(value) - 1)
    with pytest.raises(Invalid, match="send less"):
        values_in(text)


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b"{}," * MAX_VALUES + b"1]",
        b"[" + b"0," * (MAX_VALUES + 1) + b"1]",
        b"[" * (MAX_VALUES + 1),
        b'{"a":' * (MAX_VALUES + 1),
        b"[" + b'"",' * (MAX_VALUES + 1) + b"1]",
        b'["\\\\",' + b"[]," * MAX_VALUES + b"1]",
    ],
    ids=["objects", "numbers", "depth of arrays", "depth of objects", "strings", "after a backslash"],
)
def test_too_many_values(text: bytes) -> None:
    with pytest.raises(Invalid, match=f"more than {MAX_VALUES} values"):
        values_in(text)


def test_a_long_string_is_one_value() -> None:
    assert values_in(json.dumps({"csv": '"{[,\\' * 500_000}).encode()) == 1


async def test_nobody_gets_more_than_half_of_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "WAIT_SECONDS", 0.05)
    room = body_quota(1_000_000)
    half = room._total // 2
    await room.acquire("maria", half)
    with pytest.raises(Crowded):
        await room.acquire("maria", 1)
    await room.acquire("lee", half)
    with pytest.raises(Crowded):
        await room.acquire("kim", 1)
    room.release("maria", half)
    await room.acquire("kim", half)


async def test_room_is_waited_for() -> None:
    room = body_quota(1_000_000)
    half = room._total // 2
    await room.acquire("maria", half)
    waiting = [asyncio.create_task(room.acquire("maria", half // 2)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    room.release("maria", half)
    done, left = await asyncio.wait(waiting, timeout=1)
    assert (len(done), len(left)) == (2, 1)
    room.release("maria", half // 2)
    await asyncio.wait_for(left.pop(), 10)
    # AND whoever goes away while he waits takes nothing
    gone = asyncio.create_task(room.acquire("maria", half))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    for _ in range(2):
        room.release("maria", half // 2)
    assert room._taken.total() == 0


def test_the_largest_body_has_room() -> None:
    for largest in (1, 1000, 4_000_000, 300_000_000):
        assert body_quota(largest)._total // 2 >= largest + MAX_VALUES * bodies.VALUE_BYTES
