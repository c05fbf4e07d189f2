"""Where the server's CPU time goes during the first case of benchmark `floor`."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from bench.companion import Companion
from bench.floor import CASES
from bench.lab import Lab, Server
from bench.sides import ENV
from bench.tables import Finding

TOP = 30
PARTS = (
    ("/app/slackwater/runtime/", "app/slackwater/runtime"),
    ("/app/slackwater/postgres/", "app/slackwater/postgres"),
    ("/app/slackwater/", "app/slackwater, the rest"),
    ("/psycopg_pool/", "psycopg_pool"),
    ("/psycopg/", "psycopg"),
    ("/langgraph/checkpoint/", "langgraph, checkpoints"),
    ("/langgraph/", "langgraph"),
    ("/langchain_core/", "langchain_core"),
    ("/fastapi/", "fastapi, starlette"),
    ("/starlette/", "fastapi, starlette"),
    ("/pydantic/", "pydantic"),
    ("/uvicorn/", "uvicorn"),
)
"""A sample belongs to the innermost frame that is in one of these."""

WRITE_SECONDS = 10
_FRAME = re.compile(r"(?P<name>.*) \((?P<file>.*)\)$")


def run(lab: Lab) -> list[Finding]:
    (case, _), seconds = CASES[0], lab.seconds(15)
    samples = lab.folder / "samples"
    server = lab.launch(lab.database(), ENV, command=(sys.executable, "-m", "bench.sampled", str(samples)))
    try:
        server.until_ready()
        with Companion("bench.client") as client:
            for phase in lab.rounds("profile", (1, seconds)):
                if phase == seconds:
                    server.process.send_signal(signal.SIGUSR1)
                client.ask(
                    "closed",
                    urls=[server.url],
                    path=case.path,
                    body=case.body,
                    clients=case.clients,
                    seconds=phase,
                )
        _collect(server, samples)
        server.terminate()
    finally:
        lab.dispose(server)
    return _shares(case.name, samples.read_text().splitlines())


def _collect(server: Server, samples: Path) -> None:
    server.process.send_signal(signal.SIGUSR2)
    until = time.monotonic() + WRITE_SECONDS
    while not samples.exists():
        if time.monotonic() > until:
            raise RuntimeError("the server did not write its samples")
        time.sleep(0.05)


def _shares(what: str, lines: Iterable[str]) -> list[Finding]:
    parts: Counter[str] = Counter()
    own: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        parts[_part_of(frames)] += int(count)
        own[_short(frames[0])] += int(count)
        inclusive.update({_short(frame): int(count) for frame in frames})
    total = sum(own.values())
    return [
        _table(f"{what}: the server's CPU time by innermost part ({total} samples)", parts, total),
        _table("By function, its own", own, total),
        _table("By function, with what it called", inclusive, total),
    ]


def _part_of(frames: Iterable[str]) -> str:
    for frame in frames:
        for path, part in PARTS:
            if path in frame:
                return part
    return "python, uvloop"


def _short(frame: str) -> str:
    found = _FRAME.match(frame)
    if not found:
        return frame
    return f"{found['name']} ({'/'.join(Path(found['file']).parts[-2:])})"


def _table(title: str, counts: Counter[str], total: int) -> Finding:
    top = counts.most_common(TOP)
    return Finding(
        title,
        ("", "share"),
        [(name, f"{count / total:.1%}") for name, count in top],
        data={name: round(count / total, 4) for name, count in top},
    )
