"""The rules of threads. What another owns is not there, on every way in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine
from typing import TYPE_CHECKING, Any
from uuid import UUID

from slackwater.api.threads import queries
from slackwater.api.threads.models import (
    Prune,
    ThreadCreate,
    ThreadFilter,
    ThreadPatch,
    ThreadSearch,
    Ttl,
    view,
)
from slackwater.errors import Conflict, Invalid, NotFound
from slackwater.identity.audit.actor import Actor
from slackwater.identity.custom import access
from slackwater.identity.custom.access import Value
from slackwater.identity.custom.filters import Filter
from slackwater.identity.custom.queries import visible
from slackwater.identity.principal import Principal
from slackwater.kit.ids import parse_uuid, uuid7
from slackwater.postgres.pool import Row
from slackwater.runtime.process.hold import ThreadHeld
from slackwater.runtime.queue import pruning
from slackwater.runtime.queue.cancel import DELETED, CancelAction

if TYPE_CHECKING:
    from slackwater.services import Services


END_SECONDS = 10.0
"""How long whoever deletes a thread waits for what runs on it: a node that does not listen has half of it."""

END_AGAIN_SECONDS = 0.05

Draft = Callable[
    ["Services", Principal, UUID, ThreadCreate, queries.Lifetime], Coroutine[Any, Any, Row | None]
]
"""`state.draft`, which knows this module."""


def not_found(thread_id: UUID) -> NotFound:
    return NotFound(f"Thread with ID {thread_id} not found")


async def create(
    services: Services, principal: Principal, body: ThreadCreate, draft: Draft | None = None
) -> Row:
    """Make a thread, or let `draft` make it, with a state.

    Raises Conflict if the id is taken: by another's thread, or by one's own unless `if_exists=do_nothing`.
    """
    thread_id = uuid7() if body.thread_id is None else parse_uuid(body.thread_id, "thread")
    value: Value = {"thread_id": thread_id, "metadata": body.metadata, "if_exists": body.if_exists}
    filter_ = await access.decide(services, principal, "threads", "create", value)
    body = access.changed(body, value)
    ttl = lifetime(body.ttl) if body.ttl is not None else services.graphs.thread_ttl.of_new_threads
    if draft is not None:
        # What is there already need not be computed, and may have another graph.
        taken = body.thread_id and await _found(services, principal, thread_id, filter_)
        row = None if taken else await draft(services, principal, thread_id, body, ttl)
    else:
        row = await queries.insert(services.database, principal.owner, thread_id, body.metadata, ttl)
    if row is None and body.if_exists == "do_nothing":
        row = await _found(services, principal, thread_id, filter_)
    if row is None:
        raise Conflict(f"Thread with ID {thread_id} already exists")
    return row


async def _found(
    services: Services, principal: Principal, thread_id: UUID, filter_: Filter | None
) -> Row | None:
    """The thread, if the caller sees it."""
    principal = await access.on_thread(services, principal, thread_id, filter_)
    return await queries.find(services.database, principal.owner, thread_id)


async def get(services: Services, principal: Principal, thread_id: UUID) -> Row:
    """Raises NotFound."""
    principal = await access.to_thread(services, principal, "read", thread_id)
    row = await queries.find(services.database, principal.owner, thread_id)
    if row is None:
        raise not_found(thread_id)
    return row


async def reader_of(services: Services, principal: Principal, thread_id: UUID) -> Principal:
    """The principal as whom the caller reads the thread. Raises NotFound if there is no such thread."""
    principal = await access.to_thread(services, principal, "read", thread_id)
    if await queries.find_graph(services.database, principal.owner, thread_id) is None:
        raise not_found(thread_id)
    return principal


async def search(
    services: Services, principal: Principal, query: ThreadSearch, *, for_gateway: bool = False
) -> list[Row]:
    """One page and, where there is more, one row of the next. `for_gateway`: see `queries.search`."""
    ids = _ids(query)
    value: Value = {**_value(query, ids), "limit": query.limit, "offset": query.offset}
    filter_ = await access.decide(services, principal, "threads", "search", value)
    query = access.changed(query, value)
    return await queries.search(
        services.database, principal.owner, ids, query, visible(filter_), for_gateway=for_gateway
    )


async def count(services: Services, principal: Principal, query: ThreadFilter) -> int:
    ids = _ids(query)
    value: Value = {**_value(query, ids), "limit": 0, "offset": 0}
    filter_ = await access.decide(services, principal, "threads", "search", value)
    query = access.changed(query, value)
    return await queries.count(services.database, principal.owner, ids, query, visible(filter_))


async def patch(services: Services, principal: Principal, thread_id: UUID, body: ThreadPatch) -> Row:
    """Raises NotFound."""
    ttl = lifetime(body.ttl) if "ttl" in body.model_fields_set else None
    value: Value = {"thread_id": thread_id, "metadata": body.metadata}
    filter_ = await access.decide(services, principal, "threads", "update", value)
    principal = await access.on_thread(services, principal, thread_id, filter_)
    metadata = access.metadata_of(value)
    row = await queries.patch(services.database, principal.owner, thread_id, metadata, ttl)
    if row is None:
        raise NotFound
    return row


async def delete(services: Services, principal: Principal, thread_id: UUID) -> None:
    """Delete a thread. What runs on it is ended first; a process that does not answer may write nothing more.

    Raises NotFound.
    """
    principal = await access.to_thread(services, principal, "delete", thread_id)
    await _end_runs(services, principal, {thread_id})
    if not await pruning.delete(services.database, principal.owner, [thread_id], Actor.of(principal)):
        raise not_found(thread_id)


async def prune(services: Services, principal: Principal, body: Prune) -> int:
    """Delete threads, or their past; how many. All of it is done, or nothing. Threads that are not there are skipped.

    Raises Invalid, and ThreadHeld if a run needs the past of one.
    """
    threads = {parse_uuid(text, "thread") for text in body.thread_ids}
    # One transaction for each owner: nobody shares more with anybody than a filter says.
    owners = await _to_delete(services, principal, threads)
    return sum([await _prune(services, owner, body, theirs) for owner, theirs in owners])


async def _to_delete(
    services: Services, principal: Principal, threads: Collection[UUID]
) -> list[tuple[Principal, Collection[UUID]]]:
    """As whom the caller deletes which threads. Raises RefusedByAuth, and NotFound if a filter hides one of them."""
    ids = sorted(threads, key=str)
    of_all = await access.decide(services, principal, "threads", "delete", {"thread_ids": ids})
    if principal.user is None:
        return [(principal, ids)]
    found: dict[str, tuple[Principal, set[UUID]]] = {}

    async def find(those: Collection[UUID], filter_: Filter) -> None:
        for owner, theirs in await access.owners_of_threads(services, principal, those, filter_):
            found.setdefault(owner.owner, (owner, set()))[1].update(theirs)

    if of_all is not None:
        await find(ids, of_all)
    filtered: list[tuple[Filter, set[UUID]]] = []
    owned: set[UUID] = set()
    for thread_id in ids:
        # A handler may know of single threads only.
        of_one = await access.decide(services, principal, "threads", "delete", {"thread_id": thread_id})
        if of_one is not None and of_one != of_all:
            known = next((those for filter_, those in filtered if filter_ == of_one), None)
            if known is None:
                filtered.append((of_one, {thread_id}))
            else:
                known.add(thread_id)
        elif of_one is of_all is None:
            owned.add(thread_id)
    for filter_, those in filtered:
        await find(those, filter_)
    if owned:
        found.setdefault(principal.owner, (principal, set()))[1].update(owned)
    return list(found.values())


async def _prune(services: Services, principal: Principal, body: Prune, threads: Collection[UUID]) -> int:
    if body.strategy == "delete":
        await _end_runs(services, principal, threads)
        return await pruning.delete(services.database, principal.owner, threads, Actor.of(principal))
    kept = await pruning.keep_latest(services.database, principal.owner, threads)
    if kept.busy is not None:
        raise ThreadHeld(
            f"Thread {kept.busy} is busy, so nothing was pruned: wait for its run, or cancel it."
        )
    return kept.count


async def _end_runs(services: Services, principal: Principal, threads: Collection[UUID]) -> None:
    """End what runs on the threads, and wait for it, but not for ever."""
    until, pause = time.monotonic() + END_SECONDS, END_AGAIN_SECONDS
    live = await pruning.live(services.database, principal.owner, threads)
    for thread_id in live:
        await services.runtime.cancel(principal.owner, thread_id, None, CancelAction.ROLLBACK, DELETED)
    while live and time.monotonic() < until:
        await asyncio.sleep(pause)
        pause = min(2 * pause, 10 * END_AGAIN_SECONDS)
        live = await pruning.live(services.database, principal.owner, live)


async def storage(services: Services, principal: Principal, thread_id: UUID) -> dict[str, Any]:
    """What the thread takes up, in bytes. Raises NotFound."""
    principal = await access.to_thread(services, principal, "read", thread_id)
    sums, channels = await queries.storage(services.database, principal.owner, thread_id)
    if sums is None:
        raise not_found(thread_id)
    by_channel = {row["channel"]: {"count": row["count"], "bytes": int(row["bytes"])} for row in channels}
    parts = {
        "checkpoints": {"count": sums["checkpoints"], "bytes": int(sums["checkpoint_bytes"])},
        "channel_values": {
            "count": sum(channel["count"] for channel in by_channel.values()),
            "bytes": sum(channel["bytes"] for channel in by_channel.values()),
            "by_channel": by_channel,
        },
        "pending_writes": {"count": sums["writes"], "bytes": int(sums["write_bytes"])},
    }
    total = sum(part["bytes"] for part in parts.values())
    return {"thread_id": str(thread_id), "total_bytes": total, **parts}


async def ttl(services: Services, principal: Principal, thread_id: UUID) -> dict[str, Any] | None:
    """When the thread's time is over; None: never. Raises NotFound."""
    principal = await access.to_thread(services, principal, "read", thread_id)
    row = await queries.find_ttl(services.database, principal.owner, thread_id)
    if row is None:
        raise not_found(thread_id)
    return view(row) if row["ttl_minutes"] is not None else None


def lifetime(ttl: float | Ttl | None) -> queries.Lifetime:
    """What a request says of it, for the thread's row."""
    if ttl is None:
        return None, None
    return (ttl.ttl, ttl.strategy) if isinstance(ttl, Ttl) else (ttl, "delete")


async def copy(services: Services, principal: Principal, thread_id: UUID) -> Row:
    """A new thread with the metadata and checkpoints of this one. Raises Conflict if there is no such thread."""
    target = uuid7()
    source = await access.to_thread(services, principal, "read", thread_id)
    await access.decide(services, principal, "threads", "create", {"thread_id": target})
    if not await queries.copy(services.database, source.owner, thread_id, target, principal.owner):
        raise Conflict
    await services.runtime.refresh_thread(target)
    row = await queries.find(services.database, principal.owner, target)
    if row is None:
        raise not_found(target)
    return row


def _value(query: ThreadFilter, ids: list[UUID]) -> dict[str, Any]:
    """What a handler is told of a search."""
    return {"metadata": query.metadata, "values": query.values, "status": query.status, "ids": ids or None}


def _ids(query: ThreadFilter) -> list[UUID]:
    """Raises Invalid, naming the id that is none."""
    ids = []
    for text in query.ids:
        try:
            ids.append(UUID(text))
        except ValueError:
            raise Invalid(f"Invalid thread ID {text}") from None
    return ids
