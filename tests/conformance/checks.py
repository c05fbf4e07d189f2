"""The black-box checks that the official server passes, and how they are run against a server of ours.

They lie beside the checkout (`../shared/conformance`, or SLACKWATER_CONFORMANCE), not in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.server import ROOT

CONFORMANCE = Path(os.environ.get("SLACKWATER_CONFORMANCE", ROOT.parent / "shared" / "conformance"))
PROJECT = CONFORMANCE / "project"

MISSING = not CONFORMANCE.exists() and not os.environ.get("CI")
"""Nothing to run here. Where changes are judged, that is a failure."""


async def run(url: str, folder: Path, *, jobs: int) -> dict[str, str | None]:
    """Run them all, `jobs` at a time: why each has failed, or None if it has passed.

    One of them waits for the next minute to begin.
    """
    listing = await _runner("--list")
    names = {line.split()[1] for line in listing.splitlines() if line[:2] in ("a ", "b ")}
    assert len(names) > 100, listing
    report = folder / "report.json"
    said = await _runner(
        *("--url", url, "--jobs", str(jobs), "--only", ",".join(sorted(names)), "--json", str(report))
    )
    assert report.exists(), said
    checks = {check["name"]: check for check in json.loads(report.read_text())["checks"]}
    return {name: None if checks[name]["passed"] else checks[name]["reason"] or "?" for name in names}


def judge(
    checks: Mapping[str, str | None], ruled_out: Mapping[str, str], chance: Mapping[str, str] | None = None
) -> None:
    """All have passed but those that cannot: and these must not, so that the list of them stays as short as it can be.

    `chance`: what the moment decides.
    """
    allowed = {*ruled_out, *(chance or {})}
    failed = {name: why for name, why in checks.items() if why is not None and name not in allowed}
    assert not failed, failed
    passed = [name for name in ruled_out if checks[name] is None]
    assert not passed, f"these pass by now: take them off the list: {passed}"


async def _runner(*arguments: str) -> str:
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
