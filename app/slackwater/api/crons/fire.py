"""Starts what is due: each due date once, whoever and however many look for it at the same time.

The run is admitted and the cron goes on to its next date in one transaction, or neither. Dates that passed while nobody
looked are one: the cron goes on to the first date that is still to come.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slackwater.api.crons import queries
from slackwater.errors import ApiError, Draining, Invalid, NotFound
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.shares import Shares
from slackwater.project.http import RouteGroup
from slackwater.runtime.queue.admission import Overtaken

if TYPE_CHECKING:
    from slackwater.services import Services

log = logging.getLogger(__name__)

BATCH = 100
ROUNDS = 20


async def fire_due(services: Services) -> int:
    """Start what is due now; how many runs. Safe to do in any number of processes at once. Raises DATABASE_UNAVAILABLE.

    Where runs are switched off nothing is: what is due stays due, for a process that does start runs.
    """
    if RouteGroup.RUNS in services.graphs.http.disabled:
        return 0
    fired = 0
    share = Shares()
    for _ in range(ROUNDS):
        rows = await queries.due(services.database, services.graphs.ids, BATCH, share)
        # Several who look at once should not all wait for one another's first, nor all behind a thread that is locked.
        random.shuffle(rows)
        for row in rows:
            try:
                fired += await _fire(services, row)
            except Draining:
                return fired
        if len(rows) < BATCH:
            break
    return fired


async def _fire(services: Services, cron: Mapping[str, Any]) -> bool:
    # Most sweeps find nothing due, and an environment of AWS Lambda should not begin with all this.
    from slackwater.api.crons.schedule import next_date
    from slackwater.api.crons.service import new_run

    about = {"cron_id": str(cron["cron_id"]), "due": cron["next_run_date"].isoformat()}
    try:
        following = next_date(
            cron["schedule"], cron["timezone"], max(cron["now"], cron["next_run_date"]), cron["end_time"]
        )
    except Invalid as problem:  # a time zone that is no longer known
        log.error(
            "a cron has no next date and starts no more runs: %s",
            problem,
            extra={"event": "cron.failed", **about},
        )
        await queries.advance(services.database, cron, None)
        return False
    try:
        if cron["graph_id"] not in services.graphs:
            raise NotFound(f"graph '{cron['graph_id']}' is not served here")
        new = await new_run(services, cron)
        admitted = await services.runtime.admit(replace(new, condition=queries.step(cron, following)))
    except Overtaken:
        return False
    except (Draining, *DATABASE_UNAVAILABLE):
        raise
    except ApiError as problem:
        log.warning(
            "a cron could not start its run, and waits for its next date: %s",
            problem,
            extra={"event": "cron.skipped", "reason": problem.message, **about},
        )
    except Exception:  # whatever it is: it must neither keep the others from starting, nor come back at once
        log.exception(
            "a cron could not start its run, and waits for its next date",
            extra={"event": "cron.failed", **about},
        )
    else:
        log.info(
            "a cron started its run",
            extra={
                "event": "cron.fired",
                "run_id": str(admitted.row["run_id"]),
                "thread_id": str(admitted.row["thread_id"]),
                **about,
            },
        )
        return True
    await queries.advance(services.database, cron, following)
    return False
