"""Two processes on one database against one, and what limits them: the machine, a process, or waiting.

Both sides get the same clients, who are shared out evenly; a process runs Python on one core at a time.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from bench.companion import Companion
from bench.lab import ROUNDS, Lab
from bench.sides import ENV, Case, Round, Served, Side, by_turns, speed
from bench.tables import Finding, Goal, figure, middle, ranged, spread

SECONDS = 3.0
CASES = (Case("five nodes, 32 clients", "five", 32), Case("one node, 32 clients", "one", 32))
ONE, TWO = "one process", "two processes"
GOAL = 1.6
BUSY = 0.9
"""The share of a core, or of all cores, above which it is the limit."""


def run(lab: Lab) -> list[Finding]:
    cores = os.cpu_count() or 1
    finding = Finding(
        "Two processes on one database against one: `POST /threads/{id}/runs/wait`",
        (
            "",
            "",
            "runs/s",
            f"times {ONE}",
            "cores: servers",
            "Postgres",
            "client",
            "what limits",
        ),
        notes=[
            f"{lab.few(ROUNDS)} rounds of {lab.seconds(SECONDS):g} s by turns. Cores: CPU seconds a second; the machine has {cores}, "
            "which others use too.",
        ],
    )
    with ExitStack() as stack:
        client = stack.enter_context(Companion("bench.client"))
        between: dict[str, Side] = {}
        for name, processes in ((ONE, 1), (TWO, 2)):
            uri = lab.database()
            servers = [stack.enter_context(lab.serve(uri, ENV)) for _ in range(processes)]
            between[name] = Served(lab, servers, client)
        for case in CASES[: lab.few(len(CASES))]:
            rounds = by_turns(lab, "two", case, between, SECONDS)
            _report(finding, case, rounds, cores)
    return [finding]


def _report(finding: Finding, case: Case, rounds: dict[str, list[Round]], cores: int) -> None:
    ratios = speed(rounds[TWO], rounds[ONE])
    for name, processes in ((ONE, 1), (TWO, 2)):
        found = rounds[name]
        servers, postgres, client = (
            middle([one.per_second * getattr(one, part) / 1000 for one in found])
            for part in ("process_ms", "postgres_ms", "client_ms")
        )
        limit = _limit(servers / processes, servers + postgres + client, cores)
        finding.rows.append(
            (
                case.name,
                name,
                figure(middle([one.per_second for one in found])),
                ranged(ratios if name == TWO else ()),
                *(f"{used:.2f}" for used in (servers, postgres, client)),
                limit,
            )
        )
        finding.data[f"{case.name}, {name}"] = {
            "per_second": [round(one.per_second, 2) for one in found],
            "ms": spread([ms for one in found for ms in one.latencies]),
            "cores": {
                "servers": round(servers, 3),
                "postgres": round(postgres, 3),
                "client": round(client, 3),
            },
            "limit": limit,
        }
    if case is CASES[0]:
        what = f"two processes against one, {case.name}, where cores allow"
        finding.goals.append(Goal(what, middle(ratios), GOAL, at_least=True, unit=" times"))


def _limit(process: float, all_of_it: float, cores: int) -> str:
    """What is used up: the machine's cores, a process's core, or neither."""
    if all_of_it >= BUSY * cores:
        return "the machine"
    return "a process' core" if process >= BUSY else "waiting: disk, locks, or too few clients"
