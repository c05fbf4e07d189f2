"""What is asked of a loop from elsewhere, when that loop ends."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from typing import Any

import pytest

from slackwater.runtime.execution import owning_loop
from slackwater.runtime.execution.owning_loop import LoopGone, OwningLoop


async def answer() -> int:
    return 42


async def made() -> OwningLoop:
    return OwningLoop()


@pytest.mark.parametrize("synchronously", [False, True])
async def test_what_a_loop_that_has_ended_never_began_is_closed(
    synchronously: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owning_loop, "LOOK_SECONDS", 0.01)
    asked: list[Coroutine[Any, Any, int]] = []

    def make() -> Coroutine[Any, Any, int]:
        asked.append(answer())
        return asked[-1]

    loop = asyncio.new_event_loop()
    try:
        # GIVEN a loop that is not running any more, and not closed yet
        owner = await asyncio.to_thread(loop.run_until_complete, made())
        # WHEN something is asked of it
        with pytest.raises(LoopGone):
            await (asyncio.to_thread(owner.call, make) if synchronously else owner.run(make))
    finally:
        loop.close()
    # THEN nothing is left that Python would complain of
    assert [inspect.getcoroutinestate(work) for work in asked] == [inspect.CORO_CLOSED]
