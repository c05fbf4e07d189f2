"""What can be done with the keys in the database."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from slackwater.identity.audit.actor import COMMAND, Actor
from slackwater.identity.keys import new_key
from slackwater.identity.scopes import KeyScope
from slackwater.identity.stored_keys import queries
from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database

PREFIX = 10
"""How many characters of a key are stored, so that people recognise it in a list."""


async def create(
    database: Database,
    owner: str,
    scopes: Collection[KeyScope],
    *,
    days: float | None = None,
    note: str | None = None,
    actor: Actor = COMMAND,
) -> tuple[str, dict[str, Any]]:
    """A new key, which cannot be shown again, and what is stored of it. Raises ValueError for a wrong name."""
    secret, key = new_key(owner)
    row = await queries.create(
        database,
        key_id=uuid7(),
        owner=key.name,
        prefix=secret[:PREFIX],
        sha256=bytes.fromhex(key.sha256),
        scopes=sorted(scopes),
        note=note,
        seconds=None if days is None else days * 86_400,
        actor=actor,
    )
    return secret, row


async def list_(database: Database, owner: str | None = None) -> list[dict[str, Any]]:
    """All keys, or an owner's, the newest first."""
    return await queries.list_(database, owner)


async def revoke(database: Database, key_id: UUID, actor: Actor = COMMAND) -> dict[str, Any] | None:
    """Revoke a key; None if there is no such key. Every process refuses it within `identity.valid.STALE_SECONDS`."""
    return await queries.revoke(database, key_id, actor)
