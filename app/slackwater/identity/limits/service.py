"""What can be done with the limits of owners in the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from slackwater.identity.limits import queries
from slackwater.postgres.pool import Database

NAMES = queries.NAMES

MOST = 1_000_000
"""The highest limit, so that there is a microsecond between any two requests."""

MOST_FILE_BYTES = 2**50

TRIMMED = 10_000
"""How many buckets one statement deletes."""


async def set_(database: Database, owner: str, values: Mapping[str, int]) -> dict[str, Any]:
    """Change these limits of an owner, by their NAMES; 0: no limit, whatever the settings say. The others stay.

    Raises ValueError.
    """
    if not owner:
        raise ValueError("An owner has a name")
    if not values:
        raise ValueError(f"Say what to limit: {', '.join(NAMES)}")
    for name, value in values.items():
        most = MOST_FILE_BYTES if name == "file_bytes" else MOST
        if name not in NAMES or not 0 <= value <= most:
            raise ValueError(f"{name} must be from 0 (no limit) to {most}, not {value}")
    return await queries.set_(database, owner, values)


async def list_(database: Database, owner: str | None = None) -> list[dict[str, Any]]:
    """The owners who have limits of their own, or one."""
    return await queries.list_(database, owner)


async def unset(database: Database, owner: str, names: Collection[str] = NAMES) -> dict[str, Any] | None:
    """Take these limits from an owner, for whom those of the settings apply again; None if they have none."""
    return await queries.unset(database, owner, names)


async def trim(database: Database) -> None:
    """Delete what says nothing any more."""
    while await queries.trim(database, TRIMMED) == TRIMMED:
        pass
