"""JSON as the API sends it: values, timestamps and error objects.

`dumps` accepts whatever a graph puts into its state; a value without a JSON form becomes `null`.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from collections import deque
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from json.encoder import encode_basestring_ascii
from pathlib import PurePath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson

from slackwater.errors import SlackwaterError

RESPONSE_BYTES = 6_291_556 - 65_536
"""The largest body, by `escaped_size`, of a buffered AWS Lambda response. The rest of the limit is for headers."""

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY

# An even number of backslashes before `\u0000` leaves it an escape; an odd one makes it six plain characters.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}".encode()

_MASKED = "An internal error occurred"
_SHOWN = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RuntimeError,
    RecursionError,
    TimeoutError,
    SlackwaterError,
)
# By name: importing langgraph here would put it on the path of every cold start.
_SHOWN_NAMES = frozenset(
    {
        "langgraph.errors.InvalidUpdateError",
        "langgraph.errors.GraphBubbleUp",
        "langgraph.errors.EmptyInputError",
        "langgraph.errors.TaskNotFound",
        "starlette.exceptions.HTTPException",
    }
)


def dumps(value: object) -> bytes:
    """`value` as one line of compact JSON: UTF-8, no NUL (U+FFFD instead), no lone surrogate (`?` instead).

    Models, named tuples, dataclasses and `Send` become objects; sets lists; bytes base64; decimals numbers; exceptions
    `error_object`s; anything unknown null.
    """
    try:
        data = orjson.dumps(value, default=_default, option=_OPTIONS)
    except orjson.JSONEncodeError:
        # Lone surrogates, integers of more than 64 bits, keys such as tuples, more than 254 levels.
        data = _dumps_slowly(value)
    if b"\\u0000" in data:
        data = _NUL.sub(rb"\1" + _REPLACEMENT, data)
    return data


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC with six digits and an offset: `2026-11-23T20:58:40.877892+00:00`; naive times are UTC."""
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")


def error_object(exc: BaseException) -> dict[str, str]:
    """`{"error": class name, "message": string}`; the message only of classes that are known to hold no secrets.

    A driver's or provider's error may quote a connection string or a key, and this object reaches clients.
    """
    shown = isinstance(exc, _SHOWN) or any(
        f"{cls.__module__}.{cls.__qualname__}" in _SHOWN_NAMES for cls in type(exc).__mro__
    )
    return {"error": type(exc).__name__, "message": str(exc) if shown else _MASKED}


def plain_error(error: Mapping[str, Any]) -> dict[str, Any]:
    """`error` as streams and `/wait` return it, like the official server: without the node, which the thread and the run name."""
    return {key: error[key] for key in ("error", "message") if key in error}


def escaped_size(body: bytes) -> int:
    """Bytes of `body` as a JSON string in ASCII, which is how AWS Lambda transfers it and applies its limit."""
    return len(encode_basestring_ascii(body.decode("utf-8", "replace")))


def _default(value: Any) -> Any:
    """The JSON form, one level deep, of what orjson does not know."""
    if isinstance(value, type):
        return None
    for method in ("model_dump", "dict", "_asdict"):
        if callable(dump := getattr(value, method, None)):
            return dump()
    match value:
        case BaseException():
            return error_object(value)
        case set() | frozenset():
            return _in_order(value)
        case deque() | tuple():
            return list(value)
        case bytes() | bytearray() | memoryview():
            return b64encode(value).decode()
        case Decimal():
            return _number(value)
        case timedelta():
            return value.total_seconds()
        case timezone() | ZoneInfo():
            return value.tzname(None) or str(value)
        case PurePath() | IPv4Address() | IPv6Address():
            return str(value)
        case re.Pattern():
            return value.pattern
        case Mapping():
            return dict(value)
    if hasattr(value, "node") and hasattr(value, "arg"):  # langgraph.types.Send
        return {"node": value.node, "args": value.arg}
    if callable(to_list := getattr(value, "tolist", None)):  # arrays that orjson's numpy support leaves out
        return to_list()
    return None


def _in_order(values: Set[Any]) -> list[Any]:
    """Sorted if possible: each process hashes strings differently, and equal states should look the same."""
    try:
        return sorted(values)
    except TypeError:
        return list(values)


def _number(value: Decimal) -> int | float | None:
    if not value.is_finite():
        return None
    return int(value) if value == value.to_integral_value() else float(value)


def _dumps_slowly(value: object) -> bytes:
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _plain(value: Any) -> Any:
    """`value` as what the standard library's encoder takes, with orjson's choices."""
    match value:
        case None | bool() | str() | int():
            return value.value if isinstance(value, Enum) else value
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {_key(key): _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case Enum():
            return _plain(value.value)
        case datetime() | date() | time():
            return value.isoformat()
        case UUID():
            return str(value)
        case orjson.Fragment():
            return json.loads(orjson.dumps(value))
    if type(value) is tuple:
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if not f.name.startswith("_")}
    return _plain(_default(value))


def _key(key: Any) -> str:
    match key:
        case Enum():
            return _key(key.value)
        case str():
            return key
        case None | bool():
            return json.dumps(key)
        case datetime() | date() | time():
            return key.isoformat()
    return str(key)
