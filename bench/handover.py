"""The pause of a hand-over: from the end of the drained superstep to the start of the next one elsewhere.

Two replicas on one database. One has the runs and gets a SIGTERM; the other goes on with them. The nodes say when they
start and end; both processes read the same machine's clock. With another tree to compare with, there are two such pairs.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from bench.companion import Companion
from bench.lab import ROUNDS, THIS, Lab, Server, Tree
from bench.tables import Finding, Goal, percentile, spread

GOAL_MS = 75
NODE_SECONDS = 0.03
STEPS = 50
CROWDS = (1, 8)
SETTLED_SECONDS = 30


class Mark(NamedTuple):
    run: str
    step: int
    phase: str
    pid: int
    at: float


@dataclass
class Pair:
    """Two replicas of one tree; the older one is stopped next."""

    tree: Tree
    uri: str
    marks: Path
    replicas: list[Server]

    @property
    def env(self) -> Mapping[str, str]:
        return {"BENCH_MARKS": str(self.marks)}


def run(lab: Lab) -> list[Finding]:
    finding = Finding(
        f"Hand-over between two replicas, nodes of {NODE_SECONDS * 1000:g} ms: the pause between two supersteps, ms",
        ("runs in flight", "", "hand-overs", "p50", "p95", "max", "to the claim p50", "steps twice"),
        notes=[f"{lab.few(ROUNDS)} stops each, the trees by turns."],
    )
    with Companion("bench.client") as client, ExitStack() as stack:
        pairs = {tree.name: stack.enter_context(_pair(lab, tree)) for tree in lab.trees}
        for crowd in CROWDS[-lab.few(len(CROWDS)) :]:
            for pair in pairs.values():
                pair.marks.write_text("")
            what = f"handover: {crowd} in flight"
            lab.by_turns(what, pairs, partial(_hand_over, lab, client, crowd))
            for pair in pairs.values():
                _report(lab, finding, pair, crowd)
    return [finding]


@contextmanager
def _pair(lab: Lab, tree: Tree) -> Iterator[Pair]:
    pair = Pair(tree, lab.database(tree), lab.folder / f"handover-{tree.name}.marks", [])
    try:
        pair.replicas += [lab.launch(pair.uri, pair.env, tree) for _ in range(2)]
        for replica in pair.replicas:
            replica.until_ready()
        yield pair
    finally:
        for replica in pair.replicas:
            lab.dispose(replica)


def _hand_over(lab: Lab, client: Companion, crowd: int, pair: Pair) -> None:
    _stop_one(lab, client, pair, crowd)
    pair.replicas.append(lab.launch(pair.uri, pair.env, pair.tree))
    _until_all_ended(lab, pair.uri)
    pair.replicas[-1].until_ready()
    _warm_up(client, pair.replicas[-1], lab, pair.uri)


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
    """Run once in each process, since the first run imports and connects: replicas that take over are warm."""
    _start(client, server, 1, 1)
    _until_all_ended(lab, uri)


def _stop_one(lab: Lab, client: Companion, pair: Pair, crowd: int) -> None:
    for server in pair.replicas:
        _warm_up(client, server, lab, pair.uri)
    oldest = pair.replicas.pop(0)
    try:
        _start(client, oldest, crowd, STEPS)
        time.sleep(random.uniform(0.3, 0.6))  # noqa: S311 - no secret
        oldest.terminate()
    finally:
        lab.dispose(oldest)


def _until_all_ended(lab: Lab, uri: str) -> None:
    until = time.monotonic() + SETTLED_SECONDS
    while lab.query(uri, "select 1 from slackwater.runs where status in ('pending', 'running') limit 1"):
        if time.monotonic() > until:
            raise RuntimeError("runs did not end")
        time.sleep(0.05)


def _report(lab: Lab, finding: Finding, pair: Pair, crowd: int) -> None:
    marks: dict[str, list[Mark]] = defaultdict(list)
    for line in pair.marks.read_text().splitlines():
        run, step, phase, pid, at = line.split()
        marks[run].append(Mark(run, int(step), phase, int(pid), float(at)))
    claimed = {
        str(row["run_id"]): float(row["at"])
        for row in lab.query(
            pair.uri, "select run_id, extract(epoch from claimed_at) as at from slackwater.runs"
        )
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
            pair.tree.name,
            str(len(pauses)),
            f"{percentile(pauses, 0.5):.0f}",
            f"{p95:.0f}",
            f"{max(pauses, default=float('nan')):.0f}",
            f"{percentile(to_claim, 0.5):.0f}",
            str(twice),
        )
    )
    finding.data[f"{crowd} in flight, {pair.tree.name}"] = {
        "pause_ms": spread(pauses),
        "to_claim_ms": spread(to_claim),
        "twice": twice,
    }
    if pair.tree == THIS and crowd == CROWDS[-1]:
        finding.goals.append(Goal(f"hand-over, {crowd} runs, p95", p95, GOAL_MS, unit=" ms"))
