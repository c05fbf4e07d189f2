"""Checkpoint ids, whatever the clocks of the processes that made the earlier ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import UUID

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base import id as generator

from slackwater.runtime.execution.clock import advance_past


@pytest.fixture(autouse=True)
def last() -> Iterator[None]:
    """Leave LangGraph's generator as it was."""
    before = generator._last_v6_timestamp
    yield
    generator._last_v6_timestamp = before


def test_langgraph_still_keeps_its_last_timestamp_where_we_move_it() -> None:
    generator.uuid6()
    assert isinstance(generator._last_v6_timestamp, int)


def test_the_next_id_sorts_after_one_from_a_clock_that_is_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 5_000_000_000)
    generator._last_v6_timestamp = None
    ahead = str(generator.uuid6())
    monkeypatch.setattr(time, "time_ns", lambda: now)
    generator._last_v6_timestamp = None
    assert str(generator.uuid6()) < ahead
    advance_past(ahead)
    ids = [empty_checkpoint()["id"] for _ in range(3)]
    assert [ahead, *ids] == sorted({ahead, *ids})


def test_an_older_id_does_not_turn_the_clock_back() -> None:
    newest = str(generator.uuid6())
    advance_past("1ef00000-0000-6000-8000-000000000000")
    assert str(generator.uuid6()) > newest


@pytest.mark.parametrize("other", ["not an id", str(UUID(int=0)), "0190b6a0-0000-7000-8000-000000000000"])
def test_what_is_no_time_ordered_id_is_left_alone(other: str) -> None:
    before = generator._last_v6_timestamp
    advance_past(other)
    assert generator._last_v6_timestamp == before
