"""What a benchmark has found, as a table for people and as plain values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.table import Table


@dataclass
class Finding:
    """One table. A cell is shown as it is; `data` holds the same as numbers."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    def table(self) -> Table:
        table = Table(title=self.title, title_justify="left", caption_justify="left")
        table.caption = "\n".join(self.notes) or None
        for n, column in enumerate(self.columns):
            table.add_column(column, justify="right" if n else "left")
        for row in self.rows:
            table.add_row(*row)
        return table


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; `share` is 0.95 for p95. NaN of nothing."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def spread(values: Sequence[float]) -> dict[str, float]:
    """p50, p95 and the largest, for JSON."""
    return {
        "count": len(values),
        "p50": round(percentile(values, 0.5), 3),
        "p95": round(percentile(values, 0.95), 3),
        "max": round(max(values, default=float("nan")), 3),
    }


def middle(values: Sequence[float]) -> float:
    """The median of the rounds."""
    return median(values) if values else float("nan")


def goal(met: bool) -> str:
    return "[green]met[/]" if met else "[red]missed[/]"
