"""The pause that a hand-over makes: from the end of the drained superstep to the start of the next, elsewhere.

Two replicas on one database. One has the runs and gets a SIGTERM; the other goes on with them. The nodes say when they
start and end; both processes read the same machine's clock.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from bench.companion import Companion
from bench.lab import Lab, Server
from bench.tables import Finding, goal, percentile, spread

GOAL_MS = 150
NODE_SECONDS = 0.03
STEPS = 50
SETTLED_SECONDS = 30


class Mark(NamedTuple):
    run: str
    step: int
    phase: str
    pid: int
    at: float


def run(lab: Lab) -> list[Finding]:
    stops, crowds = (2, (1, 8)) if lab.quick else (5, (1, 8))
    finding = Finding(
        f"Hand-over between two replicas, nodes of {NODE_SECONDS * 1000:g} ms: the pause between two supersteps, ms",
        ("runs in flight", "hand-overs", "p50", "p95", "max", "to the claim p50", "", "steps twice"),
        notes=[f"{stops} stops each. Goal: p95 below {GOAL_MS} ms."],
    )
    marks = lab.folder / "handover.marks"
    uri = lab.database()
    env = {"BENCH_MARKS": str(marks)}
    with Companion("bench.client") as client, _replicas(lab, uri, env) as replicas:
        for crowd in crowds:
            marks.write_text("")
            for _ in lab.rounds(f"handover: {crowd} in flight", range(stops)):
                _stop_one(lab, uri, client, replicas, crowd)
                replicas.append(lab.launch(uri, env))
                _until_all_ended(lab, uri)
                replicas[-1].until_ready()
                _warm_up(client, replicas[-1], lab, uri)
            _report(lab, finding, uri, marks, crowd)
    return [finding]


@contextmanager
def _replicas(lab: Lab, uri: str, env: dict[str, str]) -> Iterator[list[Server]]:
    """Two that serve; the oldest is the next to be stopped."""
    replicas = [lab.launch(uri, env), lab.launch(uri, env)]
    try:
        for replica in replicas:
            replica.until_ready()
        yield replicas
    finally:
        for replica in replicas:
            lab.dispose(replica)


def _start(client: Companion, server: Server, runs: int, steps: int) -> None:
    client.ask(
        "background",
        url=server.url,
        path="/threads/{thread}/runs",
        body={
            "assistant_id": "steps",
            "input": {"steps": steps, "sleep": NODE_SECONDS},
            "if_not_exists": "create",
            "config": {"recursion_limit": steps + 2},
        },
        requests=runs,
        clients=runs,
    )


def _warm_up(client: Companion, server: Server, lab: Lab, uri: str) -> None:
    """The first run of a process imports and connects; what is measured is how a serving replica takes over."""
    _start(client, server, 1, 1)
    _until_all_ended(lab, uri)


def _stop_one(lab: Lab, uri: str, client: Companion, replicas: list[Server], crowd: int) -> None:
    for server in replicas:
        _warm_up(client, server, lab, uri)
    oldest = replicas.pop(0)
    try:
        _start(client, oldest, crowd, STEPS)
        time.sleep(random.uniform(0.3, 0.6))
        oldest.terminate()
    finally:
        lab.dispose(oldest)


def _until_all_ended(lab: Lab, uri: str) -> None:
    until = time.monotonic() + SETTLED_SECONDS
    while lab.query(uri, "select 1 from slackwater.runs where status in ('pending', 'running') limit 1"):
        if time.monotonic() > until:
            raise RuntimeError("runs did not end")
        time.sleep(0.05)


def _report(lab: Lab, finding: Finding, uri: str, path: Path, crowd: int) -> None:
    marks: dict[str, list[Mark]] = defaultdict(list)
    for line in path.read_text().splitlines():
        run, step, phase, pid, at = line.split()
        marks[run].append(Mark(run, int(step), phase, int(pid), float(at)))
    claimed = {
        str(row["run_id"]): float(row["at"])
        for row in lab.query(uri, "select run_id, extract(epoch from claimed_at) as at from slackwater.runs")
    }
    pauses, to_claim, twice = [], [], 0
    for run, said in marks.items():
        done = [mark.step for mark in said if mark.phase == "done"]
        twice += len(done) - len(set(done))
        for before, after in pairwise(said):
            if before.pid != after.pid:
                pauses.append((after.at - before.at) * 1000)
                to_claim.append((claimed[run] - before.at) * 1000)
    p95 = percentile(pauses, 0.95)
    finding.rows.append(
        (
            str(crowd),
            str(len(pauses)),
            f"{percentile(pauses, 0.5):.0f}",
            f"{p95:.0f}",
            f"{max(pauses, default=float('nan')):.0f}",
            f"{percentile(to_claim, 0.5):.0f}",
            goal(p95 < GOAL_MS),
            str(twice),
        )
    )
    finding.data[f"{crowd} in flight"] = {
        "pause_ms": spread(pauses),
        "to_claim_ms": spread(to_claim),
        "twice": twice,
    }
