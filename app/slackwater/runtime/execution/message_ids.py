"""The ids that LangGraph gives messages a moment after it has passed them to its callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_core.messages import BaseMessage
from langgraph.types import Command

TURNS = 16
"""Turns of the event loop. LangGraph 1.2 applies a node's writes six turns after it calls the callbacks."""

_OF_NODES = ("on_chain_stream", "on_chain_end")


async def given(record: Mapping[str, Any]) -> None:
    """Wait until the messages in a record of `astream_events` have the ids under which the state keeps them.

    A reducer gives a message without an id one, in place. A reader who gets the message before that cannot find it again
    later. In a state without such a reducer messages stay as they are, and this ends after `TURNS` turns.
    """
    if record["event"] not in _OF_NODES:
        return
    without = [message for message in _messages(record["data"]) if message.id is None]
    for _ in range(TURNS if without else 0):
        if all(message.id is not None for message in without):
            return
        await asyncio.sleep(0)


def _messages(data: Any) -> Iterator[BaseMessage]:
    if isinstance(data, BaseMessage):
        yield data
    elif isinstance(data, dict):
        for value in data.values():
            yield from _messages(value)
    elif isinstance(data, list):
        for value in data:
            yield from _messages(value)
    elif isinstance(data, Command):
        yield from _messages(data.update)
