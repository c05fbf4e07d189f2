"""A pytest plugin that fails the session unless the code which executes and stops runs is covered, branches included.

Servers that tests start do not count: being measured doubles their CPU time, and what a drill does to a process with
signals, the tests of the runtime do to it within theirs.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import coverage
import pytest

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ["app/slackwater/runtime/*", "app/slackwater/lifespan.py"]
GOAL = 95.0
"""Required coverage of lines and branches, in percent."""


class Meter:
    """Measures each process that runs tests, from before the first import of `slackwater` until after its last test."""

    def __init__(self) -> None:
        self._coverage = _coverage()
        self._coverage.start()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
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
        total = everything.report(include=MEASURED, show_missing=True, skip_covered=True, file=text)
        met = total >= GOAL
        if not met and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._report = f"{text.getvalue()}\n{'' if met else 'NOT ENOUGH: '}{total:.1f} % are covered, the goal is {GOAL:g} %."

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section(f"branch coverage of {' and '.join(MEASURED)}")
        terminalreporter.write_line(self._report)


def _coverage() -> coverage.Coverage:
    return coverage.Coverage(data_file=str(ROOT / ".coverage"), config_file=str(ROOT / "pyproject.toml"))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    gate = None if "PYTEST_XDIST_WORKER" in os.environ else Gate()
    early_config.pluginmanager.register(Meter(), "coverage-meter")
    if gate is not None:
        early_config.pluginmanager.register(gate, "coverage-gate")  # after the meter: the last one ends last
