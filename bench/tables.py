"""The findings of a benchmark: a table for a terminal or a page, and the same as plain values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.table import Table


@dataclass(frozen=True)
class Goal:
    """A figure that must reach a limit, or stay below it."""

    what: str
    measured: float
    limit: float
    at_least: bool = False
    """The limit is a minimum, not a maximum."""
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    @property
    def cells(self) -> tuple[str, str, str, str]:
        sign = "≥" if self.at_least else "≤"
        return (
            self.what,
            f"{figure(self.measured)}{self.unit}",
            f"{sign} {self.limit:g}{self.unit}",
            "met" if self.met else "missed",
        )


@dataclass
class Finding:
    """One table. A cell is shown as it is; `data` holds the same as numbers."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)

    def table(self) -> Table:
        table = Table(title=self.title, title_justify="left", caption_justify="left")
        table.caption = "\n".join(self.notes) or None
        for n, column in enumerate(self.columns):
            table.add_column(column, justify="right" if n else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """The table as a page has it."""
        lines = [f"**{self.title}**", "", *markdown_rows(self.columns, self.rows)]
        if self.notes:
            lines += ["", *self.notes]
        return "\n".join(lines)


def markdown_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]


def figure(value: float) -> str:
    """Three significant digits: 0.87, 3.12, 48.1, 1203."""
    size = abs(value)
    return f"{value:.2f}" if size < 10 else f"{value:.1f}" if size < 100 else f"{value:.0f}"


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


def ranged(values: Sequence[float]) -> str:
    """The median of the rounds, with the lowest and the highest."""
    if not values:
        return ""
    return f"{figure(middle(values))} ({figure(min(values))}–{figure(max(values))})"


def quotients(these: Sequence[float], those: Sequence[float]) -> list[float]:
    """The ratios round by round, since both had the same machine then; rounds without a divisor are left out."""
    return [mine / other for mine, other in zip(these, those, strict=True) if other]
