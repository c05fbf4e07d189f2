"""Filters in SQL: which rows of threads, assistants and crons a caller sees."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import UUID

from slackwater.identity.custom.filters import GROUPS, Filter
from slackwater.identity.custom.user import USER_OWNER
from slackwater.identity.principal import SYSTEM_OWNER
from slackwater.postgres import jsonb

if TYPE_CHECKING:
    from slackwater.postgres.pool import Database, Row

USERS = f"starts_with(owner, '{USER_OWNER}')"
"""What custom users own. A filter never reaches what belongs to API keys or to callers of other kinds."""


@dataclass(frozen=True, slots=True)
class Visible:
    """The condition that rows must meet, and its parameters."""

    condition: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


OWN = Visible("owner = %(owner)s")
"""The caller's own rows, by the parameter `owner`."""

OWN_OR_SYSTEM = Visible("owner in (%(owner)s, %(system)s)")
"""The same, and those that belong to everybody, by the parameters `owner` and `system`."""


def visible(filter_: Filter | None, *, system: bool = False) -> Visible:
    """What a handler's answer lets the caller see: what matches the filter, whichever user owns it, or else their own.

    `system`: also of what belongs to everybody, which without a filter all may see.
    """
    if filter_ is None:
        return OWN_OR_SYSTEM if system else OWN
    found = condition(filter_)
    owners = f"({USERS} or owner = '{SYSTEM_OWNER}')" if system else USERS
    return Visible(f"({owners} and {found.condition})", found.parameters)


def on_seen_threads(seen: Visible, of_threads: Filter | None) -> Visible:
    """Of the rows that are `seen`, those of no thread, or of one that matches a filter of its own."""
    if of_threads is None:
        return seen
    found = condition(of_threads, prefix="auth_thread")
    threads = f"select thread_id from slackwater.threads where {USERS} and {found.condition}"
    return Visible(
        f"({seen.condition} and (thread_id is null or thread_id in ({threads})))",
        {**seen.parameters, **found.parameters},
    )


def condition(filter_: Filter, column: str = "metadata", prefix: str = "auth") -> Visible:
    """A checked filter as a condition on a `jsonb` column. No part of the filter becomes part of the SQL.

    Its parameters are called `{prefix}_0` and so on.
    """
    parameters: dict[str, Any] = {}
    names = (f"{prefix}_{number}" for number in count())
    return Visible(_all(filter_, column, parameters, names), parameters)


def _all(filter_: Filter, column: str, parameters: dict[str, Any], names: Iterator[str]) -> str:
    parts = [
        part
        for name, wanted in filter_.items()
        for part in (
            [_group(name, wanted, column, parameters, names)]
            if name in GROUPS
            else _field(name, wanted, column, parameters, names)
        )
    ]
    return f"({' and '.join(parts)})" if parts else "true"


def _group(
    name: str, filters: list[Filter], column: str, parameters: dict[str, Any], names: Iterator[str]
) -> str:
    word = " or " if name == "$or" else " and "
    return f"({word.join(_all(part, column, parameters, names) for part in filters)})"


def _field(
    name: str, wanted: Any, column: str, parameters: dict[str, Any], names: Iterator[str]
) -> Iterator[str]:
    for operator, value in (wanted if isinstance(wanted, Mapping) else {"$eq": wanted}).items():
        if operator == "$contains":
            yield from _contains(name, value, column, parameters, names)
        else:
            yield _equals(name, value, column, parameters, names)


def _equals(name: str, value: Any, column: str, parameters: dict[str, Any], names: Iterator[str]) -> str:
    if not isinstance(value, Mapping | list | tuple):
        # For what has no parts, to be contained is to be equal; and an index finds it.
        return f"{column} @> {_jsonb({name: value}, parameters, names)}"
    key = next(names)
    parameters[key] = name
    return f"coalesce({column} -> %({key})s::text = {_jsonb(value, parameters, names)}, false)"


def _contains(
    name: str, value: Any, column: str, parameters: dict[str, Any], names: Iterator[str]
) -> Iterator[str]:
    wanted = list(value) if isinstance(value, list | tuple) else [value]
    yield f"{column} @> {_jsonb({name: [v for v in wanted if not _has_parts(v)]}, parameters, names)}"
    for each in filter(_has_parts, wanted):
        key = next(names)
        parameters[key] = name
        yield (
            f"exists (select from jsonb_array_elements(case when jsonb_typeof({column} -> %({key})s::text) = 'array' "
            f"then {column} -> %({key})s::text end) e(v) where e.v = {_jsonb(each, parameters, names)})"
        )


def _has_parts(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _jsonb(value: Any, parameters: dict[str, Any], names: Iterator[str]) -> str:
    key = next(names)
    parameters[key] = jsonb.dumps(value).decode()
    return f"%({key})s::jsonb"


async def owner_of_thread(database: Database, thread_id: UUID, filter_: Filter) -> tuple[bool, str | None]:
    """Whether there is such a thread, and who owns it if it matches the filter."""
    rows = await _owners(database, "threads", "thread_id", [thread_id], filter_)
    return bool(rows), rows[0]["owner"] if rows else None


async def owners_of_threads(
    database: Database, thread_ids: Collection[UUID], filter_: Filter
) -> dict[str, list[UUID]]:
    """Those of the threads that match the filter, by their owner."""
    owners: dict[str, list[UUID]] = {}
    for row in await _owners(database, "threads", "thread_id", thread_ids, filter_):
        if row["owner"] is not None:
            owners.setdefault(row["owner"], []).append(row["id"])
    return owners


async def _owners(
    database: Database, table: str, key: str, ids: Collection[UUID], filter_: Filter
) -> list[Row]:
    seen = visible(filter_)
    return await database.fetch(
        f"select {key} as id, case when {seen.condition} then owner end as owner from slackwater.{table} "
        f"where {key} = any(%(ids)s::uuid[])",
        {**seen.parameters, "ids": list(ids)},
    )
