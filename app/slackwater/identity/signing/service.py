"""Signing and verifying with the keys in the database."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slackwater.errors import DatabaseSilent, SettingsError, SigningKeyUnreadable, TokenInvalid
from slackwater.identity.signing import queries, rotation, tokens
from slackwater.identity.signing.audience import Audience
from slackwater.identity.signing.encryption import UNENCRYPTED, Encryption, Sealed, unreadable
from slackwater.identity.signing.keyring import Keyring, SigningKey
from slackwater.identity.signing.rotation import LONGEST_SECONDS
from slackwater.kit.imports import run_in_import_thread
from slackwater.kit.moment import Moment
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.pool import Database, Row

log = logging.getLogger(__name__)

FRESH_SECONDS = 4.0
"""After this time one caller asks the database again."""

STALE_SECONDS = 8.0
"""After this time nobody relies any more on what was found: a key that was taken away is refused."""

UNKNOWN_SECONDS = 1.0
"""How often a token with an unknown key may make a process ask. Who sends a million of them costs a question a second."""

ASKED = 2
"""How often it is asked if its answer is old when it comes."""


MOST_READ = 10_000
"""How many tokens are known to be ours."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a token says that one of our keys has signed, whose id always names the same key."""

    audience: Audience
    kid: str
    claims: Mapping[str, Any]


class Signing:
    """Belongs to the event loop of the process."""

    def __init__(self, database: Database, encryption: Encryption) -> None:
        self._database = database
        self._encryption = encryption
        self._keyring: Keyring | None = None
        self._known: dict[str, Read] = {}
        """By token: whoever sends one a thousand times has its signature computed once. Its key and its time are looked at each time."""
        self._question: tuple[Moment, asyncio.Task[Keyring]] | None = None
        self._questions: set[asyncio.Task[Keyring]] = set()

    async def check(self) -> None:
        """See that the keys can be read. Raises SettingsError."""
        await run_in_import_thread(_import)
        keyring = await self._ask()
        if any(key.key is None for key in keyring.keys):
            raise SettingsError(unreadable(self._encryption))

    async def open(self) -> None:
        """Before a process serves: see that the keys can be read, and encrypt them as the settings say. Raises SettingsError."""
        await self.check()
        if self._encryption.first is None:
            log.warning(UNENCRYPTED, extra={"event": "signing.unencrypted"})
        elif resealed := await rotation.reseal(self._database, self._encryption):
            log.info(
                "signing keys were encrypted anew", extra={"event": "signing.resealed", "kids": resealed}
            )

    async def sign(self, audience: Audience, claims: Mapping[str, Any], *, seconds: float) -> str:
        """A token for this purpose, valid for so many seconds, of which LONGEST_SECONDS are the most. It has the claims, `iat`, `exp`
        and `aud`. Raises SigningKeyUnreadable."""
        while True:
            key, wait = (await self._current()).signing()
            if key.key is None:
                raise SigningKeyUnreadable
            if wait <= 0:
                break
            await asyncio.sleep(wait)
        now = time.time()
        times = {"iat": int(now), "exp": now + min(seconds, LONGEST_SECONDS)}
        return tokens.encode(audience, {**claims, **times}, key.kid, key.key)

    async def verify(self, audience: Audience, token: str) -> Mapping[str, Any]:
        """The claims of a token for this purpose. Raises TokenExpired, TokenInvalid, SigningKeyUnreadable."""
        read = self._known.get(token)
        kid = read.kid if read is not None and read.audience is audience else tokens.kid_of(audience, token)
        keyring = await self._current()
        if kid not in keyring.by_kid and (self._asking or keyring.asked.age >= UNKNOWN_SECONDS):
            keyring = await self._ask()
        key = keyring.verifying(kid)
        if key is None:
            raise TokenInvalid
        if key.key is None:
            raise SigningKeyUnreadable
        if read is not None and read.audience is audience:
            return tokens.current(read.claims, time.time())
        claims = tokens.decode(audience, token, key.key, time.time())
        if len(self._known) >= MOST_READ:
            del self._known[next(iter(self._known))]
        self._known[token] = Read(audience, kid, claims)
        return claims

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
        try:
            return await self._ask()
        except DATABASE_UNAVAILABLE:
            if keyring is not None and keyring.asked.age < STALE_SECONDS:
                return keyring
            raise

    @property
    def _asking(self) -> bool:
        """Whether a question is under way whose answer can be relied on. An older one was asked before a freeze, or is lost."""
        return self._question is not None and self._question[0].age < FRESH_SECONDS

    async def _ask(self) -> Keyring:
        """What the database says now. Raises DatabaseSilent if that is never what it says now."""
        for _ in range(ASKED):
            keyring = await self._answer()
            # Or the process stood still while it was on its way.
            if keyring.asked.age < STALE_SECONDS:
                return keyring
        raise DatabaseSilent

    async def _answer(self) -> Keyring:
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
            await rotation.create(self._database, self._encryption)
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
                log.error(
                    unreadable(self._encryption), extra={"event": "signing.unreadable", "kid": row["kid"]}
                )
            return None


def _import() -> None:
    import joserfc.jwe
    import joserfc.jwt  # noqa: F401
