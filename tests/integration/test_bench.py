"""Every benchmark works from end to end. How fast anything is is nobody's business here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from math import isfinite

import pytest
from rich.progress import Progress

from bench.lab import AGAINST, ROOT, THIS, Lab, Tree, laboratory
from bench.tables import Finding

pytestmark = pytest.mark.patient


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with laboratory(Progress(disable=True), quick=True) as lab:
        yield lab


def measured(name: str, lab: Lab) -> list[Finding]:
    findings: list[Finding] = import_module(f"bench.{name}").run(lab)
    for finding in findings:
        assert finding.rows
        assert {len(row) for row in finding.rows} == {len(finding.columns)}
        assert all(isfinite(number) for number in numbers_of(finding.data)), finding.data
        assert all(isfinite(goal.measured) for goal in finding.goals), finding.goals
    return findings


def numbers_of(data: object) -> Iterator[float]:
    """All that a finding holds, however deep."""
    if isinstance(data, dict):
        data = list(data.values())
    if isinstance(data, list):
        for item in data:
            yield from numbers_of(item)
    elif isinstance(data, (int, float)):
        yield data


SHORT = ("stop", "profile")
"""The others take minutes, even when they measure nothing: `python -m bench --quick` runs them all."""


@pytest.mark.parametrize("name", SHORT)
def test_a_benchmark_runs_from_end_to_end(lab: Lab, name: str) -> None:
    findings = measured(name, lab)

    assert findings


@pytest.mark.parametrize("name", ["mem"])
def test_another_source_tree_takes_turns_with_this_one(lab: Lab, name: str) -> None:
    with_both = replace(lab, trees=(THIS, Tree(AGAINST, ROOT)))

    (finding,) = measured(name, with_both)

    # THEN both have a line for each case, and this one's says how the other compares
    sides = [row[1] for row in finding.rows]
    assert sides.count(AGAINST) == sides.count(THIS.name) > 0
    column = next(n for n, title in enumerate(finding.columns) if title.endswith(f"times {AGAINST}"))
    assert all(
        bool(row[column]) == (row[1] == THIS.name) for row in finding.rows if row[1] in (THIS.name, AGAINST)
    )
