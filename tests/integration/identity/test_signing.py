"""The keys that sign our tokens: made once, known to all processes, rotated, encrypted."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from slackwater.identity.signing import service
from slackwater.identity.signing.audience import Audience
from slackwater.identity.signing.encryption import Encryption
from slackwater.identity.signing.service import Signing
from slackwater.postgres.pool import Database

Make = Callable[..., Signing]


def a_key() -> str:
    return b64encode(service.secrets.token_bytes(32)).decode()


@pytest.fixture
async def make(database: Database) -> AsyncIterator[Make]:
    """A process's part: `make()`, `make(key)`."""
    async with AsyncExitStack() as stack:

        def make(text: str | None = None) -> Signing:
            signing = Signing(database, Encryption.parse(text) if text else Encryption())
            stack.push_async_callback(signing.stop)
            return signing

        yield make


def header_of(token: str) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(decoded(token.split(".")[0]))
    return header


def decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encoded(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_what_one_process_has_signed_any_other_verifies(make: Make) -> None:
    one, other = make(), make()
    before = int(time.time())
    token = await one.sign(Audience.SESSION, {"sub": "alice", "sid": "s"}, seconds=60)
    claims = await other.verify(Audience.SESSION, token)
    assert {"sub": "alice", "sid": "s", "aud": "session"}.items() <= claims.items()
    assert before <= claims["iat"] <= time.time()
    assert before + 60 <= claims["exp"] <= time.time() + 60
    header = header_of(token)
    assert header.keys() == {"alg", "kid", "typ"}
    assert (header["alg"], header["typ"]) == ("HS256", "slackwater-session+jwt")


async def test_however_many_start_at_once_there_is_one_key(make: Make, database: Database) -> None:
    many = [make() for _ in range(12)]
    tokens = await asyncio.gather(*(each.sign(Audience.SESSION, {}, seconds=60) for each in many))
    assert len({header_of(token)["kid"] for token in tokens}) == 1
    assert len(await service.list_(database)) == 1
    for each, token in zip(many, reversed(tokens), strict=True):
        await each.verify(Audience.SESSION, token)
