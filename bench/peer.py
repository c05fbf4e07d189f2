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
from typing import Any

from bench.companion import Companion
from bench.floor import body_of
from bench.lab import PROJECT, Lab, cpu_seconds_of
from bench.tables import Finding, goal, middle, percentile, spread
from tests.support.peer import peer_of

GOALS = {"one": 3.0, "five": 2.0}
"""Our runs a second with 16 clients in `wait`, against the official server's."""
FIRST_EVENT_MS = 15.0
"""The median with one client."""
CLIENTS = 16


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

    def on(self, client: Companion, url: str, seconds: float, cpu: Callable[[], float]) -> dict[str, Any]:
        """A round; `cpu` reads what the server has spent."""
        before = cpu()
        answer = client.ask(
            "closed",
            url=url,
            path=f"/threads/{{thread}}/runs/{self.call}",
            body=body_of(self.graph),
            clients=self.clients,
            seconds=seconds,
        )
        answers = len(answer["latencies"])
        # Answers may come in waves a second apart: until the last one, or the round's end would cut one off.
        answer["per_second"] = answers / answer["until_last"] if answers else 0.0
        answer["cpu_ms"] = (cpu() - before) * 1000 / max(1, answers)
        return answer


CASES = tuple(
    Case(graph, call, clients, workers)
    for workers, loads in ((10, (CLIENTS, 1)), (1, (CLIENTS,)))
    for call in ("wait", "stream")
    for clients in loads
    for graph in ("one", "five")
)


def run(lab: Lab) -> list[Finding]:
    rounds, seconds = (1, 2.0) if lab.quick else (5, 3.0)
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
            f"{rounds} rounds of {seconds:g} s by turns; ratio: median of the rounds' own ratios (lowest–highest).",
            "The official server has ten workers where nothing else is said; ours has its defaults.",
            "CPU: the official process; ours and its Postgres sessions.",
            f"Goals in wait with {CLIENTS} clients: {GOALS['one']:g} × on one node, {GOALS['five']:g} × on five.",
        ],
    )
    firsts = Finding(
        "Time to the first event of a stream, ms",
        ("", "official p50", "p95", "ours p50", "p95"),
        notes=[f"Goal with one client: {FIRST_EVENT_MS:g} ms at the median."],
    )
    with lab.serve(lab.database()) as server, Companion("bench.client") as client:

        def our_cpu() -> float:
            return server.cpu_seconds() + lab.postgres_cpu_seconds()

        for workers, cases in groupby(CASES, lambda case: case.workers):
            folder = lab.folder / f"workers{workers}"
            folder.mkdir()
            with peer_of(PROJECT, folder, jobs=workers) as peer:
                official_cpu = partial(cpu_seconds_of, peer.pid)
                for graph in ("one", "five"):  # the first runs of a process import and connect
                    Case(graph, "wait", CLIENTS, workers).on(client, peer.url, 1.0, official_cpu)
                    Case(graph, "wait", CLIENTS, workers).on(client, server.url, 1.0, our_cpu)
                for case in cases:
                    official, ours = [], []
                    for _ in lab.rounds(f"peer: {case.name}", range(rounds)):
                        official.append(case.on(client, peer.url, seconds, official_cpu))
                        ours.append(case.on(client, server.url, seconds, our_cpu))
                    _throughput(throughput, case, official, ours)
                    if case.call == "stream":
                        _first_event(firsts, case, official, ours)
    return [throughput, firsts]


def _throughput(
    finding: Finding, case: Case, official: list[dict[str, Any]], ours: list[dict[str, Any]]
) -> None:
    ratios = [
        mine["per_second"] / theirs["per_second"] if theirs["per_second"] else float("inf")
        for theirs, mine in zip(official, ours, strict=True)
    ]
    sides = {"official": official, "ours": ours}
    latencies = {name: [ms for one in found for ms in one["latencies"]] for name, found in sides.items()}
    per_second = {name: [round(one["per_second"], 2) for one in found] for name, found in sides.items()}
    cpu = {name: middle([one["cpu_ms"] for one in found]) for name, found in sides.items()}
    ratio = middle(ratios)
    judged = case.call == "wait" and case.clients == CLIENTS and case.workers > 1
    verdict = f" {goal(ratio >= GOALS[case.graph])}" if judged else ""
    finding.rows.append(
        (
            case.name,
            f"{middle(per_second['official']):.1f}",
            f"{middle(per_second['ours']):.1f}",
            f"{ratio:.2f} ({min(ratios):.2f}–{max(ratios):.2f}){verdict}",
            *(
                f"{percentile(latencies[name], 0.5):.0f} / {percentile(latencies[name], 0.95):.0f}"
                for name in sides
            ),
            *(f"{cpu[name]:.1f}" for name in sides),
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
    verdict = f" {goal(median <= FIRST_EVENT_MS)}" if case.clients == 1 else ""
    finding.rows.append(
        (
            case.name,
            f"{percentile(before, 0.5):.0f}",
            f"{percentile(before, 0.95):.0f}",
            f"{median:.1f}{verdict}",
            f"{percentile(after, 0.95):.1f}",
        )
    )
    finding.data[case.name] = {"official_ms": spread(before), "ours_ms": spread(after)}
