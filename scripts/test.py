"""Runs all checks and tests: python3 scripts/test.py

Makes a private virtual environment in .test/ when it runs for the first time. Arguments go to pytest, and then only
pytest runs: python3 scripts/test.py tests/unit -k budget
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bootstrap import ROOT, environment, need_python
from provide import Providing

CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("mypy", "examples/handover", "examples/digest/digest", "examples/demo.py", "scripts"),
    ("lint-imports",),
)
SOURCES = ("examples", "examples/digest", "scripts")
"""Where mypy finds modules that are not installed."""
PROCESSES_PER_CORE = 2
PYTEST_SECONDS = 2700
CLEANUP_SECONDS = 30
HANGING_SECONDS = 240
"""The stacks of a test that takes longer are printed."""


def main(arguments: list[str]) -> int:
    need_python()
    # A minute's work, which the environment and the checks take longer than.
    providing = None if arguments else Providing()
    if providing is not None:
        provide_peer()
    python = environment(ROOT / ".test" / "venv", ("dev",))
    if providing is None:
        return run([str(python), "-m", "pytest", *arguments], python)
    with compiling(python):
        failed = [check for check in CHECKS if run([str(python.with_name(check[0])), *check[1:]], python)]
    providing.wait()
    status = run(
        [
            *(str(python), "-m", "pytest", "-p", "scripts.coverage_gate"),
            *("-o", f"faulthandler_timeout={HANGING_SECONDS}"),
            # Processes of their own, each with a database server of its own: more than cores, as most tests wait most of
            # the time for leases, deadlines and processes.
            *("-n", str(round(PROCESSES_PER_CORE * (os.cpu_count() or 1))), "--dist", "worksteal"),
        ],
        python,
    )
    for check in failed:
        print(f"FAILED: {' '.join(check)}", flush=True)
    return status or bool(failed)


def run(command: list[str], python: Path) -> int:
    """Run a check at the root of the repository; its exit code."""
    print(f"\n$ {' '.join([Path(command[0]).name, *command[1:]])}", flush=True)
    began = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, env=variables(python), stdin=subprocess.DEVNULL) as process:
        try:
            status = process.wait(PYTEST_SECONDS)
        except (KeyboardInterrupt, subprocess.TimeoutExpired) as reason:
            # Let pytest stop the servers that it has started, and report how far it came.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(CLEANUP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            if isinstance(reason, KeyboardInterrupt):
                raise
            print(f"It did not end within {PYTEST_SECONDS} s.", flush=True)
            return 1
    if "pytest" not in command:  # whose own last line says it
        print(
            f"{'ok' if status == 0 else f'exit code {status}'}, {time.monotonic() - began:.1f} s", flush=True
        )
    return status


@contextmanager
def compiling(python: Path) -> Iterator[None]:
    """Compile the tests and what they import meanwhile, once: each process that runs tests would do it anew.

    With pytest's own compiler, which takes longest; what it has to complain about, the tests will.
    """
    with subprocess.Popen(
        [str(python), "-m", "pytest", "--collect-only", "-q"],
        cwd=ROOT,
        env=variables(python),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield
        except BaseException:
            process.kill()
            raise


def variables(python: Path) -> dict[str, str]:
    """The environment of a check."""
    environ = {
        **os.environ,
        # Tests must start the programs of this environment, not those of another one that is active.
        "PATH": os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)]),
        "MYPYPATH": os.pathsep.join(SOURCES),
    }
    # With it, as some images have it, each of the hundreds of processes compiles everything that it imports.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return environ


def provide_peer() -> None:
    """Install the official server in the background; the test that needs it waits for it, or reports why it is missing."""
    subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "peer.py")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
