"""What the routes of token counts answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from uuid import UUID

from slackwater.errors import Invalid, NotFound
from slackwater.web.openapi.pieces import Operation, Response, Shape

TAG = "What the calls of models have cost."


class UsedByModel(Shape):
    """What was used of a model."""

    tokens: int
    runs: int


class UsedByCaller(Shape):
    """Tokens by who has called the models."""

    lead_agent: int
    subagent: int
    middleware: int


class ThreadUsage(Shape):
    """What the runs of a thread have used."""

    thread_id: UUID
    total_tokens: int
    total_input_tokens: int
    total_output_tokens: int
    total_runs: int
    by_model: dict[str, UsedByModel]
    by_caller: UsedByCaller


class DailyUsage(Shape):
    """What was used of a model on a day."""

    day: date
    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int
    """Of the input, what was read from a cache of the provider's."""
    reasoning_tokens: int
    """Of the output, what was thought and not said."""
    repeated_tokens: int
    """Of all, those of calls that a run had made before it was cut."""
    cost: float | None
    """By list prices; null for models without one, or without the extra `prices`."""


class UsageByDay(Shape):
    """What the caller has used, by day and model."""

    currency: str
    total_tokens: int
    data: list[DailyUsage]


_THREAD = "01a21fba-8676-76a5-a0d9-51611efa800d"

OPERATIONS: Mapping[str, Operation] = {
    "GET /api/threads/{thread_id}/token-usage": Operation(
        id="get_thread_usage",
        responses={
            200: Response(
                "The sums.",
                ThreadUsage,
                {
                    "thread_id": _THREAD,
                    "total_tokens": 15,
                    "total_input_tokens": 10,
                    "total_output_tokens": 5,
                    "total_runs": 1,
                    "by_model": {"gpt-5-mini": {"tokens": 15, "runs": 1}},
                    "by_caller": {"lead_agent": 15, "subagent": 0, "middleware": 0},
                },
            )
        },
        parameters={"include_active": {"description": "Count runs that have not ended, too."}},
        errors=(NotFound("Thread not found"), Invalid("Invalid thread ID: must be a UUID")),
    ),
    "GET /api/usage": Operation(
        id="get_usage",
        responses={
            200: Response(
                "The sums.",
                UsageByDay,
                {
                    "currency": "USD",
                    "total_tokens": 15,
                    "data": [
                        {
                            "day": "2026-11-28",
                            "model": "gpt-5-mini",
                            "calls": 1,
                            "input_tokens": 10,
                            "output_tokens": 5,
                            "total_tokens": 15,
                            "cached_tokens": 0,
                            "reasoning_tokens": 0,
                            "repeated_tokens": 0,
                            "cost": 0.0000125,
                        }
                    ],
                },
            )
        },
        parameters={"days": {"description": "How many days, today included.", "example": 30}},
        errors=(Invalid("days: Input should be less than or equal to 366"),),
    ),
}
