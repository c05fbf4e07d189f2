"""A value in the store is an object: officially, too, but there nobody is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rig import Fleet


@pytest.mark.parametrize("value", ["a string", 7, ["a"], True])
async def test_what_is_no_object_is_refused_with_a_sentence_and_nothing_is_stored(
    fleet: Fleet, value: Any
) -> None:
    store = (await fleet.start()).runtime.store_of("alice")
    await store.aput(("notes",), "k", {"before": 1})
    sentence = rf"a value in the store is a dict, not {type(value).__name__}\. Put it into one"

    with pytest.raises(ValueError, match=sentence):
        await store.aput(("notes",), "k", value)
    with pytest.raises(ValueError, match=sentence):
        await asyncio.to_thread(store.put, ("notes",), "k", value)

    (item,) = await store.asearch(("notes",))
    assert item.value == {"before": 1}
