"""Making the keys, the first one and the next ones, and taking them away."""

from __future__ import annotations

import logging
import secrets
from functools import partial
from typing import TYPE_CHECKING, Any

from slackwater.errors import SettingsError
from slackwater.identity.audit.actor import COMMAND, Actor
from slackwater.identity.signing import queries
from slackwater.identity.signing.encryption import Encryption, Sealed, unreadable

if TYPE_CHECKING:
    from slackwater.postgres.pool import Database

log = logging.getLogger(__name__)

SIGNS_IN_SECONDS = 10.0
"""A new key signs only when every process knows it, or is about to ask: longer than `service.STALE_SECONDS`."""

SIGNS_IN_SECONDS_NOW = 5.0
"""In an emergency: when whatever was asked before is not relied on any more to say that a key is unknown: longer than
`service.FRESH_SECONDS`. Nobody signs in the meantime."""

LONGEST_SECONDS = 30 * 86_400.0
"""No token is valid for longer."""

OVERLAP_SECONDS = LONGEST_SECONDS + 60.0
"""How long a key is valid after the next one has begun to sign."""


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
            raise SettingsError(unreadable(encryption))
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
