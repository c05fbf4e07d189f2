"""What a chat has taken is noted: whoever does not know it would say it once more."""

from __future__ import annotations

import asyncio

import pytest

from slackwater.channels.posts import _noted


async def test_what_was_taken_is_noted_although_the_process_leaves() -> None:
    begun, answered = asyncio.Event(), asyncio.Event()
    notes: list[str] = []

    async def note() -> None:
        begun.set()
        await answered.wait()
        notes.append("1.2")

    # GIVEN a note that the database has not taken yet
    posting = asyncio.create_task(_noted(note()))
    await begun.wait()

    # WHEN its sending is broken off
    posting.cancel()
    answered.set()
    with pytest.raises(asyncio.CancelledError):
        await posting

    # THEN it was noted before
    assert notes == ["1.2"]
