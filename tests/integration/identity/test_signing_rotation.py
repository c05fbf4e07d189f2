"""Another signing key: nobody notices it, or, in an emergency, everybody; and the keys that encrypt the keys."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from slackwater.errors import SettingsError, SigningKeyUnreadable, TokenInvalid
from slackwater.identity.audit import service as audit
from slackwater.identity.audit.actor import AuditAction
from slackwater.identity.signing import rotation, service
from slackwater.identity.signing.audience import Audience
from slackwater.identity.signing.encryption import EXPECTED, Encryption
from slackwater.identity.signing.rotation import rotate
from slackwater.identity.signing.service import Signing
from slackwater.identity.signing.tokens import kid_of
from slackwater.postgres.pool import Database

Make = Callable[..., Signing]

SESSION = Audience.SESSION
NONE = Encryption()
OLD, NEW = (b64encode(bytes([number]) * 32).decode() for number in (1, 2))


@pytest.fixture
async def make(database: Database) -> AsyncIterator[Make]:
    """What one process has of it, with this SLACKWATER_ENCRYPTION_KEY."""
    async with AsyncExitStack() as stack:

        def make(text: str | None = None) -> Signing:
            signing = Signing(database, encryption(text))
            stack.push_async_callback(signing.stop)
            return signing

        yield make


def encryption(text: str | None) -> Encryption:
    return Encryption.parse(text) if text else Encryption()


async def pass_by(database: Database, seconds: float) -> None:
    """So much time for the keys."""
    await database.execute(
        "update slackwater.signing_keys set signs_from = signs_from - %(s)s * interval '1 s', "
        "valid_until = valid_until - %(s)s * interval '1 s'",
        {"s": seconds},
    )


async def token_of(signing: Signing, seconds: float = 60) -> tuple[str, str]:
    """A token, and the key that has signed it."""
    token = await signing.sign(SESSION, {}, seconds=seconds)
    return token, kid_of(SESSION, token)


async def rows(database: Database) -> list[Any]:
    return await database.fetch("select * from slackwater.signing_keys order by created_at")


async def test_a_new_key_signs_only_when_every_process_can_know_it(make: Make, database: Database) -> None:
    _, first = await token_of(make())
    new = (await rotate(database, NONE))["kid"]
    # A process that asked just before it was made relies on that for so long, and another may have this token then.
    assert service.STALE_SECONDS < rotation.SIGNS_IN_SECONDS
    assert (await token_of(make()))[1] == first
    await pass_by(database, rotation.SIGNS_IN_SECONDS - 1)
    assert (await token_of(make()))[1] == first
    await pass_by(database, 1)
    token, kid = await token_of(make())
    assert kid == new
    await make().verify(SESSION, token)


async def test_a_process_that_knew_a_new_key_before_signs_with_it_in_time_by_itself(
    make: Make, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "SIGNS_IN_SECONDS", 0.5)
    monkeypatch.setattr(service, "FRESH_SECONDS", 1000.0)
    monkeypatch.setattr(service, "STALE_SECONDS", 1000.0)
    await token_of(make())
    new = (await rotate(database, NONE))["kid"]
    signing = make()
    until = time.monotonic() + 60
    while (await token_of(signing))[1] != new:
        assert time.monotonic() < until
        await asyncio.sleep(0.01)


async def test_what_an_old_key_has_signed_is_valid_as_long_as_any_token(
    make: Make, database: Database
) -> None:
    token, first = await token_of(make(), rotation.LONGEST_SECONDS)
    # The last moment at which it may sign: a process that has asked just before.
    await rotate(database, NONE)
    await pass_by(database, rotation.SIGNS_IN_SECONDS + rotation.LONGEST_SECONDS)
    await make().verify(SESSION, token)
    await rotation.trim(database)
    await make().verify(SESSION, token)
    # WHEN it is over, it is refused, and then deleted
    await pass_by(database, 61)
    with pytest.raises(TokenInvalid):
        await make().verify(SESSION, token)
    assert first in [row["kid"] for row in await rows(database)]
    await rotation.trim(database)
    assert first not in [row["kid"] for row in await rows(database)]
    # AND the newest one never is
    await pass_by(database, 1e9)
    await rotation.trim(database)
    assert len(await rows(database)) == 1


async def test_a_key_that_is_over_is_refused_also_by_who_has_not_asked_since(
    make: Make, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing = make()
    token, _ = await token_of(signing, 600)
    await rotate(database, NONE)
    await database.execute(
        "update slackwater.signing_keys set valid_until = clock_timestamp() + interval '30 s' "
        "where valid_until is not null"
    )
    signing = make()
    await signing.verify(SESSION, token)
    monkeypatch.setattr(service, "FRESH_SECONDS", 1000.0)
    monkeypatch.setattr(service, "STALE_SECONDS", 1000.0)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 30)
    with pytest.raises(TokenInvalid):
        await signing.verify(SESSION, token)


async def test_many_rotations_at_once_follow_each_other(make: Make, database: Database) -> None:
    token, first = await token_of(make())
    made = await asyncio.gather(*(rotate(database, NONE) for _ in range(5)))
    found = await rows(database)
    assert {row["kid"] for row in found} == {first, *(row["kid"] for row in made)}
    assert [row["valid_until"] is None for row in found] == [False] * 5 + [True]
    assert [row["signs_from"] for row in found] == sorted(row["signs_from"] for row in found)
    for row, following in itertools.pairwise(found):
        # None ends before those that follow it can do without.
        lasts = (row["valid_until"] - following["signs_from"]).total_seconds()
        assert lasts == pytest.approx(rotation.OVERLAP_SECONDS, abs=1)
    await pass_by(database, rotation.SIGNS_IN_SECONDS)
    assert (await token_of(make()))[1] == found[-1]["kid"]
    await make().verify(SESSION, token)


async def test_a_rotation_before_there_is_a_key_makes_both(make: Make, database: Database) -> None:
    made = await asyncio.gather(*(rotate(database, NONE) for _ in range(3)))
    assert len(await rows(database)) == 4
    assert (await token_of(make()))[1] not in [row["kid"] for row in made]


# In an emergency


async def test_in_an_emergency_whatever_was_signed_before_is_refused(make: Make, database: Database) -> None:
    knows = make()
    token, _ = await token_of(knows)
    await knows.verify(SESSION, token)
    await rotate(database, NONE)
    await pass_by(database, rotation.SIGNS_IN_SECONDS)
    other, _ = await token_of(make())
    new = (await rotate(database, NONE, now=True))["kid"]
    assert [row["kid"] for row in await rows(database)] == [new]
    for each in (token, other):
        with pytest.raises(TokenInvalid):
            await make().verify(SESSION, each)
    # Whoever has read it before, too, as soon as what they know of the keys is old.
    await knows._ask()
    with pytest.raises(TokenInvalid):
        await knows.verify(SESSION, token)


async def test_in_an_emergency_nobody_signs_before_all_who_answer_have_asked_since(
    make: Make, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever knows of no such key, or is told so by an answer that is on its way, has asked before.
    assert max(service.FRESH_SECONDS, service.UNKNOWN_SECONDS) < rotation.SIGNS_IN_SECONDS_NOW
    monkeypatch.setattr(rotation, "SIGNS_IN_SECONDS_NOW", 0.5)
    monkeypatch.setattr(service, "UNKNOWN_SECONDS", 0.0)
    other = make()
    old, _ = await token_of(other)
    row = await rotate(database, NONE, now=True)
    token, kid = await token_of(make())
    (begun,) = await database.fetch(
        "select signs_from <= clock_timestamp() as begun from slackwater.signing_keys"
    )
    assert (kid, begun) == (row["kid"], {"begun": True})
    # A process that has not asked since does so for a key that it does not know, and then knows of the end of the other.
    await other.verify(SESSION, old)
    await other.verify(SESSION, token)
    with pytest.raises(TokenInvalid):
        await other.verify(SESSION, old)


async def test_rotations_are_audited(database: Database) -> None:
    calm, emergency = (await rotate(database, NONE))["kid"], (await rotate(database, NONE, now=True))["kid"]
    found = await audit.list_(database, actions=[AuditAction.SIGNING_KEY_ROTATED])
    told = [(row["via"], row["subject"], row["detail"], row["owner"]) for row in found]
    assert told == [("command", emergency, "now", None), ("command", calm, None, None)]


# Encryption


async def test_what_is_encrypted_cannot_be_used_by_who_reads_the_database(
    make: Make, database: Database
) -> None:
    plain, sealed = make(), make(OLD)
    await plain.sign(SESSION, {}, seconds=60)
    (row,) = await rows(database)
    secret = row["secret"]
    assert row["sealed_by"] is None
    # WHEN a process has a key
    await sealed.open()
    (row,) = await rows(database)
    assert row["sealed_by"] == encryption(OLD).first
    assert secret not in row["secret"]
    assert urlsafe_b64encode(secret.encode()).decode()[:40] not in row["secret"]
    # THEN it is the same key: nobody has to log in again
    token, kid = await token_of(make(OLD))
    assert kid == row["kid"]
    await plain.verify(SESSION, token)
    # AND a first key that is made with one is encrypted from the start
    await database.execute("delete from slackwater.signing_keys")
    await make(OLD).sign(SESSION, {}, seconds=60)
    assert [row["sealed_by"] for row in await rows(database)] == [encryption(OLD).first]


@pytest.mark.parametrize("wrong", [None, NEW])
async def test_a_process_with_another_key_does_not_start(
    make: Make, database: Database, wrong: str | None
) -> None:
    await make(OLD).open()
    with pytest.raises(SettingsError) as refused:
        await make(wrong).open()
    assert "SLACKWATER_ENCRYPTION_KEY" in refused.value.message
    assert "slackwater signing rotate --now" in refused.value.message
    assert OLD not in refused.value.message
    # AND one that has started already answers 503, as nobody is to log in again for that
    token, _ = await token_of(make(OLD))
    with pytest.raises(SigningKeyUnreadable):
        await make(wrong).verify(SESSION, token)
    with pytest.raises(SigningKeyUnreadable):
        await make(wrong).sign(SESSION, {}, seconds=60)


async def test_a_key_is_changed_while_all_processes_go_on(
    make: Make, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    old = make(OLD)
    await old.open()
    token, kid = await token_of(old, 600)
    both = make(f"{OLD},{NEW}")
    await both.open()
    assert [row["sealed_by"] for row in await rows(database)] == [encryption(OLD).first]
    await rotate(database, encryption(OLD))
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            await make(f"{NEW}, {OLD}").open()
    resealed = [record for record in caplog.records if getattr(record, "event", "") == "signing.resealed"]
    assert [len(record.__dict__["kids"]) for record in resealed] == [2]
    assert {row["sealed_by"] for row in await rows(database)} == {encryption(NEW).first}
    for each in (make(NEW), make(f"{OLD},{NEW}"), both):
        await each.open()
        await each.verify(SESSION, token)
    # AND a process that knew the key has no need to decrypt it
    assert (await old._ask()).by_kid[kid].key is not None
    await old.verify(SESSION, token)


async def test_a_new_key_is_encrypted_as_the_others_are(make: Make, database: Database) -> None:
    by_old = encryption(OLD).first
    # GIVEN processes without a key, a command with one
    await make().sign(SESSION, {}, seconds=60)
    assert (await rotate(database, encryption(OLD)))["sealed_by"] is None
    await make(OLD).open()
    # GIVEN processes with a key, a command with another one, or none
    for text in (None, NEW):
        with pytest.raises(SettingsError):
            await rotate(database, encryption(text))
    assert (await rotate(database, encryption(f"{NEW},{OLD}")))["sealed_by"] == by_old
    assert {row["sealed_by"] for row in await rows(database)} == {by_old}
    # In an emergency it does without: then the key may be what was lost.
    await rotate(database, encryption(NEW), now=True)
    await make(NEW).open()


async def test_what_was_tampered_with_is_not_used(make: Make, database: Database) -> None:
    await make(OLD).open()
    (row,) = await rows(database)
    head, *parts = row["secret"].split(".")
    for secret in (".".join([head, *parts[:-1], "A" * 22]), "x", ""):
        await database.execute("update slackwater.signing_keys set secret = %s", [secret])
        with pytest.raises(SettingsError):
            await make(OLD).open()


async def test_without_encryption_the_start_says_so(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await make(OLD).open()
    assert caplog.records == []


async def test_with_plain_keys_the_start_says_so(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await make().open()
    (record,) = caplog.records
    assert (record.__dict__["event"], "openssl rand -base64 32" in record.getMessage()) == (
        "signing.unencrypted",
        True,
    )


@pytest.mark.parametrize(
    "text", ["", "x", OLD[:-4], f"{OLD}A", f"{OLD},", f",{OLD}", f"{OLD} {NEW}", f"{OLD};{NEW}", "é" * 43]
)
def test_a_key_is_32_bytes_in_base64(text: str) -> None:
    with pytest.raises(ValueError) as wrong:
        Encryption.parse(text)
    assert str(wrong.value) == EXPECTED


def test_a_key_may_be_written_in_several_ways() -> None:
    secret = bytes(range(223, 255))
    ways = [b64encode(secret).decode(), urlsafe_b64encode(secret).decode().rstrip("=")]
    assert "+" in ways[0] or "/" in ways[0]
    assert Encryption.parse(ways[0]).keys == Encryption.parse(ways[1]).keys
    assert list(Encryption.parse(f"{OLD} , {NEW}").keys) == [encryption(OLD).first, encryption(NEW).first]
    assert OLD not in repr(Encryption.parse(OLD).keys)
