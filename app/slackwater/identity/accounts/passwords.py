"""Passwords: hashed with Argon2id, a few at a time, and compared with whatever hash there is.

What is known of a password is asked of nobody else: the hash of one that is not there costs as much as that of one that is.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from slackwater.identity.accounts.common import COMMON
from slackwater.identity.accounts.errors import PasswordsCrowded, WeakPassword
from slackwater.telemetry import metrics
from slackwater.telemetry.metrics import Metric

if TYPE_CHECKING:
    from pwdlib.hashers import HasherProtocol
    from pwdlib.hashers.argon2 import Argon2Hasher
    from pwdlib.hashers.bcrypt import BcryptHasher

T = TypeVar("T")

log = logging.getLogger(__name__)

# What OWASP's Password Storage Cheat Sheet recommends at least. Each hash takes that much memory.
MEMORY_KIB = 19_456
PASSES = 2
LANES = 1

AT_ONCE = 2
"""Threads that hash."""

MOST = 32
"""How many requests may wait for them, or have theirs hashed; one more is refused."""

LEAST = 8
LONGEST = 1024
"""Characters of a password."""

BCRYPT_BYTES = 72
"""All that bcrypt has ever looked at."""

_BCRYPT = re.compile(r"\$2[aby]\$\d\d\$[A-Za-z0-9+/.]{53}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What has come of comparing a password."""

    matches: bool
    rehashed: str | None = None
    """To be stored in place of the hash, which is of an older kind."""


NO = Verdict(False)


def check_strength(password: str, email: str | None = None, field: str = "password") -> None:
    """Raises WeakPassword, about this field of the request."""
    if len(password) < LEAST:
        raise WeakPassword(f"Password must have at least {LEAST} characters.", field)
    if len(password) > LONGEST:
        raise WeakPassword(f"Password must have at most {LONGEST} characters.", field)
    folded = password.strip().lower()
    if folded in COMMON or folded == email:
        raise WeakPassword("Password is too common: choose another one.", field)


def chosen_for_them() -> str:
    """A password that nobody guesses, for a user who is to change it."""
    return secrets.token_urlsafe(16)


class Passwords:
    """Belongs to the event loop of the process; hashes in threads of its own."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._places = 0

    async def warm(self) -> None:
        """Import what hashes, so that the first login does not wait for it."""
        await self._in_thread(lambda: self._dummy)

    def close(self) -> None:
        """End the threads. What they are at takes a tenth of a second; nobody waits for it any more."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Whoever will have a password hashed takes a place first. Raises PasswordsCrowded."""
        if self._places >= MOST:
            raise PasswordsCrowded
        self._places += 1
        try:
            yield
        finally:
            self._places -= 1

    async def hash(self, password: str) -> str:
        """What to store of it."""
        return await self._in_thread(lambda: self._argon2.hash(_bytes(password)))

    async def verify(self, password: str, stored: str | None) -> Verdict:
        """Whether it is the one that was stored, which may be None, or nothing that we know: then it is not."""
        return await self._in_thread(lambda: self._verify(password, stored))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(AT_ONCE, "passwords")
        since = time.monotonic()
        try:
            return await asyncio.wrap_future(self._threads.submit(work))
        finally:
            metrics.took(Metric.PASSWORD_MS, (time.monotonic() - since) * 1000)

    # In a thread

    @cached_property
    def _argon2(self) -> Argon2Hasher:
        from pwdlib.hashers.argon2 import Argon2Hasher

        return Argon2Hasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)

    @cached_property
    def _bcrypt(self) -> BcryptHasher:
        from pwdlib.hashers.bcrypt import BcryptHasher

        return BcryptHasher()

    @cached_property
    def _dummy(self) -> str:
        """The hash of a password that nobody has."""
        return self._argon2.hash(secrets.token_bytes(32))

    def _verify(self, password: str, stored: str | None) -> Verdict:
        dummy = self._dummy  # whoever comes first pays for it, whether there is a hash or not
        if not 0 < len(password) <= LONGEST:
            password, stored = "", None
        given = _bytes(password)
        old = False
        if stored is not None and (legacy := _legacy(given, stored)) is not None:
            matches, old = _matches(self._bcrypt, *legacy), True
        elif stored is not None and self._argon2.identify(stored):
            matches, old = _matches(self._argon2, given, stored), self._argon2.check_needs_rehash(stored)
        else:
            _matches(self._argon2, given, dummy)
            return NO
        if not matches:
            return NO
        return Verdict(True, self._argon2.hash(given) if old else None)


def _bytes(password: str) -> bytes:
    """JSON can say what UTF-8 cannot."""
    return password.encode("utf-8", "surrogatepass")


def _legacy(given: bytes, stored: str) -> tuple[bytes, str] | None:
    """What to ask bcrypt of a hash of the system that accounts may come from: SHA-256 in base64, or the password as it is."""
    if stored.startswith("$dfv2$"):
        asked = base64.b64encode(hashlib.sha256(given).digest()), stored.removeprefix("$dfv2$")
    else:
        asked = given[:BCRYPT_BYTES], stored.removeprefix("$dfv1$")
    return asked if _BCRYPT.fullmatch(asked[1]) else None


def _matches(hasher: HasherProtocol, given: bytes, stored: str) -> bool:
    try:
        return hasher.verify(given, stored)
    except ValueError as error:  # it is malformed where only the computation looks
        log.warning("a stored hash cannot be read: %s", error, extra={"event": "accounts.hash_unreadable"})
        return False
