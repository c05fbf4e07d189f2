"""How long a process takes to leave: SIGTERM to exit, with runs in flight."""

from __future__ import annotations

import time
from typing import Any

from bench.companion import Companion
from bench.lab import Lab
from bench.tables import Finding, goal, middle

GOAL_MS = 300
NODE_SECONDS = 0.05
CROWDS = (20, 100)
READY_SECONDS = 20


def run(lab: Lab) -> list[Finding]:
    rounds = 1 if lab.quick else 3
    finding = Finding(
        f"SIGTERM to exit, nodes of {NODE_SECONDS * 1000:g} ms",
        (
            "runs in flight",
            "exit ms (median)",
            "lowest–highest",
            "drain ms",
            "",
            "outcomes",
            "supersteps/s before",
        ),
        notes=[
            f"{rounds} stops each. Goal for {CROWDS[-1]}: below {GOAL_MS} ms. Drain: as the process itself reports it.",
            f"{CROWDS[-1]} runs ask for {CROWDS[-1] / NODE_SECONDS:.0f} supersteps a second: more than a process has.",
        ],
    )
    with Companion("bench.client") as client:
        for crowd in CROWDS:
            exits, drains, outcomes, rates = [], [], set(), []
            for _ in lab.rounds(f"stop: {crowd} in flight", range(rounds)):
                took, report, rate = _stop(lab, client, crowd)
                exits.append(took * 1000)
                drains.append(report["took_ms"])
                outcomes |= {line["outcome"] for line in report["runs"]}
                rates.append(rate)
            finding.rows.append(
                (
                    str(crowd),
                    f"{middle(exits):.0f}",
                    f"{min(exits):.0f}–{max(exits):.0f}",
                    f"{middle(drains):.0f}",
                    goal(middle(exits) < GOAL_MS) if crowd == CROWDS[-1] else "",
                    ", ".join(sorted(outcomes)),
                    f"{middle(rates):.0f}",
                )
            )
            finding.data[f"{crowd} in flight"] = {
                "exit_ms": [round(ms, 1) for ms in exits],
                "drain_ms": drains,
                "outcomes": sorted(outcomes),
                "supersteps_per_second": [round(rate, 1) for rate in rates],
            }
    return [finding]


def _stop(lab: Lab, client: Companion, crowd: int) -> tuple[float, dict[str, Any], float]:
    """Seconds to the exit, the drain report, supersteps per second before."""
    uri = lab.database()  # a new one, as the drained runs would go on with the next process
    with lab.serve(uri, {"SLACKWATER_MAX_CONCURRENT_RUNS": str(crowd + 28)}) as server:
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
        before = _count(lab, uri, "checkpoints")
        time.sleep(1)
        rate = float(_count(lab, uri, "checkpoints") - before)
        took = server.terminate()
        return took, server.report(), rate


def _count(lab: Lab, uri: str, what: str) -> int:
    return int(lab.query(uri, f"select count(*) as n from {what}")[0]["n"])
