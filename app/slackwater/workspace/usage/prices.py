"""What tokens cost, by the list prices of the package genai-prices, if that is installed (`slackwater[prices]`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time
from typing import Any

from slackwater.kit.imports import run_in_import_thread
from slackwater.postgres.pool import Row

Price = Callable[[Row], float | None]


async def of(rows: Sequence[Row]) -> list[float | None]:
    """The price of each row in US dollars, on its day; None where the model is not in the list."""
    if not rows:
        return []
    price = await run_in_import_thread(_price)
    if price is None:
        return [None] * len(rows)
    return await asyncio.to_thread(lambda: [price(row) for row in rows])


def _price() -> Price | None:
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None

    def price(row: Row) -> float | None:
        usage = Usage(
            input_tokens=row["input"],
            output_tokens=row["output"],
            # More were read from a cache than were sent at all: the list refuses that.
            cache_read_tokens=min(row["cached"], row["input"]),
        )
        at: Any = datetime.combine(row["day"], time(12), UTC)
        try:
            return float(calc_price(usage, row["model"], genai_request_timestamp=at).total_price)
        except (LookupError, ValueError):
            return None

    return price
