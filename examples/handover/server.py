"""One `slackwater serve` process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from pathlib import Path
from typing import Any

READY = "slackwater.ready url="
NOT_OURS = ("SLACKWATER_", "DATABASE_URI", "POSTGRES_URI", "DATABASE_URL", "PYTHONPATH")
"""Prefixes of variables for the user's own servers, which must not reach the demo's."""


class ServerDied(Exception):
    """The server did not start."""


class Server:
    """A server that is started, stopped with SIGTERM, and has a drain report."""

    def __init__(
        self, name: str, project: Path, port: int, folder: Path, settings: Mapping[str, str]
    ) -> None:
        self.name = name
        self.pid = 0
        self.url = ""
        self.seconds_to_start = 0.0
        self.exit_code: int | None = None
        self._project = project
        self._port = port
        self._folder = folder
        self._settings = settings
        self._log = folder / f"server-{name}.log"
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it serves. Raises ServerDied."""
        began = time.monotonic()
        environ = {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)}
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "slackwater", "serve"),
                *("--project", str(self._project), "--port", str(self._port)),
                cwd=self._folder,
                env={**environ, **self._settings, "SLACKWATER_LOG_FORMAT": "json"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops its servers in order
            )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if line.decode().startswith(READY):
                self.url = line.decode().removeprefix(READY).strip()
                self.seconds_to_start = time.monotonic() - began
                return
        await self._process.wait()
        raise ServerDied(f"Process {self.name} did not start:\n{self._log.read_text()[-2000:]}")

    async def stop(self) -> float:
        """Send SIGTERM once and wait for the exit; the seconds that it took."""
        began = time.monotonic()
        if self._process is not None:
            if self._process.returncode is None:
                self._process.send_signal(signal.SIGTERM)
            self.exit_code = await self._process.wait()
        return time.monotonic() - began

    def kill(self) -> None:
        """Kill it, if everything else has failed."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def drain_report(self) -> dict[str, Any]:
        """The report that it logged at its end; empty if there is none."""
        for line in self._log.read_text().splitlines():
            if '"drain.report"' in line:
                report = json.loads(line)
                return {
                    name: report.get(name) for name in ("event", "reason", "budget_ms", "took_ms", "runs")
                }
        return {}
