"""The rules of crons: what a request turns into. What is due is started by `slackwater.api.crons.fire`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import ValidationError

from slackwater.api.assistants import service as assistants
from slackwater.api.crons import queries
from slackwater.api.crons.models import RUN_KEYS, CronCreate, CronFilter, CronPatch, CronSearch
from slackwater.api.crons.schedule import next_date
from slackwater.api.runs import service as runs
from slackwater.api.runs.models import RunCreate
from slackwater.errors import BadRequest, Conflict, Invalid, NotFound
from slackwater.identity.audit.actor import Actor
from slackwater.identity.custom import access
from slackwater.identity.custom.access import Value
from slackwater.identity.custom.queries import OWN, Visible, on_seen_threads, visible
from slackwater.identity.custom.user import User
from slackwater.identity.principal import Principal
from slackwater.kit.ids import parse_uuid, uuid7
from slackwater.postgres.pool import Row
from slackwater.runtime.queue.admission import NewRun

if TYPE_CHECKING:
    from slackwater.services import Services

CHANGE_ROUNDS = 20
"""How often a change is tried again when the cron is started, or changed by another, in the same moment."""

_COLUMNS = ("schedule", "timezone", "end_time", "enabled", "on_run_completed")


async def create(services: Services, principal: Principal, thread_id: str | None, body: CronCreate) -> Row:
    """Raises Invalid for what no run could be started with, and NotFound."""
    thread = None if thread_id is None else parse_uuid(thread_id, "thread")
    cron_id = uuid7()
    value: Value = {
        "payload": _told(body, cron_id),
        "schedule": body.schedule,
        "cron_id": cron_id,
        "thread_id": thread,
        "user_id": principal.identity,
        "end_time": body.end_time,
        "metadata": body.metadata,
    }
    await access.decide(services, principal, "crons", "create", value)
    body = access.changed(body, value)
    try:
        assistant = await assistants.resolve(services, principal, body.assistant_id)
    except (Invalid, NotFound):
        raise NotFound(f"Assistant '{body.assistant_id}' not found") from None
    next_run_date = next_date(body.schedule, body.timezone, datetime.now(UTC), body.end_time)
    on_thread = principal
    if thread is not None:
        on_thread = await access.to_thread(services, principal, "read", thread, metadata=body.metadata)
    row = {
        "cron_id": cron_id,
        "owner": principal.owner,
        "assistant_id": assistant.assistant_id,
        "thread_id": thread,
        "schedule": body.schedule,
        "timezone": body.timezone,
        "end_time": body.end_time,
        "payload": _payload({}, body, assistant.assistant_id, cron_id),
        "metadata": body.metadata,
        "on_run_completed": None if thread else body.on_run_completed or "delete",
        "enabled": body.enabled,
        "next_run_date": next_run_date,
        "auth_user": principal.user.stored() if principal.user is not None else None,
    }
    await new_run(services, row)
    most = services.settings.max_crons_per_owner or None
    made = await queries.insert(services.database, row, on_thread.owner, most)
    if made is None:
        raise NotFound(
            f"Thread with ID '{thread_id}' not found. Please verify the ID is correct and the thread hasn't been "
            "deleted or expired."
            if thread
            else f"Assistant '{body.assistant_id}' not found"
        )
    return made


async def get(services: Services, principal: Principal, cron_id: UUID) -> Row:
    """Raises NotFound."""
    filter_ = await access.decide(services, principal, "crons", "read", {"cron_id": cron_id})
    row = await queries.find(services.database, principal.owner, cron_id, visible(filter_))
    if row is None:
        raise NotFound
    return row


async def search(services: Services, principal: Principal, query: CronSearch) -> list[Row]:
    """One page and, where there is more, one row of the next."""
    seen = await _seen(services, principal, query, query.limit, query.offset)
    return await queries.search(services.database, principal.owner, query, seen)


async def count(services: Services, principal: Principal, query: CronFilter) -> int:
    seen = await _seen(services, principal, query, 0, 0)
    return await queries.count(services.database, principal.owner, query, seen)


async def _seen(
    services: Services, principal: Principal, query: CronFilter, limit: int, offset: int
) -> Visible:
    """The crons that a search may find: those that a filter shows, on threads that a filter shows."""
    if principal.user is None:
        return OWN
    of_thread: Value = {} if query.thread_id is None else {"thread_id": query.thread_id}
    value: Value = {"assistant_id": query.assistant_id, "thread_id": query.thread_id}
    value |= {"limit": limit, "offset": offset, "metadata": query.metadata}
    seen = visible(await access.decide(services, principal, "crons", "search", value))
    of_threads = await access.decide(
        services, principal, "threads", "search" if query.thread_id is None else "read", of_thread
    )
    return on_seen_threads(seen, of_threads)


async def patch(services: Services, principal: Principal, cron_id: UUID, body: CronPatch) -> Row:
    """The changed cron. Raises BadRequest, Invalid, NotFound, and Conflict if others do nothing but change it."""
    if not body.model_fields_set:
        raise BadRequest("Request body cannot be empty")
    value: Value = {"cron_id": cron_id, "payload": body.model_dump(mode="json", exclude_unset=True)}
    value |= {"schedule": body.schedule or None, "metadata": body.metadata, "end_time": body.end_time}
    enabled = body.enabled if "enabled" in body.model_fields_set else None
    value |= {"enabled": enabled, "on_run_completed": body.on_run_completed}
    seen = visible(await access.decide(services, principal, "crons", "update", value))
    body = access.changed(body, value)
    for _ in range(CHANGE_ROUNDS):
        row = await queries.find(services.database, principal.owner, cron_id, seen)
        if row is None:
            raise NotFound(f"Cron '{cron_id}' not found")
        changed = {**row, **_changes(row, body)}
        if principal.user is not None:
            changed["auth_user"] = principal.user.stored()  # so that nobody writes what another is to run
        await new_run(services, changed)
        if (done := await queries.update(services.database, changed)) is not None:
            return done
    raise Conflict(f"Cron '{cron_id}' is being changed by another request: try again")


async def delete(services: Services, principal: Principal, cron_id: UUID) -> None:
    """Raises NotFound. Runs that it has started go on."""
    filter_ = await access.decide(services, principal, "crons", "delete", {"cron_id": cron_id})
    seen, actor = visible(filter_), Actor.of(principal)
    if not await queries.delete(services.database, principal.owner, cron_id, seen, actor):
        raise NotFound


async def new_run(services: Services, cron: Mapping[str, Any]) -> NewRun:
    """A run of the cron, to be admitted. Raises ApiError if it could not start."""
    payload = {key: value for key, value in cron["payload"].items() if key in RUN_KEYS and value is not None}
    config = dict(payload.get("config") or {})
    config["configurable"] = _without_cron_id(config)
    thread_id = cron["thread_id"]
    try:
        body = RunCreate.model_validate(
            {
                **payload,
                "config": config,
                "assistant_id": str(cron["assistant_id"]),
                "metadata": {**cron["metadata"], **payload.get("metadata", {})},
                "on_completion": cron["on_run_completed"] or "delete",
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if "[" not in str(part))
        raise Invalid(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None
    user = User(cron["auth_user"]) if cron["auth_user"] is not None else None
    principal = Principal(cron["owner"], user=user)
    new = await runs.prepare(services, principal, None if thread_id is None else str(thread_id), body, None)
    # Only now: nobody else may say it, and beside a context the rules would take it for a second one.
    new.kwargs["config"]["configurable"]["cron_id"] = str(cron["cron_id"])
    return new


def _told(body: CronCreate, cron_id: UUID) -> dict[str, Any]:
    """What a handler is told of a new cron's payload."""
    payload = body.model_dump(mode="json", exclude_unset=True)
    config = payload.get("config") or {}
    payload["config"] = {
        **config,
        "configurable": {**_without_cron_id(config), "cron_id": str(cron_id)},
    }
    return payload


def _changes(row: Row, body: CronPatch) -> dict[str, Any]:
    """The columns that the request changes. Raises Invalid."""
    given = body.model_fields_set
    changes: dict[str, Any] = {name: getattr(body, name) for name in _COLUMNS if name in given}
    if row["thread_id"] is not None:
        changes.pop("on_run_completed", None)
    after = {**row, **changes}
    now = datetime.now(UTC)
    following = next_date(after["schedule"], after["timezone"], now, after["end_time"])
    # What is due stays due, unless it was meant for another schedule or for the time in which the cron was off.
    again = {"schedule", "timezone"} & given or (after["enabled"] and not row["enabled"])
    due = row["next_run_date"]
    if again or due is None or (after["end_time"] is not None and due > after["end_time"]):
        due = following
    changes["next_run_date"] = due
    changes["metadata"] = {**row["metadata"], **body.metadata}
    changes["payload"] = _payload(row["payload"], body, row["assistant_id"], row["cron_id"])
    return changes


def _payload(
    old: Mapping[str, Any], body: CronCreate | CronPatch, assistant_id: UUID, cron_id: UUID
) -> dict[str, Any]:
    """What is shown, and kept, of the requests that made the cron."""
    new = body.model_dump(mode="json", exclude_unset=True)
    payload = {**old, **new, "assistant_id": str(assistant_id)}
    config = dict(payload.get("config") or {})
    payload["config"] = {
        **config,
        "configurable": {**_without_cron_id(config), "cron_id": str(cron_id)},
    }
    return payload


def _without_cron_id(config: Mapping[str, Any]) -> dict[str, Any]:
    configurable = config.get("configurable")
    if configurable is None:
        return {}
    if not isinstance(configurable, Mapping):
        raise Invalid("config.configurable: Input should be a valid dictionary")
    return {key: value for key, value in configurable.items() if key != "cron_id"}
