"""One run's cost over the floor.

The floor is the graph alone: `ainvoke` with LangGraph's own saver, no server.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.lab import THIS, Lab
from bench.sides import FLOOR, Case, Side, Throughput, by_turns, cost, sides, speed
from bench.tables import Finding, Goal, middle, percentile, spread

SECONDS = 3.0
CASES = (
    (Case("five nodes, 16 clients", "five", 16), 2.2),
    (Case("one node, 16 clients", "one", 16), 1.5),
    (Case("five nodes, 1 client", "five", 1), 0.9),
    (Case("one node, 1 client, stateless", "one", 1, "/runs/wait"), 0.7),
)
"""What is measured, and how many times the floor's runs a second are wanted."""
FIRST_EVENT = Case("first event, one client", "one", 1, "/runs/stream", stretch=0.5)
CPU_GOAL = 0.45
FIRST_EVENT_GOAL_MS = 4.0


def run(lab: Lab) -> list[Finding]:
    table = Throughput(
        lab,
        "Throughput: `POST …/runs/wait` over HTTP against `graph.ainvoke` with the stock saver (durability async)",
        SECONDS,
    )
    goals = table.finding.goals
    with sides(lab) as between:
        for case, wanted in CASES:
            rounds = by_turns(lab, "floor", case, between, SECONDS)
            table.add(case.name, rounds)
            ratio = middle(speed(rounds[THIS.name], rounds[FLOOR]))
            goals.append(Goal(f"{case.name}, against the floor", ratio, wanted, at_least=True, unit=" times"))
            if case.graph == "five" and case.clients > 1:
                ratio = middle(cost(rounds[THIS.name], rounds[FLOOR]))
                goals.append(
                    Goal("CPU per five-node run, against the floor's", ratio, CPU_GOAL, unit=" times")
                )
        return [table.finding, _first_event(lab, between)]


def _first_event(lab: Lab, between: Mapping[str, Side]) -> Finding:
    finding = Finding(
        "Time to the first event: `POST /runs/stream` against `graph.astream`, one client, ms",
        ("", "p50", "p95"),
        notes=["The server's first event says that the run has begun; the floor's is the first `values`."],
    )
    for name, rounds in by_turns(lab, "floor", FIRST_EVENT, between, SECONDS).items():
        firsts = [ms for one in rounds for ms in one.firsts]
        finding.rows.append((name, f"{percentile(firsts, 0.5):.1f}", f"{percentile(firsts, 0.95):.1f}"))
        finding.data[name] = spread(firsts)
        if name == THIS.name:
            finding.goals.append(
                Goal(
                    "first event, one client, median",
                    percentile(firsts, 0.5),
                    FIRST_EVENT_GOAL_MS,
                    unit=" ms",
                )
            )
    return finding
