"""What the handlers were told, for the scenario that a request belongs to: it fetches it from a route of the project's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

_told: dict[str, list[dict[str, Any]]] = defaultdict(list)


def tell(scenario: str, **what: Any) -> None:
    _told[scenario].append({name: plain(value) for name, value in what.items()})


def take(scenario: str) -> list[dict[str, Any]]:
    """All since the last time."""
    return _told.pop(scenario, [])


def plain(value: Any) -> Any:
    """As JSON, with the types that a handler could tell apart."""
    match value:
        case None | bool() | int() | float():
            return value
        case Enum():
            return f"{type(value).__name__} {value.value}"
        case str():
            return str(value)
        case UUID():
            return {"UUID": str(value)}
        case datetime():
            return {"datetime": value.isoformat()}
        case tuple():
            return {"tuple": [plain(each) for each in value]}
        case list():
            return [plain(each) for each in value]
        case Mapping():
            return {str(name): plain(each) for name, each in value.items()}
    return type(value).__name__
