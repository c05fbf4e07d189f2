"""A pytest plugin that fails the session unless the code which executes and stops runs is covered, branches included.

Being measured doubles the CPU time of a test, so only those tests are that are there to execute this code. Servers that
tests start do not count: what a drill does to a process with signals, the tests of the runtime do to it within theirs.
"""

from __future__ import annotations

import importlib
import io
import os
import pkgutil
from pathlib import Path

import coverage
import pytest

ROOT = Path(__file__).resolve().parent.parent
MEASURED_BY = tuple(
    ROOT / "tests" / folder
    for folder in (
        "unit/runtime",
        "model",
        *(f"integration/{place}" for place in ("runtime", "store", "threads", "workspace")),
    )
)
GOAL = 95.0
"""Required coverage of lines and branches, in percent."""


class Meter:
    """Measures a process that runs tests: what it measures as it is imported, and those tests; not how tests are collected."""

    def __init__(self) -> None:
        self._coverage = _coverage()
        self._measures = False
        self._measure(True)

    def _measure(self, wanted: bool) -> None:
        if wanted and not self._measures:
            self._coverage.start()
        elif self._measures and not wanted:
            self._coverage.stop()
        self._measures = wanted

    def pytest_sessionstart(self) -> None:
        """Import what is measured: a test that is not measured must not be the first that does."""
        import slackwater.runtime

        for module in pkgutil.walk_packages(slackwater.runtime.__path__, "slackwater.runtime."):
            importlib.import_module(module.name)
        importlib.import_module("slackwater.lifespan")
        self._measure(False)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._measure(any(item.path.is_relative_to(folder) for folder in MEASURED_BY))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        self._measure(False)
        self._coverage.save()


class Gate:
    """Combines the measurements of all processes once they have ended."""

    def __init__(self) -> None:
        _coverage().erase()
        self._report = ""

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        everything = _coverage()
        everything.combine()
        text = io.StringIO()
        total = everything.report(show_missing=True, skip_covered=True, file=text)
        met = total >= GOAL
        if not met and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._report = f"{text.getvalue()}\n{'' if met else 'NOT ENOUGH: '}{total:.1f} % are covered, the goal is {GOAL:g} %."

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("branch coverage of what executes and stops runs")
        terminalreporter.write_line(self._report)


def _coverage() -> coverage.Coverage:
    return coverage.Coverage(data_file=str(ROOT / ".coverage"), config_file=str(ROOT / "pyproject.toml"))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    gate = None if "PYTEST_XDIST_WORKER" in os.environ else Gate()
    early_config.pluginmanager.register(Meter(), "coverage-meter")
    if gate is not None:
        early_config.pluginmanager.register(gate, "coverage-gate")  # after the meter: the last one ends last
