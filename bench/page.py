"""Writes the figures into the pages: each benchmark has a place between `<!-- bench NAME -->` and `<!-- /bench -->`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bench.lab import ROOT
from bench.tables import Finding, Goal, markdown_rows

PAGES = (ROOT / "docs/performance.md", ROOT / "docs/scaling.md")
GOALS = "goals"
"""The place for all goals. Goals that were not measured again stay as they are."""
GOAL_COLUMNS = ("what", "measured", "goal", "", "on")


def write(name: str, findings: Sequence[Finding], circumstances: str, on: str) -> None:
    """Put a benchmark's findings and its goals, measured on the day `on`, into the pages."""
    reached = [goal for finding in findings for goal in finding.goals]
    for path in PAGES:
        text = fill(path.read_text(), name, of_findings(findings, circumstances))
        path.write_text(fill(text, GOALS, goals(text, reached, on)))


def place(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- bench {name} -->\n)(.*?)(?=<!-- /bench -->)", re.DOTALL)


def fill(text: str, name: str, content: str) -> str:
    """The page with new content in the place of this name, if it has one."""
    return place(name).sub(lambda _: f"\n{content}\n\n", text, count=1)


def of_findings(findings: Iterable[Finding], circumstances: str) -> str:
    """The content for the place of a benchmark."""
    return "\n\n".join((*(finding.markdown() for finding in findings), f"_{circumstances}_"))


def goals(text: str, reached: Sequence[Goal], on: str) -> str:
    """The content for the place of the goals: the lines in the page, updated by the goals that were measured."""
    found = place(GOALS).search(text)
    lines = {
        cells[0]: cells for cells in map(_cells, found[1].splitlines() if found else ()) if len(cells) > 1
    }
    lines = {what: cells for what, cells in lines.items() if what not in ("---", GOAL_COLUMNS[0])}
    lines |= {goal.what: [*goal.cells, on] for goal in reached}
    return "\n".join(markdown_rows(GOAL_COLUMNS, list(lines.values())))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
