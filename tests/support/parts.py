"""What a stock client reads of a stream, so that two streams can be compared."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import orjson

Part = tuple[str, Any]
"""An event and its data."""

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00")


def comparable(parts: Iterable[Part]) -> list[str]:
    """The events as text in which ids are numbered in the order of their first appearance, and times are gone."""
    numbers: dict[str, str] = {}
    lines = []
    for event, data in parts:
        line = _TIME.sub("<time>", f"{event} {orjson.dumps(data, option=orjson.OPT_SORT_KEYS).decode()}")
        lines.append(_ID.sub(lambda found: numbers.setdefault(found[0], f"<{len(numbers)}>"), line))
    return lines


def sequences(mode: str | list[str], parts: list[Part]) -> list[list[str]]:
    """What has to come in this order: callbacks and states are two sources, which `events` with others interleaves."""
    if isinstance(mode, list) and "events" in mode:
        records = [part for part in parts if part[0] == "events"]
        return [comparable(records), comparable([part for part in parts if part[0] != "events"])]
    return [comparable(parts)]
