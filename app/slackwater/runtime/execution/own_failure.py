"""A graph's own word that it has failed, although it has finished: the mark that DeerFlow's agents set on the answer that they give when their
model cannot be reached. Such a run is a success to LangGraph and to its API; the gateway shows it as the error that it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

MARK = "deerflow_error_fallback"
_MARKED = f'"{MARK}":true'.encode()


def own_failure(values: bytes | None) -> dict[str, str] | None:
    """The error that the last answer in a run's final values says it stands for; None if it stands for none."""
    if values is None or _MARKED not in values:
        return None
    state = orjson.loads(values)
    messages = state.get("messages") if isinstance(state, dict) else None
    for message in reversed(messages if isinstance(messages, list) else []):
        kind = message.get("type") if isinstance(message, dict) else None
        if kind == "ai":
            more = message.get("additional_kwargs") or {}
            return (
                {"error": "GraphFailure", "message": _text(more, message)} if more.get(MARK) is True else None
            )
        if kind == "human":
            return None
    return None


def _text(more: Mapping[str, Any], message: Mapping[str, Any]) -> str:
    detail = more.get("error_detail") or more.get("error_reason") or message.get("content")
    return detail if isinstance(detail, str) else "The model did not answer."
