"""The rules of threads. What another owns is not there, on every way in."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from app.auth.principal import Principal
from app.errors import Conflict, Invalid, NotFound
from app.ids import parse_uuid, uuid7
from app.postgres.pool import Row
from app.threads import queries
from app.threads.models import ThreadCreate, ThreadFilter, ThreadPatch, ThreadSearch

if TYPE_CHECKING:
    from app.services import Services


def not_found(thread_id: UUID) -> NotFound:
    return NotFound(f"Thread with ID {thread_id} not found")


async def create(services: Services, principal: Principal, body: ThreadCreate) -> Row:
    """Raises Conflict if the id is taken: by another's thread, or by one's own unless `if_exists=do_nothing`."""
    if body.supersteps:
        raise Invalid("supersteps: not supported yet; apply each with POST /threads/{thread_id}/state")
    thread_id = uuid7() if body.thread_id is None else parse_uuid(body.thread_id, "thread")
    row = await queries.insert(services.database, principal.owner, thread_id, body.metadata)
    if row is None and body.if_exists == "do_nothing":
        row = await queries.find(services.database, principal.owner, thread_id)
    if row is None:
        raise Conflict(f"Thread with ID {thread_id} already exists")
    return row


async def get(services: Services, principal: Principal, thread_id: UUID) -> Row:
    """Raises NotFound."""
    row = await queries.find(services.database, principal.owner, thread_id)
    if row is None:
        raise not_found(thread_id)
    return row


async def search(services: Services, principal: Principal, query: ThreadSearch) -> list[Row]:
    """One page and, where there is more, one row of the next."""
    return await queries.search(services.database, principal.owner, _ids(query), query)


async def count(services: Services, principal: Principal, query: ThreadFilter) -> int:
    return await queries.count(services.database, principal.owner, _ids(query), query)


async def patch(services: Services, principal: Principal, thread_id: UUID, body: ThreadPatch) -> Row:
    """Raises NotFound."""
    row = await queries.merge_metadata(services.database, principal.owner, thread_id, body.metadata)
    if row is None:
        raise NotFound
    return row


async def delete(services: Services, principal: Principal, thread_id: UUID) -> None:
    """Delete a thread, whatever runs on it: a process that still works for it may write nothing more.

    Raises NotFound.
    """
    if not await queries.delete(services.database, principal.owner, thread_id):
        raise not_found(thread_id)


async def copy(services: Services, principal: Principal, thread_id: UUID) -> Row:
    """A new thread with the metadata and checkpoints of this one. Raises Conflict if there is no such thread."""
    target = uuid7()
    if not await queries.copy(services.database, principal.owner, thread_id, target):
        raise Conflict
    await services.runtime.refresh_thread(target)
    return await get(services, principal, target)


def _ids(query: ThreadFilter) -> list[UUID]:
    """Raises Invalid, naming the id that is none."""
    ids = []
    for text in query.ids:
        try:
            ids.append(UUID(text))
        except ValueError:
            raise Invalid(f"Invalid thread ID {text}") from None
    return ids
