"""Whether the first administrator is still to be made: asked often, answered rarely, and never wrongly by a page that comes late."""

from __future__ import annotations

import asyncio

import pytest

from slackwater.identity.accounts import setup
from slackwater.identity.accounts.setup import SetupQuestion


class Asked:
    """What the database would say."""

    def __init__(self) -> None:
        self.needed = True
        self.times = 0
        self.release = asyncio.Event()
        self.release.set()

    async def __call__(self) -> bool:
        self.times += 1
        needed = self.needed
        await self.release.wait()
        return needed


async def test_that_there_is_none_is_never_remembered() -> None:
    """A12"""
    asked = Asked()
    question = SetupQuestion(asked)
    assert [await question.needed() for _ in range(3)] == [True, True, True]
    assert asked.times == 3
    asked.needed = False
    assert await question.needed() is False


async def test_that_there_is_one_is_relied_on_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A12"""
    asked = Asked()
    asked.needed = False
    question = SetupQuestion(asked)
    assert [await question.needed() for _ in range(30)] == [False] * 30
    assert asked.times == 1
    monkeypatch.setattr(setup, "DONE_SECONDS", 0.0)
    await question.needed()
    assert asked.times == 2


async def test_those_who_come_while_it_is_asked_share_the_next_answer() -> None:
    """A12: the one that was on its way may be from before an administrator was made."""
    asked = Asked()
    asked.release.clear()
    question = SetupQuestion(asked)
    first = asyncio.create_task(question.needed())
    while not asked.times:
        await asyncio.sleep(0)
    asked.needed = False
    others = [asyncio.create_task(question.needed()) for _ in range(20)]
    await asyncio.sleep(0)
    asked.release.set()
    assert await first is True
    assert await asyncio.gather(*others) == [False] * 20
    assert asked.times == 2


async def test_one_who_leaves_takes_no_answer_along() -> None:
    asked = Asked()
    asked.release.clear()
    question = SetupQuestion(asked)
    first = asyncio.create_task(question.needed())
    while not asked.times:
        await asyncio.sleep(0)
    second = asyncio.create_task(question.needed())
    await asyncio.sleep(0)
    first.cancel()
    asked.release.set()
    assert await second is True
