"""The black-box checks that the official server passes, run against a real server process.

They lie beside the checkout (`../shared/conformance`, or SLACKWATER_CONFORMANCE), not in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.support.server import ROOT, fleet_of

CONFORMANCE = Path(os.environ.get("SLACKWATER_CONFORMANCE", ROOT.parent / "shared" / "conformance"))

LATER = {}
"""Checks of what is not served yet. A check that is here and passes fails the test, so the list cannot grow stale."""

SLOW = {"crons.fires_stateless"}
"""Waits for a minute to pass; tests/integration/crons sets the date instead."""

CI = bool(os.environ.get("CI"))


def is_later(name: str) -> bool:
    return any(name.startswith(prefix) for prefix in LATER)


@pytest.mark.drill
@pytest.mark.skipif(not CONFORMANCE.exists() and not CI, reason=f"no checks in {CONFORMANCE}")
async def test_every_check_of_what_is_served_passes(database_uri: str, tmp_path: Path) -> None:
    # GIVEN a server with the project of the checks
    env = {"SLACKWATER_GRACE_SECONDS": "25", "SLACKWATER_LEASE_SECONDS": "30"}
    async with fleet_of(database_uri, tmp_path, CONFORMANCE / "project", env) as fleet:
        # Its graph `fail` is there to fail.
        (server,) = await fleet.start(tolerated=("Traceback",))
        # WHEN all checks but the one that waits for a minute to pass run
        listing = await _conformance("--list")
        names = [line.split()[1] for line in listing.splitlines() if line[:2] in ("a ", "b ")]
        wanted = [name for name in names if name not in SLOW]
        report = tmp_path / "report.json"
        await _conformance(
            "--url", server.url, "--jobs", "4", "--only", ",".join(wanted), "--json", str(report)
        )
    # THEN they pass, apart from those of later work, which do not
    checks = {
        check["name"]: check for check in json.loads(report.read_text())["checks"] if check["name"] in wanted
    }
    failed = {
        name: check["reason"] for name, check in checks.items() if not check["passed"] and not is_later(name)
    }
    assert not failed
    assert len(checks) > 100
    done = [name for name, check in checks.items() if check["passed"] and name in LATER]
    assert not done, "these pass by now: take them off the list"


async def _conformance(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "ignore", str(CONFORMANCE / "conformance.py"), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # The checks' own warnings are not ours.
        env={key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")},
    )
    out, _ = await process.communicate()
    return out.decode()
