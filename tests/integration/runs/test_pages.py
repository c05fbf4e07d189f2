"""A stream in pages: a stock client reads one complete sequence, as from a container."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from conftest import Start
from gateway import Environment, Gateway, Part, comparable, read

MODES: list[str | list[str]] = [
    "values",
    "updates",
    "messages",
    "messages-tuple",
    "events",
    "debug",
    "tasks",
    "checkpoints",
    "custom",
    ["values", "updates"],
    ["updates", "messages-tuple", "custom"],
    ["values", "messages", "debug"],
    ["events", "values"],
]

TALK = {"sleep": 0.3, "messages": [{"role": "user", "content": "one two three", "id": "m1"}]}


def sequences(mode: str | list[str], parts: list[Part]) -> list[list[str]]:
    """What has to come in this order: callbacks and states are two sources, which `events` with others interleaves."""
    if isinstance(mode, list) and "events" in mode:
        records = [part for part in parts if part[0] == "events"]
        return [comparable(records), comparable([part for part in parts if part[0] != "events"])]
    return [comparable(parts)]


async def test_in_every_stream_mode_pages_read_like_a_container_s_stream(environment: Environment) -> None:
    asked = [(mode, subgraphs) for mode in MODES for subgraphs in (False, True)]

    async def read_all(gateway: Gateway) -> list[list[Part]]:
        async with gateway.serve() as client:
            return await asyncio.gather(
                *(read(client, "talk", TALK, stream_mode=mode, stream_subgraphs=sub) for mode, sub in asked)
            )

    wanted = await read_all(Gateway(environment, live=None))
    gateway = Gateway(environment)
    got = await read_all(gateway)
    for question, one, other in zip(asked, wanted, got, strict=True):
        assert sequences(question[0], one) == sequences(question[0], other), question
    assert len(gateway.pages) > 1.5 * len(asked)
    for page in gateway.pages:
        assert page.seconds < 3
        assert "reader=" in page.headers["location"]
