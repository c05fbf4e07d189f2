"""How long a process takes to leave: SIGTERM to exit, with runs in flight."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from bench.companion import Companion
from bench.lab import AGAINST, ROUNDS, THIS, Lab, Tree
from bench.tables import Finding, Goal, figure, middle, quotients, ranged

GOAL_MS = 150
GOAL_TIMES = 0.2
"""Of the exit of the tree before."""
NODE_SECONDS = 0.05
CROWDS = (20, 100)
READY_SECONDS = 20
COUNTED_SECONDS = 1.0


@dataclass(frozen=True)
class Stop:
    exit_ms: float
    drain_ms: float
    """As the process reports it."""
    outcomes: frozenset[str]
    supersteps_per_second: float
    """Before the signal."""


def run(lab: Lab) -> list[Finding]:
    finding = Finding(
        f"SIGTERM to exit, nodes of {NODE_SECONDS * 1000:g} ms",
        (
            "runs in flight",
            "",
            "exit ms",
            f"times {AGAINST}",
            "drain ms",
            "supersteps/s before",
            "outcomes",
        ),
        notes=[
            f"{lab.few(ROUNDS)} stops each: median (lowest–highest). Drain: as the process itself reports it.",
            f"{CROWDS[-1]} runs ask for {CROWDS[-1] / NODE_SECONDS:.0f} supersteps a second.",
        ],
    )
    trees = {tree.name: tree for tree in lab.trees}
    with Companion("bench.client") as client:
        for crowd in (crowds := CROWDS[: lab.few(len(CROWDS))]):
            stops = lab.by_turns(f"stop: {crowd} in flight", trees, partial(_stop, lab, client, crowd))
            _report(finding, crowd, stops, judged=crowd == crowds[-1])
    return [finding]


def _report(finding: Finding, crowd: int, found: Mapping[str, Sequence[Stop]], *, judged: bool) -> None:
    exits = {name: [stop.exit_ms for stop in stops] for name, stops in found.items()}
    ratios = quotients(exits[THIS.name], exits[AGAINST]) if AGAINST in exits else []
    for name, stops in found.items():
        outcomes = sorted({outcome for stop in stops for outcome in stop.outcomes})
        finding.rows.append(
            (
                str(crowd),
                name,
                ranged(exits[name]),
                ranged(ratios if name == THIS.name else ()),
                figure(middle([stop.drain_ms for stop in stops])),
                figure(middle([stop.supersteps_per_second for stop in stops])),
                ", ".join(outcomes),
            )
        )
        finding.data[f"{crowd} in flight, {name}"] = {
            "exit_ms": [round(ms, 1) for ms in exits[name]],
            "drain_ms": [stop.drain_ms for stop in stops],
            "outcomes": outcomes,
            "supersteps_per_second": [round(stop.supersteps_per_second, 1) for stop in stops],
        }
    if judged:
        what = f"SIGTERM to exit, {crowd} runs of {NODE_SECONDS * 1000:g} ms nodes"
        finding.goals.append(Goal(what, middle(exits[THIS.name]), GOAL_MS, unit=" ms"))
        if ratios:
            finding.goals.append(Goal(f"{what}, against before", middle(ratios), GOAL_TIMES, unit=" times"))


def _stop(lab: Lab, client: Companion, crowd: int, tree: Tree) -> Stop:
    uri = lab.database(tree)  # a new one, as the drained runs would go on with the next process
    with lab.serve(uri, {"SLACKWATER_MAX_CONCURRENT_RUNS": str(crowd + 28)}, tree) as server:
        client.ask(
            "background",
            url=server.url,
            path="/threads/{thread}/runs",
            body={
                "assistant_id": "steps",
                "input": {"steps": 10_000, "sleep": NODE_SECONDS},
                "if_not_exists": "create",
                "config": {"recursion_limit": 20_000},
            },
            requests=crowd,
            clients=10,
        )
        until = time.monotonic() + READY_SECONDS
        while _count(lab, uri, "slackwater.runs where input_applied") < crowd:
            if time.monotonic() > until:
                raise RuntimeError("the runs did not start")
            time.sleep(0.05)
        seconds = lab.seconds(COUNTED_SECONDS)
        before = _count(lab, uri, "checkpoints")
        time.sleep(seconds)
        rate = (_count(lab, uri, "checkpoints") - before) / seconds
        took = server.terminate()
        report = server.report()
    outcomes = frozenset(line["outcome"] for line in report["runs"])
    return Stop(took * 1000, report["took_ms"], outcomes, rate)


def _count(lab: Lab, uri: str, what: str) -> int:
    return int(lab.query(uri, f"select count(*) as n from {what}")[0]["n"])  # noqa: S608 - fixed strings
