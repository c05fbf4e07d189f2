"""What a caller may do with which resource, as the project's `on` handlers say.

Whoever is not a custom user is not asked about: for them, and in projects without `auth`, each function returns at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from slackwater.errors import NotFound
from slackwater.identity.custom import queries
from slackwater.identity.custom.filters import Filter, holds
from slackwater.identity.principal import NOBODY, Principal

if TYPE_CHECKING:
    from pydantic import BaseModel

    from slackwater.identity.custom.authenticator import Action, Resource
    from slackwater.services import Services

    Body = TypeVar("Body", bound=BaseModel)

Value = dict[str, Any]
"""What a handler is told of a request, and may change."""


async def decide(
    services: Services, principal: Principal, resource: Resource, action: Action, value: dict[str, Any]
) -> Filter | None:
    """The filter for what the caller is about to do; None: there is none. The handler may change `value`.

    Raises RefusedByAuth.
    """
    if principal.user is None or services.auth is None:
        return None
    return await services.auth.decide(principal.user, resource, action, value)


async def to_thread(
    services: Services, principal: Principal, action: Action, thread_id: UUID, **value: Any
) -> Principal:
    """The principal as whom the caller uses a thread: its owner, where a filter lets the caller see it.

    For a thread that does not match, it is one who owns nothing: so it is answered exactly like one that is not there.
    Raises RefusedByAuth.
    """
    if principal.user is None or services.auth is None:
        return principal
    filter_ = await services.auth.decide(principal.user, "threads", action, {"thread_id": thread_id, **value})
    return await on_thread(services, principal, thread_id, filter_)


async def on_thread(
    services: Services, principal: Principal, thread_id: UUID, filter_: Filter | None
) -> Principal:
    """The same, for a filter that has been asked for already."""
    return (await look_up(services, principal, thread_id, filter_)).principal


@dataclass(frozen=True, slots=True)
class LookedUp:
    """A thread, as a filter shows it to the caller."""

    principal: Principal
    """As whom the caller uses it."""
    is_there: bool | None
    """Whether there is such a thread, hidden or not; None if nobody has looked."""

    @property
    def is_hidden(self) -> bool:
        """Whether somebody has looked, and there is none for this caller."""
        return self.is_there is not None and (not self.is_there or self.principal.owner == NOBODY)


async def look_up(
    services: Services, principal: Principal, thread_id: UUID, filter_: Filter | None
) -> LookedUp:
    """The thread, in one statement, and in none without a filter."""
    if filter_ is None:
        return LookedUp(principal, None)
    is_there, owner = await queries.owner_of_thread(services.database, thread_id, filter_)
    return LookedUp(replace(principal, owner=owner or NOBODY) if is_there else principal, is_there)


async def to_each(
    services: Services, principal: Principal, asked: Mapping[Action, Value], thread_id: UUID
) -> Principal:
    """As `to_thread`, for a request that is several actions: all have to be allowed, and every filter has to match.

    Raises RefusedByAuth.
    """
    if principal.user is None or services.auth is None:
        return principal
    filters: list[Filter] = []
    for action, value in asked.items():
        about = {"thread_id": thread_id, **value}
        filter_ = await services.auth.decide(principal.user, "threads", action, about)
        if filter_ is not None and filter_ not in filters:
            filters.append(filter_)
    found = principal
    for filter_ in filters:
        found = await on_thread(services, principal, thread_id, filter_)
        if found.owner == NOBODY:
            break
    return found


async def require_reader(
    services: Services,
    principal: Principal,
    thread_id: UUID,
    known: LookedUp,
    matched: Filter | None,
    new: Value,
) -> None:
    """Whoever is to be told what a run comes to has to be allowed to read its thread.

    `known`: the thread as the filter `matched` shows it. `new`: the metadata that it gets if it is not there yet.
    Raises RefusedByAuth and NotFound.
    """
    filter_ = await decide(services, principal, "threads", "read", {"thread_id": thread_id})
    if filter_ is None or (known.is_there and filter_ == matched):
        return
    is_there, owner = known.is_there, None
    if is_there is not False:
        is_there, owner = await queries.owner_of_thread(services.database, thread_id, filter_)
    if owner is None if is_there else not holds(filter_, new):
        raise NotFound("Thread not found")


async def owners_of_threads(
    services: Services, principal: Principal, thread_ids: Collection[UUID], filter_: Filter
) -> list[tuple[Principal, list[UUID]]]:
    """The threads by their owners. Raises NotFound if one of them is not there, or does not match the filter."""
    found = await queries.owners_of_threads(services.database, thread_ids, filter_)
    # As on the official server; and only so do both look the same.
    if sum(map(len, found.values())) < len(set(thread_ids)):
        raise NotFound("At least one thread not found or not authorized")
    return [(replace(principal, owner=owner), ids) for owner, ids in found.items()]


def metadata_of(value: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a request, as a handler has left it."""
    metadata = value.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def changed(body: Body, value: dict[str, Any]) -> Body:
    """A request with the metadata that a handler has left it."""
    metadata = metadata_of(value)
    # What it has changed inside has been changed here, too.
    return (
        body
        if metadata is getattr(body, "metadata", None)
        else body.model_copy(update={"metadata": metadata})
    )
