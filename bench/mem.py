"""Against LangGraph with its checkpoints in memory: what durability, HTTP and the queue cost together.

The graph alone, `ainvoke` with LangGraph's `InMemorySaver`: nothing of it outlives the process.
"""

from __future__ import annotations

from bench.lab import THIS, Lab
from bench.sides import MEMORY, Case, Throughput, by_turns, sides, speed
from bench.tables import Finding, Goal, middle

SECONDS = 3.0
CASES = (Case("five nodes, 16 clients", "five", 16), Case("one node, 16 clients", "one", 16))
GOAL = 0.55
"""Of the first case."""


def run(lab: Lab) -> list[Finding]:
    table = Throughput(
        lab,
        "`POST …/runs/wait` over HTTP against `graph.ainvoke` with an in-memory saver",
        SECONDS,
        (MEMORY,),
    )
    with sides(lab, base=MEMORY) as between:
        for case in CASES:
            rounds = by_turns(lab, "mem", case, between, SECONDS)
            table.add(case.name, rounds)
            if case is CASES[0]:
                ratio = middle(speed(rounds[THIS.name], rounds[MEMORY]))
                what = f"{case.name}, against LangGraph in memory"
                table.finding.goals.append(Goal(what, ratio, GOAL, at_least=True, unit=" times"))
    return [table.finding]
