"""Files of a thread: what is saved, all of it or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from slackwater.blobs import queries
from slackwater.blobs.queries import NewFile
from slackwater.errors import ApiError, Conflict
from slackwater.postgres.pool import Database, Row


class TooManyFileBytes(ApiError):
    """Your files would take more space than you may have (SLACKWATER_MAX_FILE_BYTES_PER_OWNER, or a limit of your own): delete some first."""

    status = 413


class StagedTooLong(Conflict):
    """The upload took too long, so nothing of it was kept: send it again."""


async def save(
    database: Database, owner: str, thread_id: UUID, new: Sequence[NewFile], most: int
) -> Mapping[str, float]:
    """Make files of staged blobs, all of them or none; when each was modified (seconds since the epoch), by its path.

    Files of the same paths are replaced. `most`: bytes of an owner who has no limit of their own; 0: no limit.
    Raises TooManyFileBytes and StagedTooLong; the blobs are staged then as before.
    """
    return outcome(await queries.save(database, owner, thread_id, new, most), len(new))


def outcome(row: Row, count: int) -> Mapping[str, float]:
    """What the last statement of `queries.saving` says. Raises TooManyFileBytes and StagedTooLong."""
    if row["most"] and row["bytes"] > row["most"]:
        raise TooManyFileBytes
    if row["ready"] < count:
        raise StagedTooLong
    saved: Mapping[str, float] = row["saved"]
    return saved
