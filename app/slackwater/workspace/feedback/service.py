"""The rules of feedback: whose it is, and of what."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from slackwater.errors import BadRequest, NotFound
from slackwater.identity.custom import access
from slackwater.identity.principal import Principal
from slackwater.kit.ids import parse_canonical, parse_uuid
from slackwater.kit.json_format import timestamp
from slackwater.postgres.pool import Row
from slackwater.workspace.feedback import queries
from slackwater.workspace.feedback.models import FeedbackGiven
from slackwater.workspace.feedback.queries import RatedRun
from slackwater.workspace.messages import queries as messages

if TYPE_CHECKING:
    from slackwater.services import Services


async def give(
    services: Services, principal: Principal, thread_id: str, run_id: str, body: FeedbackGiven
) -> dict[str, Any]:
    """Add what the caller says, or replace what they have said. Raises BadRequest and NotFound."""
    if body.rating not in (1, -1):
        raise BadRequest("rating must be +1 or -1")
    place = await _place(services, principal, thread_id, run_id, "update")
    row = await queries.give(
        services.database, place, rating=body.rating, comment=body.comment, message_id=body.message_id
    )
    if row is None:
        raise NotFound("Run not found")
    return shown(row)


async def list_(
    services: Services, principal: Principal, thread_id: str, run_id: str
) -> list[dict[str, Any]]:
    """What the caller has said of the run. Raises NotFound."""
    place = await _place(services, principal, thread_id, run_id, "read")
    rows = await queries.list_(services.database, place)
    if not rows and not await messages.run_is_there(
        services.database, place.owner, place.thread_id, place.run_id
    ):
        raise NotFound("Run not found")
    return [shown(row) for row in rows]


async def stats(services: Services, principal: Principal, thread_id: str, run_id: str) -> dict[str, Any]:
    """How many have said what of the run. Raises NotFound."""
    place = await _place(services, principal, thread_id, run_id, "read")
    row = await queries.stats(services.database, place)
    if row is None:
        raise NotFound("Run not found")
    return {"run_id": str(place.run_id), **row}


async def take_back(
    services: Services, principal: Principal, thread_id: str, run_id: str, feedback_id: str | None = None
) -> None:
    """Delete one thing that the caller has said, or all of the run. Raises NotFound."""
    place = await _place(services, principal, thread_id, run_id, "update")
    one = parse_uuid(feedback_id, "feedback") if feedback_id is not None else None
    if not await queries.take_back(services.database, place, one):
        raise NotFound("Feedback not found")


async def of_runs(
    services: Services, caller: str, run_ids: Collection[UUID]
) -> Mapping[tuple[UUID, str | None], dict[str, Any]]:
    """What the caller has said of these runs, by run and message."""
    rows = await queries.of_runs(services.database, run_ids, caller)
    return {(row["run_id"], row["message_id"]): shown(row) for row in rows}


async def _place(
    services: Services, principal: Principal, thread_id: str, run_id: str, action: Any
) -> RatedRun:
    thread, run = parse_canonical(thread_id, "thread"), parse_uuid(run_id, "run")
    reader = await access.to_thread(services, principal, action, thread, run_id=run)
    return RatedRun(thread, run, reader.owner, principal.owner)


def shown(row: Row) -> dict[str, Any]:
    """A row as pages see it."""
    return {
        "feedback_id": str(row["feedback_id"]),
        "run_id": str(row["run_id"]),
        "thread_id": str(row["thread_id"]),
        "user_id": row["owner"],
        "message_id": row["message_id"],
        "rating": row["rating"],
        "comment": row["comment"],
        "created_at": timestamp(row["created_at"]),
    }
