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
