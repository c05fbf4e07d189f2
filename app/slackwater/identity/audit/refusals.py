"""Counting refused requests: in memory, a bounded number of different ones, stored every few seconds.

Whoever sends a million wrong keys costs a number in memory each time, and the database one row a minute.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slackwater.identity.addresses import network_of
from slackwater.identity.audit import queries
from slackwater.identity.audit.queries import RefusalKey
from slackwater.kit.repeated import Repeated
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from slackwater.identity.principal import Principal
    from slackwater.postgres.pool import Database

log = logging.getLogger(__name__)

REFUSALS = frozenset({401, 403, 429})
"""The statuses that are counted."""

FLUSH_SECONDS = 5.0
"""How long a refusal is in memory only: what a SIGKILL loses."""

MOST = 100
"""So many different refusals of a minute have a row of their own; the others share one for each status."""

WAITING = 2000
"""So many rows wait for a database that cannot be reached; what comes then is only in the metric."""

NAME = 500
"""So many characters of a name are kept."""

OTHERS = "others"
"""In place of an address: there were too many."""

CALLER = "slackwater.caller"
"""In the ASGI scope, and shared by its copies."""


@dataclass(slots=True)
class CallerSoFar:
    """Whoever a request has turned out to come from, before it is known whether they may."""

    principal: Principal | None = None


def identified(scope: MutableMapping[str, Any], principal: Principal) -> None:
    """Remember who it is that may be refused."""
    caller: CallerSoFar | None = scope.get(CALLER)
    if caller is not None:
        caller.principal = principal


class Refusals:
    """Belongs to the event loop of the process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts: Counter[RefusalKey] = Counter()
        self._minute = 0
        self._known: set[RefusalKey] = set()
        """Those of this minute that have a row of their own."""
        self._lost = 0
        self._flushes = Repeated(
            "audit:refusals", self._flush, lambda: FLUSH_SECONDS if self._counts else None
        )

    def count(self, status: int, scope: Mapping[str, Any]) -> None:
        """Once more. Never waits."""
        caller: CallerSoFar | None = scope.get(CALLER)
        principal = caller.principal if caller is not None else None
        minute = int(time.time() // 60)
        if minute != self._minute:
            self._minute, self._known = minute, set()
        who = (_name(principal), principal.key_id) if principal is not None else (None, None)
        refused = RefusalKey(minute, status, address_of(scope), *who)
        if refused not in self._known:
            if len(self._known) < MOST:
                self._known.add(refused)
            else:
                refused = RefusalKey(minute, status, OTHERS, None, None)
        if len(self._counts) >= WAITING and refused not in self._counts:
            self._lost += 1
            return
        self._counts[refused] += 1
        self._flushes.look()

    async def _flush(self) -> None:
        counts, self._counts = self._counts, Counter()
        try:
            await queries.count(self._database, counts)
            counts.clear()
        except DATABASE_UNAVAILABLE as error:
            log.warning("refusals could not be stored: %s", error, extra={"event": "audit.unstored"})
        finally:
            self._counts.update(counts)

    async def stop(self, seconds: float) -> None:
        """Store what there is, within so many seconds. What cannot be, or comes later, is only in the metric."""
        await self._flushes.finish(seconds)
        if lost := self._counts.total() + self._lost:
            log.error("refusals were not stored", extra={"event": "audit.lost", "refusals": lost})


def _name(principal: Principal) -> str:
    """As much of it as an index takes, and nothing that Postgres does not."""
    return (
        principal.identity.encode("utf-8", "replace")
        .decode()
        .replace("\0", "\N{REPLACEMENT CHARACTER}")[:NAME]
    )


def address_of(scope: Mapping[str, Any]) -> str:
    """Whence a request came, as the server or the gateway says."""
    peer = scope.get("client")
    return network_of(peer[0] if peer else None)
