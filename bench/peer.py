"""Side by side with the official in-memory server: runs a second, and the time to the first event.

Both are fresh and serve the same project; they take turns, and the one whose turn it is not has nothing to do. Ours is
durable, the official one keeps everything in memory. It looks for new runs every half second, unless all of its
workers are busy: then a run follows the other at once. So it is measured with the ten workers that a server has, and with
the one that `langgraph dev` starts, which does well here, where nodes wait for nothing. It is installed into `.test/peer`,
as for tests/differential.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, TypeAlias

from bench import sides
from bench.companion import Companion
from bench.lab import PROJECT, ROUNDS, Lab, cpu_seconds_of
from bench.tables import Finding, Goal, figure, middle, percentile, quotients, ranged, spread
from tests.support.peer import peer_of

GOALS = {"one": 3.0, "five": 2.0}
"""Our runs a second with 16 clients in `wait`, against the official server's."""
SECONDS = 3.0
FIRST_EVENT_MS = 15.0
"""The median with one client."""
CLIENTS = 16


Serving: TypeAlias = tuple[str, Callable[[], float]]
"""A server's URL, and a function that returns the CPU seconds it has used."""


@dataclass(frozen=True)
class Case:
    """One way to call both servers."""

    graph: str
    call: str
    clients: int
    workers: int
    """Of the official server."""

    @property
    def name(self) -> str:
        nodes = "one node" if self.graph == "one" else "five nodes"
        clients = f"{self.clients} client{'s' if self.clients > 1 else ''}"
        return f"{self.call}, {nodes}, {clients}{', its one worker' if self.workers == 1 else ''}"

    def on(self, client: Companion, seconds: float, server: Serving) -> dict[str, Any]:
        """Measure one round on a server."""
        url, cpu = server
        before = cpu()
        answer = client.ask(
            "closed",
            urls=[url],
            path=f"/threads/{{thread}}/runs/{self.call}",
            body=sides.Case(self.name, self.graph, self.clients).body,
            clients=self.clients,
            seconds=seconds,
        )
        answer["cpu_ms"] = (cpu() - before) * 1000 / len(answer["latencies"])
        return answer


CASES = tuple(
    Case(graph, call, clients, workers)
    for workers, loads in ((10, (CLIENTS, 1)), (1, (CLIENTS,)))
    for call in ("wait", "stream")
    for clients in loads
    for graph in ("one", "five")
)


def run(lab: Lab) -> list[Finding]:
    seconds = lab.seconds(SECONDS)
    throughput = Finding(
        "Runs a second, the official in-memory server and ours (`POST /threads/{id}/runs/…`, a new thread each)",
        (
            "",
            "official",
            "ours",
            "ratio",
            "official p50/p95 ms",
            "ours p50/p95 ms",
            "official CPU ms/run",
            "ours CPU ms/run",
        ),
        notes=[
            f"{lab.few(ROUNDS)} rounds of {seconds:g} s by turns; ratio: median of the rounds' own (lowest–highest).",
            "The official server has ten workers where nothing else is said; ours has its defaults.",
            "CPU: the official process; ours and Postgres.",
        ],
    )
    firsts = Finding(
        "Time to the first event of a stream, ms",
        ("", "official p50", "p95", "ours p50", "p95"),
    )
    with lab.serve(lab.database()) as server, Companion("bench.client") as client:

        def our_cpu() -> float:
            return server.cpu_seconds() + lab.postgres_cpu_seconds()

        for workers, cases in groupby(CASES, lambda case: case.workers):
            folder = lab.folder / f"workers{workers}"
            folder.mkdir()
            with peer_of(PROJECT, folder, jobs=workers) as peer:
                official_cpu = partial(cpu_seconds_of, peer.pid)
                servers: dict[str, Serving] = {
                    "official": (peer.url, official_cpu),
                    "ours": (server.url, our_cpu),
                }
                for graph in ("one", "five"):  # the first runs of a process import and connect
                    for each in servers.values():
                        Case(graph, "wait", CLIENTS, workers).on(client, 1.0, each)
                for case in cases:
                    what = f"peer: {case.name}"
                    found = lab.by_turns(what, servers, partial(case.on, client, seconds))
                    official, ours = found["official"], found["ours"]
                    _throughput(throughput, case, official, ours)
                    if case.call == "stream":
                        _first_event(firsts, case, official, ours)
    return [throughput, firsts]


def _throughput(
    finding: Finding, case: Case, official: list[dict[str, Any]], ours: list[dict[str, Any]]
) -> None:
    ratios = quotients([one["per_second"] for one in ours], [one["per_second"] for one in official])
    found = {"official": official, "ours": ours}
    latencies = {name: [ms for one in rounds for ms in one["latencies"]] for name, rounds in found.items()}
    per_second = {name: [round(one["per_second"], 2) for one in rounds] for name, rounds in found.items()}
    cpu = {name: middle([one["cpu_ms"] for one in rounds]) for name, rounds in found.items()}
    if case.call == "wait" and case.clients == CLIENTS and case.workers > 1:
        what = f"{case.name}, against the official in-memory server"
        finding.goals.append(Goal(what, middle(ratios), GOALS[case.graph], at_least=True, unit=" times"))
    finding.rows.append(
        (
            case.name,
            *(figure(middle(per_second[name])) for name in found),
            ranged(ratios),
            *(
                f"{percentile(latencies[name], 0.5):.0f} / {percentile(latencies[name], 0.95):.0f}"
                for name in found
            ),
            *(f"{cpu[name]:.1f}" for name in found),
        )
    )
    finding.data[case.name] = {
        "per_second": per_second,
        "ratios": [round(one, 3) for one in ratios],
        "ms": {name: spread(values) for name, values in latencies.items()},
        "cpu_ms_per_run": {name: round(value, 2) for name, value in cpu.items()},
    }


def _first_event(
    finding: Finding, case: Case, official: list[dict[str, Any]], ours: list[dict[str, Any]]
) -> None:
    before, after = ([ms for one in side for ms in one["firsts"]] for side in (official, ours))
    median = percentile(after, 0.5)
    if case.clients == 1:
        what = f"first event, {case.name}, beside the official server"
        finding.goals.append(Goal(what, median, FIRST_EVENT_MS, unit=" ms"))
    finding.rows.append(
        (
            case.name,
            f"{percentile(before, 0.5):.0f}",
            f"{percentile(before, 0.95):.0f}",
            f"{median:.1f}",
            f"{percentile(after, 0.95):.1f}",
        )
    )
    finding.data[case.name] = {"official_ms": spread(before), "ours_ms": spread(after)}
