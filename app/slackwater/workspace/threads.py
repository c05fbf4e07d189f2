"""Threads that need not be there yet: what is done with one before its first run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from slackwater.errors import NotFound
from slackwater.identity.custom import access
from slackwater.identity.principal import Principal
from slackwater.workspace import queries

if TYPE_CHECKING:
    from slackwater.identity.custom.authenticator import Action
    from slackwater.services import Services


async def owner_for(
    services: Services, principal: Principal, action: Action, thread_id: UUID, **value: Any
) -> str:
    """As whom the caller uses the thread: as its owner, or as themselves while it is not there yet.

    Raises RefusedByAuth, and NotFound for what is another's.
    """
    about = {"thread_id": thread_id, **value}
    filter_ = await access.decide(services, principal, "threads", action, about)
    if filter_ is None:
        owner = await queries.owner_of(services.database, thread_id)
        anothers = owner not in (None, principal.owner)
    else:
        found = await access.look_up(services, principal, thread_id, filter_)
        principal, anothers = found.principal, bool(found.is_there) and found.is_hidden
    if anothers:
        raise NotFound(f"Thread {thread_id} not found")
    return principal.owner
