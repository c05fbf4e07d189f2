"""The stored keys that a process knows to be valid, and the requests that are being answered with them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from slackwater.identity.principal import Principal
from slackwater.identity.scopes import KeyScope, granted
from slackwater.identity.stored_keys import queries
from slackwater.kit.answers import Answers
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.pool import Database

log = logging.getLogger(__name__)

FRESH_SECONDS = 4.0
"""After this time one request asks the database again; open requests are checked as often."""

STALE_SECONDS = 8.0
"""After this time nobody relies any more on what was found: a revoked key is refused."""


@dataclass(slots=True)
class KnownKey:
    """A key that was valid when the database was asked."""

    principal: Principal
    expires: float | None
    """Seconds since the epoch."""

    @property
    def expired(self) -> bool:
        return self.expires is not None and time.time() >= self.expires


class ValidKeys:
    """Belongs to the event loop of the process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: Answers[bytes, KnownKey] = Answers()
        self._open: dict[UUID, set[asyncio.Timeout]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._checking: asyncio.Task[None] | None = None

    async def find(self, secret: str) -> Principal | None:
        """Whose key it is; None if it is nobody's, or is valid no more. One query every FRESH_SECONDS, whoever calls."""
        digest = hashlib.sha256(secret.encode()).digest()
        known = self._known.recall(digest, fresh=FRESH_SECONDS, stale=STALE_SECONDS)
        if known is not None:
            return None if known.value.expired else known.value.principal
        with self._known.asking(digest) as asked:
            row = await queries.find(self._database, digest)
        if row is None:
            self._known.forget(digest)
            return None
        scopes = granted(KeyScope(scope) for scope in row["scopes"])
        principal = Principal(row["owner"], scopes=scopes, key_id=row["key_id"])
        self._known.remember(digest, KnownKey(principal, row["expires"]), asked)
        return principal

    # Requests that last

    @contextmanager
    def open(self, key_id: UUID, request: asyncio.Timeout) -> Iterator[None]:
        """While this lasts, the request is timed out as soon as its key is found to be valid no more."""
        requests = self._open.setdefault(key_id, set())
        requests.add(request)
        if self._timer is None and self._checking is None:
            self._check_later()
        try:
            yield
        finally:
            requests.discard(request)
            if not requests and self._open.get(key_id) is requests:
                del self._open[key_id]

    def _check_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(FRESH_SECONDS, self._check_now)

    def _check_now(self) -> None:
        self._timer = None
        if self._open:
            self._checking = asyncio.create_task(self._check(), name="keys")

    async def _check(self) -> None:
        asked = set(self._open)
        try:
            valid = await queries.still_valid(self._database, asked)
        except DATABASE_UNAVAILABLE as error:
            # Nor does what these requests wait for arrive without the database.
            log.warning("keys could not be checked: %s", error, extra={"event": "keys.unchecked"})
        else:
            now = asyncio.get_running_loop().time()
            # Not those that have come since: nothing was said of their keys.
            for key_id in (asked - valid) & self._open.keys():
                for request in self._open[key_id]:
                    request.reschedule(now)
        finally:
            self._checking = None
            if self._open:
                self._check_later()

    async def stop(self) -> None:
        """Check no more."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait({self._checking})
        if self._timer is not None:
            self._timer.cancel()
