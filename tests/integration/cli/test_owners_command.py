"""`slackwater owners`: what it prints, and what it asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
from support.command import Answer

from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database

Slackwater = Callable[..., Awaitable[Answer]]

_THREADS = "select owner, count(*) as count from slackwater.threads group by owner order by owner"


@pytest.fixture
async def command(slackwater: Callable[..., Answer], database_uri: str, database: Database) -> Slackwater:
    """Runs a command on the test's database, in which two owners have two threads each."""
    for owner in ("alice", "alice", "bob", "bob"):
        await database.execute(
            "insert into slackwater.threads (thread_id, owner) values (%s, %s)", [uuid7(), owner]
        )
    return partial(asyncio.to_thread, partial(slackwater, SLACKWATER_DATABASE_URI=database_uri))


async def test_an_owner_is_exported_and_erased(command: Slackwater, database: Database) -> None:
    answer = await command("owners", "export", "alice")
    *rows, end = map(json.loads, answer.out.splitlines())
    assert [(row["table"], row["row"]["owner"]) for row in rows] == [("threads", "alice")] * 2
    assert (end["table"], end["rows"]["threads"]) == (None, 2)

    erased = await command("owners", "erase", "alice", "--yes", "--json")
    assert erased.json["erased"]["threads"] == 2
    assert await database.fetch(_THREADS) == [{"owner": "bob", "count": 2}]


async def test_nothing_is_erased_without_a_yes_nor_of_the_owner_of_what_belongs_to_everybody(
    command: Slackwater, database: Database
) -> None:
    unasked = await command("owners", "erase", "alice")
    assert unasked.code == 1
    assert "Erase all that belongs to 'alice'" in unasked.err
    system = await command("owners", "erase", "system", "--yes")
    assert (system.code, "belongs to everybody" in system.sentence) == (2, True)
    assert await database.fetch(_THREADS) == [{"owner": "alice", "count": 2}, {"owner": "bob", "count": 2}]
