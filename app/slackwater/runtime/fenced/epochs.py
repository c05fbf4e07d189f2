"""After a failover: whether an owner may go on, whose claim the new server knows.

Replication is asynchronous. The server may know the claim and lack what was stored under it last; whoever went on then
would leave a hole in the run's history. Everything that commits under a fence therefore compares the epoch, too. Refused,
its owner looks once: WAL is replayed in order, so if its newest acknowledged row is there, so is all that came before.
"""

from __future__ import annotations

import logging
from enum import Enum

from slackwater.postgres.pool import Database
from slackwater.runtime.fenced.statements import OWNED_IN_ANY_EPOCH
from slackwater.runtime.queue.lease import Lease

log = logging.getLogger(__name__)


class Standing(Enum):
    """What the database knows of an owner whose write it has refused."""

    WHOLE = "whole"
    """Everything that it has acknowledged: the run goes on, in the epoch that it is now."""
    FORGOTTEN = "forgotten"
    """The claim, but not all that was stored under it: the run has to go on from what is there."""
    LOST = "lost"
    """The run is not this owner's any more."""


# Locked first: then nothing takes the run over between the look and what it leads to.
_LOOK = """
with found as (
  select r.run_id, {there} as whole from slackwater.runs r where {owned} for update
), moved as (
  update slackwater.runs r set epoch = slackwater.epoch() from found where r.run_id = found.run_id and found.whole
)
select whole from found"""


async def look(database: Database, lease: Lease) -> Standing:
    """Whether the owner may go on. Sent again, it finds the same."""
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
