"""docs/observability.md lists what there is: each metric, and each event of the log."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from slackwater.telemetry.metrics import Metric, MetricKind

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "observability.md"

UNITS = {MetricKind.COUNTER: "count", MetricKind.GAUGE: "gauge", MetricKind.DURATION: "ms"}


def rows(heading: str) -> Iterator[list[str]]:
    """The rows of the first table under a heading."""
    section = DOCUMENT.read_text().partition(f"\n## {heading}\n")[2].partition("\n#")[0]
    for line in section.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("| ").split(" | ")]


def test_the_table_of_metrics_is_the_enum() -> None:
    table = [(name.strip("`"), exposed.strip("`"), unit) for name, exposed, unit, _ in rows("Metrics")]

    assert table == [(metric.label, metric.exposed, UNITS[metric.kind]) for metric in Metric]


def logged() -> set[str]:
    """The events that the code logs; what is put into them at run time is a `*`."""
    found = set()
    for path in (*(ROOT / "app" / "slackwater").rglob("*.py"), *(ROOT / "handler").rglob("*.py")):
        if path.is_relative_to(ROOT / "app" / "slackwater" / "emulator"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "event":
                        found.add(pattern_of(value))
    return {event for event in found if re.fullmatch(r"[a-z_*]+(\.[a-z_*]+)+", event)}


def pattern_of(value: ast.expr) -> str:
    if isinstance(value, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in value.values)
    return str(value.value) if isinstance(value, ast.Constant) else ""


def test_the_table_of_events_is_what_the_code_logs() -> None:
    documented = {event for first, *_ in rows("Logs") for event in re.findall(r"`([^`]+)`", first)}
    code = logged()

    assert [event for event in code if not any(fnmatch(name, event) for name in documented)] == []
    assert [name for name in documented if not any(fnmatch(name, event) for event in code)] == []
    assert len(code) > 20


def test_every_line_has_an_event() -> None:
    """Calls of a logger's methods without `extra`."""
    levels = {"info", "warning", "error", "exception", "log"}
    bare = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (*(ROOT / "app" / "slackwater").rglob("*.py"), *(ROOT / "handler").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in ("log", "logger")
        and node.func.attr in levels
        and not any(keyword.arg == "extra" for keyword in node.keywords)
    ]

    assert bare == []
