"""What callers have shown and a process knows to be valid, keys or sessions, and the requests that are being answered with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Set
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from slackwater.kit.answers import Answers
from slackwater.kit.repeated import Repeated
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE

log = logging.getLogger(__name__)

FRESH_SECONDS = 4.0
"""After this time one request asks the database again; open requests are checked as often."""

STALE_SECONDS = 8.0
"""After this time nobody relies any more on what was found: what was revoked is refused."""


class Credential(Protocol):
    """A key or a session, which was valid when the database was asked."""

    @property
    def expires(self) -> float | None:
        """Seconds since the epoch."""


K = TypeVar("K")
C = TypeVar("C", bound=Credential)


class Valid(Generic[K, C]):
    """Belongs to the event loop of the process. `K` is what a caller shows of it, `C` what is known of it."""

    def __init__(
        self,
        kind: str,
        find: Callable[[K], Awaitable[C | None]],
        still_valid: Callable[[Set[UUID]], Awaitable[Set[UUID]]],
    ) -> None:
        """`kind`: in logs, in the plural; `find` asks the database for one, `still_valid` which of these are valid now."""
        self._kind = kind
        self._find = find
        self._still_valid = still_valid
        self._known: Answers[K, C] = Answers()
        self._open: dict[UUID, set[asyncio.Timeout]] = {}
        self._checks = Repeated(kind, self._check, lambda: FRESH_SECONDS if self._open else None)

    async def find(self, shown: K) -> C | None:
        """What it is; None if it is nothing, or is valid no more. One query every FRESH_SECONDS, whoever calls."""
        known = self._known.recall(shown, fresh=FRESH_SECONDS, stale=STALE_SECONDS)
        if known is not None:
            expires = known.value.expires
            return None if expires is not None and time.time() >= expires else known.value
        with self._known.asking(shown) as asked:
            found = await self._find(shown)
        if found is None:
            self._known.forget(shown)
        else:
            self._known.remember(shown, found, asked)
        return found

    def forget(self, shown: K) -> None:
        """It was changed here: the next request asks."""
        self._known.forget(shown)

    def forget_where(self, changed: Callable[[C], bool]) -> None:
        """Several were changed here."""
        self._known.forget_where(changed)

    # Requests that last

    @contextmanager
    def open(self, credential_id: UUID, request: asyncio.Timeout) -> Iterator[None]:
        """While this lasts, the request is timed out as soon as what it was sent with is found to be valid no more."""
        requests = self._open.setdefault(credential_id, set())
        requests.add(request)
        self._checks.look()
        try:
            yield
        finally:
            requests.discard(request)
            if not requests and self._open.get(credential_id) is requests:
                del self._open[credential_id]

    async def _check(self) -> None:
        asked = set(self._open)
        try:
            valid = await self._still_valid(asked)
        except DATABASE_UNAVAILABLE as error:
            # Nor does what these requests wait for arrive without the database.
            log.warning(
                "%s could not be checked: %s",
                self._kind,
                error,
                extra={"event": "credentials.unchecked", "kind": self._kind},
            )
        else:
            now = asyncio.get_running_loop().time()
            # Not those that have come since: nothing was said of them.
            for credential_id in (asked - valid) & self._open.keys():
                for request in self._open[credential_id]:
                    request.reschedule(now)

    async def stop(self) -> None:
        """Check no more."""
        await self._checks.stop()
