"""The stored keys that a process knows to be valid."""

from __future__ import annotations

import hashlib
from collections.abc import Set
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from slackwater.identity.principal import Principal
from slackwater.identity.scopes import KeyScope, granted
from slackwater.identity.stored_keys import queries
from slackwater.identity.valid import Valid
from slackwater.postgres.pool import Database


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that was valid when the database was asked."""

    principal: Principal
    expires: float | None


class ValidKeys(Valid[bytes, KnownKey]):
    """Belongs to the event loop of the process."""

    def __init__(self, database: Database) -> None:
        super().__init__("keys", partial(_find, database), partial(_still_valid, database))

    async def holder(self, secret: str) -> Principal | None:
        """Whose key it is; None if it is nobody's, or is valid no more."""
        key = await self.find(hashlib.sha256(secret.encode()).digest())
        return None if key is None else key.principal


async def _find(database: Database, sha256: bytes) -> KnownKey | None:
    row = await queries.find(database, sha256)
    if row is None:
        return None
    scopes = granted(KeyScope(scope) for scope in row["scopes"])
    return KnownKey(Principal(row["owner"], scopes=scopes, key_id=row["key_id"]), row["expires"])


async def _still_valid(database: Database, key_ids: Set[UUID]) -> Set[UUID]:
    return await queries.still_valid(database, key_ids)
