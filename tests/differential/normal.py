"""Answers made comparable: what differs each time is replaced by what it stands for. Pure functions.

Ids stay: which of them are the same is for the comparison, which sees both sides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tests.differential.script import Answer, Event, Step

ID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])"
)
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?")
RESOURCES = {"threads": "<thread>", "runs": "<run>", "assistants": "<assistant>", "crons": "<cron>"}
"""What an id in a label is called, by the segment before it."""


def normal(steps: Iterable[Step], url: str) -> list[tuple[str, Any]]:
    """Labels and answers of a trace without times and the server's `url`, as plain values."""
    return [(label_of(step.label), answer_of(step.answer, url)) for step in steps]


def label_of(label: str) -> str:
    parts = label.split("/")
    for position, part in enumerate(parts):
        name = RESOURCES.get(parts[position - 1], "<id>") if position else "<id>"
        parts[position] = ID.sub(name, part)
    return "/".join(parts)


def answer_of(answer: Any, url: str) -> Any:
    if not isinstance(answer, Answer):
        return value_of(answer, url)
    shown: dict[str, Any] = {"status": answer.status, "headers": value_of(answer.headers, url)}
    if answer.events is None:
        shown["body"] = value_of(answer.body, url)
    else:
        shown["events"] = [event_of(event, url) for event in answer.events]
    return shown


def event_of(event: Event, url: str) -> dict[str, Any]:
    """An event's own id says where it is in its log; whether there is one is all that can be compared."""
    return {"event": event.event, "data": value_of(event.data, url), "id": event.id is not None}


def value_of(value: Any, url: str) -> Any:
    if isinstance(value, dict):
        # LangChain tells which of its packages are installed, and the tests have more of them.
        return {key: value_of(item, url) for key, item in value.items() if key != "lc_versions"}
    if isinstance(value, list | tuple):
        return [value_of(item, url) for item in value]
    return TIME.sub("<time>", value).replace(url, "<server>") if isinstance(value, str) else value
