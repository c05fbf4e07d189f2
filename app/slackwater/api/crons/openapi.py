"""What the routes of crons answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from slackwater.errors import BadRequest, Conflict, NotFound, PageTooLarge, TooManyCrons
from slackwater.web.openapi.parameters import ASSISTANT, CRON, MOMENT, THREAD
from slackwater.web.openapi.pieces import NO_CONTENT, PART, Operation, Response, Shape, page

TAG = "Runs on a schedule."


class Cron(Shape):
    """The current state of a cron."""

    cron_id: UUID
    assistant_id: UUID
    thread_id: UUID | None
    """null: each run has a thread of its own."""
    user_id: str | None
    """The name of the key that created it; null without API keys."""
    end_time: datetime | None
    schedule: str
    timezone: str | None
    payload: dict[str, Any]
    """The arguments that the runs are started with."""
    next_run_date: datetime | None
    """null: there is no next run."""
    metadata: dict[str, Any]
    on_run_completed: Literal["delete", "keep"] | None
    enabled: bool
    created_at: datetime
    updated_at: datetime


class CronPart(Cron):
    """The requested keys of a cron."""

    model_config = PART


_ONE = {
    "cron_id": CRON,
    "assistant_id": ASSISTANT,
    "thread_id": None,
    "user_id": "maria",
    "end_time": None,
    "schedule": "0 7 * * 1-5",
    "timezone": "Europe/Rome",
    "payload": {"assistant_id": ASSISTANT, "input": {"messages": []}, "schedule": "0 7 * * 1-5"},
    "next_run_date": MOMENT,
    "metadata": {},
    "on_run_completed": "delete",
    "enabled": True,
    "created_at": MOMENT,
    "updated_at": MOMENT,
}
_SHOWN = Response("The cron.", Cron, _ONE, gives={"cron_id": "$response.body#/cron_id"})
_BODIES = {
    "on working days at seven": {
        "assistant_id": "agent",
        "schedule": "0 7 * * 1-5",
        "timezone": "Europe/Rome",
        "input": {"messages": []},
    }
}

OPERATIONS: Mapping[str, Operation] = {
    "POST /runs/crons": Operation(
        id="create_cron", responses={200: _SHOWN}, errors=(BadRequest, NotFound, TooManyCrons), bodies=_BODIES
    ),
    "POST /threads/{thread_id}/runs/crons": Operation(
        id="create_cron_for_thread",
        responses={200: _SHOWN},
        errors=(BadRequest, NotFound, TooManyCrons),
        bodies=_BODIES,
    ),
    "POST /runs/crons/search": Operation(
        id="search_crons",
        responses={200: page(CronPart, _ONE)},
        bodies={"of a thread": {"thread_id": THREAD, "sort_by": "next_run_date", "sort_order": "asc"}},
        errors=(PageTooLarge,),
    ),
    "POST /runs/crons/count": Operation(
        id="count_crons",
        responses={200: Response("The number of matches.", int, 2)},
        bodies={"of an assistant": {"assistant_id": ASSISTANT}},
    ),
    "GET /runs/crons/{cron_id}": Operation(id="get_cron", responses={200: _SHOWN}, errors=(NotFound,)),
    "PATCH /runs/crons/{cron_id}": Operation(
        id="update_cron",
        responses={200: _SHOWN},
        errors=(BadRequest, NotFound, Conflict),
        bodies={"off": {"enabled": False}},
    ),
    "DELETE /runs/crons/{cron_id}": Operation(
        id="delete_cron", responses={204: NO_CONTENT}, errors=(NotFound,)
    ),
}
