"""Whether an owner may continue after a failover.

Replication is asynchronous. The new server may know the claim but lack the last writes made under it, and continuing then
would leave a hole in the run's history. Every fenced commit therefore compares the epoch as well. An owner that is refused
looks once: WAL is replayed in order, so if its newest acknowledged row is there, everything before it is there too.
"""

from __future__ import annotations

import logging
from enum import Enum

from slackwater.postgres.pool import Database
from slackwater.runtime.fenced.statements import OWNED_IN_ANY_EPOCH
from slackwater.runtime.queue.lease import Lease

log = logging.getLogger(__name__)


class Standing(Enum):
    """What the database still has of an owner whose write it refused."""

    WHOLE = "whole"
    """Every write that was acknowledged: the run continues in the current epoch."""
    FORGOTTEN = "forgotten"
    """The claim, but not every write made under it: the run must continue from what is stored."""
    LOST = "lost"
    """The run no longer belongs to this owner."""


# Lock first, so that nobody takes the run over between this check and what follows from it.
_LOOK = """
with found as (
  select r.run_id, {there} as whole from slackwater.runs r where {owned} for update
), moved as (
  update slackwater.runs r set epoch = slackwater.epoch() from found where r.run_id = found.run_id and found.whole
)
select whole from found"""


async def look(database: Database, lease: Lease) -> Standing:
    """Whether the owner may continue. Idempotent."""
    if lease.lost:
        return Standing.LOST
    if lease.forgotten:
        return Standing.FORGOTTEN
    newest = list(lease.acknowledged.values())
    there = " and ".join(row.is_there for row in newest) or "true"
    params = {name: value for row in newest for name, value in row.key.items()}
    row = await database.fetch_one(
        _LOOK.format(there=there, owned=OWNED_IN_ANY_EPOCH), {**params, **lease.key}
    )
    if row is None:
        return Standing.LOST
    if not row["whole"]:
        lease.forgotten = True
        log.warning(
            "the database failed over and lost what this attempt stored last: the attempt stops",
            extra={"event": "run.forgotten", "run_id": str(lease.run_id), "fence": lease.fence},
        )
        if lease.on_forgotten is not None:
            lease.on_forgotten()
        return Standing.FORGOTTEN
    return Standing.WHOLE
