"""What an `on` handler may return as a filter, checked before any of it reaches a statement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slackwater.postgres import jsonb

Filter = Mapping[str, Any]
"""`{field: value}`, `{field: {"$eq": value}}`, `{field: {"$contains": value or values}}`, and `$or` and `$and` with lists of
such. Several keys: all of them must hold. The fields are those of the resource's metadata."""

GROUPS = ("$or", "$and")
OPERATORS = ("$eq", "$contains")

MAX_NESTING = 2
"""Groups inside groups, as on the official server."""


class InvalidFilter(ValueError):
    """The filter that an `on` handler has returned makes no sense; the message says what of it."""


def checked(answer: object) -> Filter | None:
    """The filter, or None for an empty one, which restricts nothing. Raises InvalidFilter."""
    if not isinstance(answer, Mapping):
        raise InvalidFilter(
            f"an on handler must return None, True, False or a filter, not {type(answer).__name__}"
        )
    _check(answer, 0)
    return answer or None


def _check(filter_: object, nesting: int) -> None:
    if not isinstance(filter_, Mapping):
        raise InvalidFilter(f"each part of {' and '.join(GROUPS)} must be a filter, not {filter_!r}")
    if nesting > MAX_NESTING:
        raise InvalidFilter(f"{' and '.join(GROUPS)} may be nested {MAX_NESTING} deep")
    for field, wanted in filter_.items():
        if field in GROUPS:
            if not isinstance(wanted, list) or len(wanted) < 2:
                raise InvalidFilter(f"{field} must be a list of at least two filters")
            for part in wanted:
                _check(part, nesting + 1)
            continue
        if not isinstance(field, str) or field.startswith("$") or "\0" in field:
            raise InvalidFilter(f"{field!r} is not the name of a field")
        if isinstance(wanted, Mapping) and (not wanted or not set(wanted) <= set(OPERATORS)):
            raise InvalidFilter(
                f"{field}: use {' or '.join(OPERATORS)}, or $eq with an object to compare with one"
            )
        try:
            jsonb.dumps(wanted)
        except TypeError as error:
            raise InvalidFilter(f"{field}: {error}") from None


def holds(filter_: Filter, metadata: Mapping[str, Any]) -> bool:
    """Whether metadata that is in no row yet match a checked filter, by the rules of `queries.condition`."""
    return all(
        any(holds(part, metadata) for part in wanted)
        if field == "$or"
        else all(holds(part, metadata) for part in wanted)
        if field == "$and"
        else field in metadata and _matches(metadata[field], wanted)
        for field, wanted in filter_.items()
    )


def _matches(given: Any, wanted: Any) -> bool:
    operators = wanted if isinstance(wanted, Mapping) else {"$eq": wanted}
    for operator, value in operators.items():
        if operator == "$eq":
            if not _same(given, value):
                return False
            continue
        members = value if isinstance(value, list | tuple) else [value]
        if not isinstance(given, list | tuple) or not all(
            any(_same(each, member) for each in given) for member in members
        ):
            return False
    return True


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal as JSON, in which 1 is not true."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
