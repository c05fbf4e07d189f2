"""A value in the store is an object: officially, too, but there nobody is told."""

from __future__ import annotations

import asyncio
from secrets import token_hex
from typing import Any

import pytest
from rig import Fleet

from slackwater.postgres.connection_errors import LimitExceeded


@pytest.mark.parametrize("value", ["a string", 7, ["a"], True])
async def test_what_is_no_object_is_refused_with_a_sentence_and_nothing_is_stored(
    fleet: Fleet, value: Any
) -> None:
    store = (await fleet.start()).runtime.store_of("alice")
    await store.aput(("notes",), "k", {"before": 1})
    sentence = rf"a value in the store must be a dict, not {type(value).__name__}\. Wrap it in one"

    with pytest.raises(ValueError, match=sentence):
        await store.aput(("notes",), "k", value)
    with pytest.raises(ValueError, match=sentence):
        await asyncio.to_thread(store.put, ("notes",), "k", value)

    (item,) = await store.asearch(("notes",))
    assert item.value == {"before": 1}


async def test_a_key_that_is_too_long_is_no_trouble_of_the_database(fleet: Fleet) -> None:
    """It would be sent again until a statement's time is over, and be told as a database that is away."""
    store = (await fleet.start()).runtime.store_of("alice")

    with pytest.raises(LimitExceeded, match="index row"):
        async with asyncio.timeout(5):
            await store.aput(("notes",), token_hex(5_000), {"before": 1})
