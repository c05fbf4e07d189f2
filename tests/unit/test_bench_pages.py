"""The figures of the benchmarks find their places in the documents, and nothing else there changes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import capacity, page
from bench.__main__ import NAMES, ON_REQUEST
from bench.tables import Finding, Goal, quotients, ranged

PAGE = """# Figures

<!-- bench goals -->

| what | measured | goal |  | on |
| --- | --- | --- | --- | --- |
| exit | 485 ms | ≤ 150 ms | missed | Monday |
| first event | 5.00 ms | ≤ 4 ms | missed | Monday |

<!-- /bench -->

What it is.

<!-- bench floor -->
old
<!-- /bench -->

<!-- bench mem -->
kept
<!-- /bench -->
"""


def test_a_benchmark_replaces_its_own_place_and_its_own_goals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    performance, scaling = tmp_path / "performance.md", tmp_path / "scaling.md"
    performance.write_text(PAGE)
    scaling.write_text("No place.\n")
    monkeypatch.setattr(page, "PAGES", (performance, scaling))
    finding = Finding(
        "Stops",
        ("", "ms"),
        [("100 runs", r"90 (80–99) \1")],
        notes=["Six rounds."],
        goals=[Goal("exit", 90, 150, unit=" ms"), Goal("speed", 2.5, 2.2, at_least=True, unit=" times")],
    )

    page.write("floor", [finding], "Two cores.", "Tuesday")

    expected = PAGE.replace(
        "old\n",
        "\n**Stops**\n\n|  | ms |\n| --- | --- |\n| 100 runs | 90 (80–99) \\1 |\n\nSix rounds.\n\n_Two cores._\n\n",
    )
    expected = expected.replace("485 ms | ≤ 150 ms | missed | Monday", "90.0 ms | ≤ 150 ms | met | Tuesday")
    expected = expected.replace(
        "| missed | Monday |\n\n",
        "| missed | Monday |\n| speed | 2.50 times | ≥ 2.2 times | met | Tuesday |\n\n",
    )
    assert performance.read_text() == expected
    assert scaling.read_text() == "No place.\n"
    # and again, it is the same
    page.write("floor", [finding], "Two cores.", "Tuesday")
    assert performance.read_text() == expected


def test_every_benchmark_has_one_place_in_the_pages() -> None:
    places = [name for path in page.PAGES for name in re.findall(r"<!-- bench (\w+) -->\n", path.read_text())]

    assert sorted(places) == sorted({*NAMES, *ON_REQUEST, page.GOALS, "capacity"} - {"profile"})
    for path in page.PAGES:
        assert path.read_text().count("<!-- bench ") == path.read_text().count("<!-- /bench -->")


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("exit", 150, 150), True),
        (Goal("exit", 151, 150), False),
        (Goal("speed", 2.2, 2.2, at_least=True), True),
        (Goal("speed", 2.1, 2.2, at_least=True), False),
        (Goal("speed", float("nan"), 2.2, at_least=True), False),
    ],
)
def test_a_goal_is_met_at_its_limit(goal: Goal, met: bool) -> None:
    assert goal.met is met


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    assert quotients([2.0, 9.0, 4.0], [1.0, 3.0, 0.0]) == [2.0, 3.0]
    assert ranged([3.0, 1.0, 200.0]) == "3.00 (1.00–200)"
    assert ranged([]) == ""


def test_what_a_core_carries_is_calculated_from_what_was_measured() -> None:
    floor = Finding("", ())
    floor.data = {
        "five nodes, 16 clients, server": {"cpu_ms_per_run": {"process": 7.0, "postgres": 3.5}},
        "five nodes, 1 client, server": {
            "cpu_ms_per_run": {"process": 9.0, "postgres": 4.0},
            "ms": {"p50": 20.0},
        },
    }

    carries = capacity.run({"floor": [floor]})

    # 0.7 of a core: 100 runs of 7 ms a second, and 200 of 3.5 ms
    assert carries.rows == [("runs of five nodes, 1 kB", "7000", "3500", "100", "200", "2.00")]
    assert "50.0 runs of five nodes" in carries.notes[-1]
    assert capacity.run({}).rows == []


def test_an_empty_place_is_filled_and_nothing_after_it_is_lost() -> None:
    text = "<!-- bench floor -->\n<!-- /bench -->\n\nkept\n\n<!-- bench mem -->\nold\n<!-- /bench -->\n"

    filled = page.fill(text, "floor", "new")

    assert filled == text.replace("floor -->\n", "floor -->\n\nnew\n\n")
