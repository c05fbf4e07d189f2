"""The rules of recorded messages: who may read them, and what a page is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any
from uuid import UUID

from slackwater.errors import NotFound
from slackwater.identity.custom import access
from slackwater.identity.principal import Principal
from slackwater.kit.ids import parse_canonical, parse_uuid
from slackwater.kit.json_format import timestamp
from slackwater.postgres.pool import Row
from slackwater.workspace.messages import queries
from slackwater.workspace.messages.queries import Cut

if TYPE_CHECKING:
    from slackwater.services import Services


async def of_run(
    services: Services, principal: Principal, thread_id: str, run_id: str, cut: Cut
) -> dict[str, Any]:
    """A page of the run's messages. Raises NotFound."""
    thread, run = parse_canonical(thread_id, "thread"), parse_uuid(run_id, "run")
    reader = await access.to_thread(services, principal, "read", thread, run_id=run)
    rows = await queries.of_run(services.database, reader.owner, thread, run, cut)
    if not rows:
        await require_run(services, reader, thread, run)
    return {"data": [shown(row) for row in page_of(rows, cut)], "has_more": len(rows) > cut.limit}


async def of_thread(services: Services, principal: Principal, thread_id: str, cut: Cut) -> list[Row]:
    """A page of the messages of all runs of the thread. Raises NotFound."""
    thread = parse_canonical(thread_id, "thread")
    reader = await access.to_thread(services, principal, "read", thread)
    rows = await queries.of_thread(services.database, reader.owner, thread, cut)
    if not rows and not await queries.thread_is_there(services.database, reader.owner, thread):
        raise NotFound("Thread not found")
    return page_of(rows, cut)


async def last_answers(
    services: Services, given: Mapping[tuple[UUID, str | None], dict[str, Any]]
) -> Set[int]:
    """The `seq` of the last answer of each run that something was said of as a whole."""
    runs = [run_id for run_id, message_id in given if message_id is None]
    return await queries.last_answers(services.database, runs) if runs else set()


def with_feedback(
    rows: Sequence[Row], given: Mapping[tuple[UUID, str | None], dict[str, Any]], last_answers: Set[int]
) -> list[dict[str, Any]]:
    """The rows of a thread, each with what was said of its message: of a run as a whole it is with its last answer."""

    def said_of(row: Row) -> dict[str, Any] | None:
        message_id = row["content"].get("id")
        own = given.get((row["run_id"], message_id)) if message_id is not None else None
        return own or (given.get((row["run_id"], None)) if row["seq"] in last_answers else None)

    return [{**shown(row), "feedback": said_of(row)} for row in rows]


async def events(
    services: Services,
    principal: Principal,
    thread_id: str,
    run_id: str,
    *,
    types: str | None,
    after: int,
    limit: int,
) -> list[dict[str, Any]]:
    """What was recorded of the run, in order. Raises NotFound."""
    thread, run = parse_canonical(thread_id, "thread"), parse_uuid(run_id, "run")
    reader = await access.to_thread(services, principal, "read", thread, run_id=run)
    wanted = [name for text in types.split(",") if (name := text.strip())] if types else None
    rows = await queries.events(
        services.database, reader.owner, thread, run, types=wanted, after=after, limit=limit
    )
    if not rows:
        await require_run(services, reader, thread, run)
    return [shown(row) for row in rows]


async def thread_of_run(services: Services, run_id: str) -> str:
    """The id of the thread of a run, whose reader has to be checked next. Raises NotFound."""
    found = await queries.thread_of_run(services.database, parse_uuid(run_id, "run"))
    if found is None:
        raise NotFound("Run not found")
    return str(found)


async def require_run(services: Services, reader: Principal, thread_id: UUID, run_id: UUID) -> None:
    """Raises NotFound."""
    if not await queries.run_is_there(services.database, reader.owner, thread_id, run_id):
        raise NotFound("Run not found")


def page_of(rows: list[Row], cut: Cut) -> list[Row]:
    """The page in order, without the row that says that there is more."""
    kept = rows[: cut.limit]
    return kept if cut.from_the_start else kept[::-1]


def shown(row: Row) -> dict[str, Any]:
    """A row as pages see it."""
    return {
        "thread_id": str(row["thread_id"]),
        "run_id": str(row["run_id"]),
        "event_type": row["event_type"],
        "category": row["category"],
        "content": row["content"],
        "metadata": row["metadata"],
        "seq": row["seq"],
        "created_at": timestamp(row["created_at"]),
    }
