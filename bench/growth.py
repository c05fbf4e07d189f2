"""How the cost grows with clients, the size of the state, and the number of supersteps."""

from __future__ import annotations

from bench import sizes
from bench.lab import AGAINST, THIS, Lab
from bench.project.graphs import state_of
from bench.sides import Case, Throughput, by_turns, sides, speed
from bench.tables import Finding, Goal, middle

SECONDS = 1.5
CLIENTS = 4
JUDGED = Case(f"state of 100 kB, {CLIENTS} clients", "five", CLIENTS, input=state_of(100), stretch=2)
GOAL = 2.0
"""Of that case, in runs a second of the tree before."""
CASES = (
    *(Case(f"{n} client{'s' if n > 1 else ''}", "five", n) for n in (1, 2, 4, 8, 16, 32, 64)),
    Case(f"state of 10 kB, {CLIENTS} clients", "five", CLIENTS, input=state_of(10)),
    JUDGED,
    Case(f"state of 1 MB, {CLIENTS} clients", "five", CLIENTS, input=state_of(1000), stretch=4),
    *(
        Case(f"{n} superstep{'s' if n > 1 else ''}, {CLIENTS} clients", graph, CLIENTS, stretch=stretch)
        for n, graph, stretch in ((1, "one", 1), (20, "twenty", 1), (50, "fifty", 2))
    ),
)


def run(lab: Lab) -> list[Finding]:
    table = Throughput(
        lab,
        "Growth: `POST …/runs/wait`; five nodes and a state of 1 kB, where nothing else is said",
        SECONDS,
    )
    with sides(lab) as between:
        for case in (CASES[0], JUDGED) if lab.quick else CASES:
            rounds = by_turns(lab, "growth", case, between, SECONDS)
            table.add(case.name, rounds)
            if case is JUDGED and AGAINST in rounds:
                ratio = middle(speed(rounds[THIS.name], rounds[AGAINST]))
                what = f"five nodes, {case.name}, against before"
                table.finding.goals.append(Goal(what, ratio, GOAL, at_least=True, unit=" times"))
    return [table.finding, sizes.run(lab)]
