"""Signing and verifying with the keys in the database, and rotating them."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from slackwater.errors import SettingsError, SigningKeyUnreadable, TokenInvalid
from slackwater.identity.audit.actor import COMMAND, Actor
from slackwater.identity.signing import queries, tokens
from slackwater.identity.signing.audience import Audience
from slackwater.identity.signing.encryption import Encryption, Sealed
from slackwater.identity.signing.keyring import Keyring, SigningKey
from slackwater.kit.imports import run_in_import_thread
from slackwater.kit.moment import Moment
from slackwater.postgres.pool import Database, Row

log = logging.getLogger(__name__)

FRESH_SECONDS = 4.0
"""After this time one caller asks the database again."""

STALE_SECONDS = 8.0
"""After this time nobody relies any more on what was found: a key that was taken away is refused."""

UNKNOWN_SECONDS = 1.0
"""How often a token with an unknown key may make a process ask. Who sends a million of them costs a question a second."""

SIGNS_IN_SECONDS = 10.0
"""A new key signs only when every process knows it, or is about to ask."""

SIGNS_IN_SECONDS_NOW = 5.0
"""In an emergency: longer than an answer about unknown keys is relied on. Nobody signs in the meantime."""

LONGEST_SECONDS = 30 * 86_400.0
"""No token is valid for longer."""

OVERLAP_SECONDS = LONGEST_SECONDS + 60.0
"""How long a key is valid after the next one has begun to sign."""


class Signing:
    """Belongs to the event loop of the process."""

    def __init__(self, database: Database, encryption: Encryption) -> None:
        self._database = database
        self._encryption = encryption
        self._keyring: Keyring | None = None
        self._question: tuple[Moment, asyncio.Task[Keyring]] | None = None
        self._questions: set[asyncio.Task[Keyring]] = set()

    async def open(self) -> None:
        """Before the first token is needed: see that the keys can be read, and that they are encrypted as the settings say.

        Raises SettingsError.
        """
        await run_in_import_thread(_import)
        keyring = await self._ask()
        unreadable = [key.kid for key in keyring.keys if key.key is None]
        if unreadable:
            raise SettingsError(self._unreadable())
        if self._encryption.first is None:
            log.warning(UNENCRYPTED, extra={"event": "signing.unencrypted"})
        elif resealed := await reseal(self._database, self._encryption):
            log.info(
                "signing keys were encrypted anew", extra={"event": "signing.resealed", "kids": resealed}
            )

    async def sign(self, audience: Audience, claims: Mapping[str, Any], *, seconds: float) -> str:
        """A token for this purpose, valid for so many seconds. It has the claims, `iat`, `exp` and `aud`."""
        if seconds > LONGEST_SECONDS:
            raise ValueError(f"no token is valid for longer than {LONGEST_SECONDS:g} s")
        while True:
            key, wait = (await self._current()).signing()
            if key.key is None:
                raise SigningKeyUnreadable
            if wait <= 0:
                break
            await asyncio.sleep(wait)
        now = time.time()
        return tokens.encode(audience, {**claims, "iat": int(now), "exp": now + seconds}, key.kid, key.key)

    async def verify(self, audience: Audience, token: str) -> Mapping[str, Any]:
        """The claims of a token for this purpose. Raises TokenExpired, TokenInvalid, SigningKeyUnreadable."""
        kid = tokens.kid_of(audience, token)
        keyring = await self._current()
        if kid not in keyring.by_kid and (self._asking or keyring.asked.age >= UNKNOWN_SECONDS):
            keyring = await self._ask()
        key = keyring.verifying(kid)
        if key is None:
            raise TokenInvalid
        if key.key is None:
            raise SigningKeyUnreadable
        return tokens.decode(audience, token, key.key, time.time())

    async def stop(self) -> None:
        """Ask no more."""
        for question in self._questions:
            question.cancel()
        if self._questions:
            await asyncio.wait(self._questions)

    # What is known

    async def _current(self) -> Keyring:
        keyring = self._keyring
        if keyring is not None:
            age = keyring.asked.age
            if age < FRESH_SECONDS or (age < STALE_SECONDS and self._asking):
                return keyring
        return await self._ask()

    @property
    def _asking(self) -> bool:
        """Whether a question is under way whose answer can be relied on. An older one was asked before a freeze, or is lost."""
        return self._question is not None and self._question[0].age < FRESH_SECONDS

    async def _ask(self) -> Keyring:
        """Ask the database, together with all others who would."""
        if self._question is None or not self._asking:
            asked = Moment.now()
            task = asyncio.create_task(self._load(asked), name="signing:keys")
            self._question = asked, task
            self._questions.add(task)
            task.add_done_callback(self._answered)
        # Whoever leaves does not take the answer from the others.
        return await asyncio.shield(self._question[1])

    def _answered(self, task: asyncio.Task[Keyring]) -> None:
        self._questions.discard(task)
        if self._question is not None and self._question[1] is task:
            self._question = None
        if not task.cancelled():
            task.exception()  # those who wait have it, if there are any left

    async def _load(self, asked: Moment) -> Keyring:
        rows = await queries.load(self._database)
        if not any(row["valid_for"] is None for row in rows):
            await create(self._database, self._encryption)
            rows = await queries.load(self._database)
        keyring = Keyring.of([self._key(row) for row in rows], asked)
        if self._keyring is None or self._keyring.asked.monotonic <= asked.monotonic:
            self._keyring = keyring
        return keyring

    def _key(self, row: Row) -> SigningKey:
        known = self._keyring.by_kid.get(row["kid"]) if self._keyring is not None else None
        key = known.key if known is not None else None
        if key is None:
            # Also while it is encrypted anew by a key that only newer processes have: what was known stays known.
            key = self._read(row, log_it=known is None)
        return SigningKey(row["kid"], key, row["signs_in"], row["valid_for"])

    def _read(self, row: Row, *, log_it: bool) -> Any:
        from joserfc.jwk import OctKey

        try:
            return OctKey.import_key(self._encryption.unseal(row["secret"], row["sealed_by"]))
        except Sealed:
            if log_it:
                log.error(self._unreadable(), extra={"event": "signing.unreadable", "kid": row["kid"]})
            return None

    def _unreadable(self) -> str:
        return UNREADABLE if self._encryption.keys else UNREADABLE_WITHOUT


UNENCRYPTED = (
    "The keys that sign tokens are not encrypted in the database: set SLACKWATER_ENCRYPTION_KEY to the output of "
    "`openssl rand -base64 32`, the same for all processes."
)

_OTHERWISE = (
    "If that key is lost, `slackwater signing rotate --now` makes a new signing key and ends all sessions."
)

UNREADABLE = (
    "SLACKWATER_ENCRYPTION_KEY is not the one by which the signing keys in the database are encrypted: set it to that one, "
    f"or, to change it, to the new and the old one, separated by a comma. {_OTHERWISE}"
)

UNREADABLE_WITHOUT = (
    "The signing keys in the database are encrypted: set SLACKWATER_ENCRYPTION_KEY, or SLACKWATER_ENCRYPTION_KEY_SECRET_ARN, "
    f"to the value that the other processes have. {_OTHERWISE}"
)


def _import() -> None:
    import joserfc.jwe
    import joserfc.jwt  # noqa: F401


async def create(database: Database, encryption: Encryption) -> None:
    """Make the first key, unless somebody else does."""
    kid, secret = _new()
    by = encryption.first
    if await queries.create(database, kid=kid, secret=encryption.seal(secret, by), sealed_by=by):
        log.info("the first signing key was made", extra={"event": "signing.created", "kid": kid})


async def rotate(
    database: Database, encryption: Encryption, *, now: bool = False, actor: Actor = COMMAND
) -> dict[str, Any]:
    """Make the next key. `now`: all others are taken away. Raises SettingsError if others could not read it."""
    rows = await queries.list_(database)
    by = encryption.first
    if not rows:
        await create(database, encryption)
    else:
        # As the last one, which all processes read; they change that themselves, each when it starts.
        last: str | None = rows[0]["sealed_by"]
        if last is None or last in encryption.keys:
            by = last
        elif not now:
            raise SettingsError(UNREADABLE if encryption.keys else UNREADABLE_WITHOUT)
    kid, secret = _new()
    add = partial(
        queries.rotate, database, kid=kid, secret=encryption.seal(secret, by), sealed_by=by, actor=actor
    )
    if now:
        return await add(signs_in=SIGNS_IN_SECONDS_NOW, overlap=None)
    return await add(signs_in=SIGNS_IN_SECONDS, overlap=OVERLAP_SECONDS)


async def list_(database: Database) -> list[dict[str, Any]]:
    """The keys that are valid now, without their secrets, the newest first."""
    return await queries.list_(database)


async def reseal(database: Database, encryption: Encryption) -> list[str]:
    """Encrypt by the first key of the settings what is not; the ids of those that were."""
    by, done = encryption.first, []
    for row in await queries.load(database):
        if row["sealed_by"] == by:
            continue
        try:
            secret = encryption.unseal(row["secret"], row["sealed_by"])
        except Sealed:
            continue
        sealed = encryption.seal(secret, by)
        if await queries.reseal(database, kid=row["kid"], was=row["secret"], secret=sealed, sealed_by=by):
            done.append(row["kid"])
    return done


async def trim(database: Database) -> None:
    """Delete the keys by which no token is valid any more."""
    if deleted := await queries.trim(database):
        log.info("signing keys were deleted", extra={"event": "signing.deleted", "keys": deleted})


def _new() -> tuple[str, str]:
    """The id and the secret of a new key."""
    return secrets.token_urlsafe(9), secrets.token_urlsafe(32)
