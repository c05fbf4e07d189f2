"""The rules of token counts: what is added up, and what a run shows of it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from slackwater.errors import NotFound
from slackwater.identity.custom import access
from slackwater.identity.principal import Principal
from slackwater.kit.ids import parse_canonical
from slackwater.kit.tokens import Tokens, model_of
from slackwater.postgres.pool import Database
from slackwater.workspace.usage import prices, queries

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

    from slackwater.services import Services

log = logging.getLogger(__name__)

Counters = Mapping[str, int]

_COUNTED = {
    "total_input_tokens": "input",
    "total_output_tokens": "output",
    "total_tokens": "total",
    "llm_call_count": "calls",
    "lead_agent_tokens": "lead_agent",
    "subagent_tokens": "subagent",
    "middleware_tokens": "middleware",
    "message_count": "messages",
}
"""What a run shows, and the columns that it is read from."""

NOTHING: Counters = dict.fromkeys(_COUNTED, 0)
"""What a run shows that has called no model yet."""


async def of_thread(
    services: Services, principal: Principal, thread_id: str, *, include_active: bool
) -> dict[str, Any]:
    """The sums of the thread's ended runs, and of those that go on if that is asked for. Raises NotFound."""
    thread = parse_canonical(thread_id, "thread")
    reader = await access.to_thread(services, principal, "read", thread)
    rows = await queries.of_thread(services.database, reader.owner, thread, active=include_active)
    if rows is None:
        raise NotFound("Thread not found")
    (whole,) = (row for row in rows if row["of"] == queries.OF_ALL)
    callers = {row["kind"]: row["total"] for row in rows if row["of"] == queries.OF_KIND}
    return {
        "thread_id": str(thread),
        "total_tokens": whole["total"],
        "total_input_tokens": whole["input"],
        "total_output_tokens": whole["output"],
        "total_runs": whole["runs"],
        "by_model": {
            row["model"]: {"tokens": row["total"], "runs": row["runs"]}
            for row in rows
            if row["of"] == queries.OF_MODEL
        },
        "by_caller": {kind: callers.get(kind, 0) for kind in ("lead_agent", "subagent", "middleware")},
    }


async def counters(database: Database, run_ids: Collection[UUID]) -> Mapping[UUID, Counters]:
    """What each run shows of its calls and messages, in one statement; the caller may see these runs."""
    return {
        row["run_id"]: {name: row[column] for name, column in _COUNTED.items()}
        for row in (await queries.of_runs(database, run_ids) if run_ids else ())
    }


async def by_day(services: Services, principal: Principal, days: int) -> dict[str, Any]:
    """The caller's sums by day and model, with what they cost as far as prices are known."""
    rows = await queries.by_day(services.database, principal.owner, days)
    data = [
        {
            "day": row["day"].isoformat(),
            "model": row["model"],
            "calls": row["calls"],
            "input_tokens": row["input"],
            "output_tokens": row["output"],
            "total_tokens": row["total"],
            "cached_tokens": row["cached"],
            "reasoning_tokens": row["reasoning"],
            "repeated_tokens": row["repeated"],
            "cost": cost,
        }
        for row, cost in zip(rows, await prices.of(rows), strict=True)
    ]
    return {"currency": "USD", "total_tokens": sum(row["total_tokens"] for row in data), "data": data}


async def book(
    database: Database, owner: str, thread_id: UUID, caller: str, asked: str, answer: AIMessage
) -> None:
    """Count a call of a model outside of runs, on the model that answered, if it says what it has used.

    What cannot be counted costs nobody the answer.
    """
    used = answer.usage_metadata
    if not used:
        return
    try:
        model = model_of(answer.response_metadata, asked)
        await queries.book(database, owner, thread_id, model, caller, Tokens.of(used))
    except Exception as error:  # whatever a provider's package says of its tokens, or the database is away
        log.warning(
            "the tokens of a model's call are not counted",
            extra={"event": "usage.lost", "model": asked, "error": type(error).__name__},
        )
