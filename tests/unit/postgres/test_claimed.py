"""Rows that are claimed, tried, put off, given up and given back: what all kinds of them have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import pytest

from slackwater.postgres import claimed
from slackwater.postgres.claimed import Claimed, Terms, pause
from slackwater.postgres.pool import Row

TERMS = Terms(
    what="errand",
    key="name",
    at_a_time=2,
    of_one_owner=1,
    max_attempts=3,
    first_pause=1.0,
    pause_factor=2.0,
    longest_pause=10.0,
    put_off={"event": "errand.put_off"},
    given_up={"event": "errand.given_up"},
    trouble={"event": "errand.trouble"},
)


class Errands(Claimed):
    """Rows in memory. An errand does what `act` says, or hangs."""

    def __init__(self, *names: str, act: Any = None) -> None:
        super().__init__(TERMS)
        self.due: list[Row] = [
            {"name": name, "owner": name[0], "attempts": 0, "trouble": None} for name in names
        ]
        self.act = act
        self.claims = 0
        self.answered = asyncio.Event()
        self.answered.set()
        self.given_back: list[str] = []
        self.given_up: list[str] = []
        self.put_off: list[Row] = []

    async def _claim(self, free: int, in_hand: Sequence[str]) -> list[Row]:
        self.claims += 1
        for _ in range(3):  # in flight for a while
            await asyncio.sleep(0)
        rows, self.due = self.due[:free], self.due[free:]
        for row in rows:
            row["attempts"] += 1
        await self.answered.wait()
        return rows

    async def _attempt(self, row: Row) -> str | None:
        if self.act is None:
            await asyncio.Event().wait()
        return self.act(row)  # type: ignore[no-any-return]

    async def _put_off(self, row: Row, seconds: float, trouble: str) -> None:
        row["trouble"] = trouble
        self.put_off.append(row)

    async def _give_up(self, row: Row, trouble: str) -> bool:
        self.given_up.append(row["name"])
        return True

    async def _give_back(self, row: Row) -> None:
        row["attempts"] -= 1
        self.given_back.append(row["name"])
        self.due.append(row)

    def _about(self, row: Row) -> Mapping[str, Any]:
        return {"errand": row["name"]}


async def test_what_a_claim_in_flight_brings_is_given_back_and_not_claimed_again_before_a_freeze(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claimed, "MOMENT_SECONDS", 10.0)
    # GIVEN more than there is room for, and a claim in flight
    errands = Errands("a1", "b1", "c1")
    errands.look()
    await asyncio.sleep(0)
    assert (errands.claims, errands._live) == (1, {})

    # WHEN the process is about to be frozen
    await errands.sent(0)

    # THEN what it brings is given back, and nothing is claimed in its place
    assert sorted(errands.given_back) == ["a1", "b1"]
    assert errands._busy == set()
    assert errands.claims == 1

    # AND after that it goes on, until it is stopped
    errands.look()
    await errands.stop(0)
    errands.look()
    assert errands._busy == set()
    assert [row["attempts"] for row in errands.due] == [0, 0, 0]


async def test_what_a_claim_brings_when_nobody_waits_for_it_any_more_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claimed, "MOMENT_SECONDS", 0.0)
    errands = Errands("a1", "b1")
    give_back = errands._give_back

    async def and_hold(row: Row) -> None:
        await give_back(row)
        errands.answered.clear()

    monkeypatch.setattr(errands, "_give_back", and_hold)
    # GIVEN a claim that the database has not answered when the process is frozen
    errands.answered.clear()
    errands.look()
    await asyncio.sleep(0)
    await errands.sent(0)
    [claiming] = errands._busy

    # WHEN it is answered after that, THEN nobody works on what it brings
    errands.look()
    errands.answered.set()
    async with asyncio.timeout(5):
        while errands.claims < 2:
            await asyncio.sleep(0)
    assert sorted(errands.given_back) == ["a1", "b1"]
    # AND whoever has asked since then is heard
    assert errands._busy == {claiming}

    # WHEN the next one is answered after a stop, THEN it was the last
    await errands.stop(0)
    errands.look()
    errands.answered.set()
    await claiming
    assert sorted(errands.given_back) == ["a1", "a1", "b1", "b1"]
    assert (errands.claims, errands._busy) == (2, set())
    assert [row["attempts"] for row in errands.due] == [0, 0]


async def test_they_are_no_part_of_the_run_that_has_asked() -> None:
    whose: ContextVar[str] = ContextVar("whose", default="nobody's")
    seen: list[str] = []
    errands = Errands("a1", act=lambda row: seen.append(whose.get()))
    whose.set("a run's")

    errands.look()
    await errands.sent(10)

    assert seen == ["nobody's"]


async def test_what_a_column_does_not_take_is_not_in_a_trouble(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    errands = Errands("a1", act=lambda row: "a\0b" + "c" * 600)
    errands.look()
    await errands.sent(10)
    assert [row["trouble"] for row in errands.put_off] == ["ab" + "c" * 498]

    # AND what goes wrong all the same is told
    async def refuse(row: Row, seconds: float, trouble: str) -> None:
        raise LookupError

    monkeypatch.setattr(errands, "_put_off", refuse)
    errands.due = errands.put_off
    caplog.clear()
    errands.look()
    await errands.sent(10)
    assert [(line.levelname, getattr(line, "event", "")) for line in caplog.records] == [
        ("ERROR", "errand.trouble")
    ]


async def test_nobody_can_ask_for_more_while_it_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claimed, "MOMENT_SECONDS", 10.0)
    errands = Errands("a1")
    give_back = errands._give_back

    async def and_look(row: Row) -> None:
        await give_back(row)
        errands.look()  # a run has ended, say

    monkeypatch.setattr(errands, "_give_back", and_look)
    errands.look()
    await asyncio.sleep(0)

    await errands.sent(0)

    assert (errands.claims, errands._busy) == (1, set())


async def test_whatever_goes_wrong_an_errand_is_put_off_and_at_last_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def act(row: Row) -> None:
        raise LookupError(row["name"])

    errands = Errands("a1", act=act)
    for attempt in (1, 2):
        errands.look()
        await errands.sent(10)
        assert [(row["attempts"], row["trouble"]) for row in errands.put_off] == [(attempt, "LookupError")]
        errands.due, errands.put_off = errands.put_off, []
    errands.look()
    await errands.sent(10)

    assert (errands.given_up, errands.put_off) == (["a1"], [])
    logged = [(getattr(line, "event", ""), getattr(line, "errand", "")) for line in caplog.records]
    once = [("errand.trouble", "a1"), ("errand.put_off", "a1")]
    assert logged == [*once, *once, ("errand.trouble", "a1"), ("errand.given_up", "a1")]


async def test_an_errand_that_ended_with_its_process_each_time_is_not_tried_again() -> None:
    errands = Errands("a1")
    errands.due[0]["attempts"] = TERMS.max_attempts

    errands.look()
    await errands.sent(10)

    assert errands.given_up == ["a1"]


def test_pauses_grow_as_far_as_they_may() -> None:
    for attempts, seconds in ((1, 5), (2, 15), (3, 45), (9, 3600)):
        assert seconds * 0.8 <= pause(attempts, 5.0, 3.0, 3600.0) <= seconds * 1.2
