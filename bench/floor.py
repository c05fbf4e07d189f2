"""One run's cost over the floor.

The floor is the graph alone: `ainvoke` with LangGraph's own saver, no server. Floor and server take turns, each in
a process that has the machine to itself (but for Postgres, and the client when it is the server's turn).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.companion import Companion
from bench.lab import PROJECT, Lab, Server
from bench.project.graphs import KILOBYTE
from bench.tables import Finding, goal, middle, percentile, spread

POOL_SIZE = 10
GOAL = 1.3
ENV: Mapping[str, str] = {"SLACKWATER_POOL_MAX_SIZE": str(POOL_SIZE)}


@dataclass(frozen=True)
class Case:
    name: str
    graph: str
    clients: int
    path: str = "/threads/{thread}/runs/wait"


CASES = (
    Case("five nodes, 16 clients", "five", 16),
    Case("one node, 16 clients", "one", 16),
    Case("five nodes, 1 client", "five", 1),
    Case("one node, 1 client, stateless", "one", 1, "/runs/wait"),
)


def body_of(graph: str) -> dict[str, Any]:
    return {"assistant_id": graph, "input": KILOBYTE, "if_not_exists": "create"}


def run(lab: Lab) -> list[Finding]:
    rounds, seconds = (1, 1.5) if lab.quick else (3, 3.0)
    throughput = Finding(
        "Throughput: `POST …/runs/wait` over HTTP against `graph.ainvoke` with the stock saver (durability async)",
        (
            "",
            "floor runs/s",
            "server runs/s",
            "ratio",
            "floor p50/p95 ms",
            "server p50/p95 ms",
            "floor CPU ms/run",
            "server CPU ms/run",
        ),
    )
    with (
        lab.serve(lab.database(), ENV) as server,
        Companion("bench.stock", lab.database(), str(POOL_SIZE), str(PROJECT)) as stock,
        Companion("bench.client") as client,
    ):
        stock.ask("set_up")
        for case in CASES:  # the first runs of a process import and connect
            _floor_round(stock, case, 0.5)
            _server_round(client, server, case, 0.5)
        for case in CASES:
            _compare(lab, throughput, case, rounds, seconds, server, stock, client)
        first = _first_event(lab, rounds, seconds / 2, server, stock, client)
    throughput.notes += [
        f"{rounds} rounds of {seconds:g} s, floor and server by turns; ratio: median of the rounds' own ratios (lowest–"
        f"highest). Pools of {POOL_SIZE}.",
        "CPU: the process + its Postgres sessions (+ the client).",
        f"Goal for five nodes, 16 clients: {GOAL} × the floor.",
    ]
    return [throughput, first]


def _compare(
    lab: Lab,
    finding: Finding,
    case: Case,
    rounds: int,
    seconds: float,
    server: Server,
    stock: Companion,
    client: Companion,
) -> None:
    floors, servers = [], []
    for _ in lab.rounds(f"floor: {case.name}", range(rounds)):
        with _Meter(lab.postgres_cpu_seconds) as postgres:
            floors.append(_floor_round(stock, case, seconds))
        floors[-1]["postgres_ms"] = postgres.ms_each(floors[-1])
        with _Meter(lab.postgres_cpu_seconds) as postgres, _Meter(server.cpu_seconds) as own:
            servers.append(_server_round(client, server, case, seconds))
        servers[-1] |= {"postgres_ms": postgres.ms_each(servers[-1]), "server_ms": own.ms_each(servers[-1])}
    ratios = [s["per_second"] / f["per_second"] for f, s in zip(floors, servers, strict=True)]
    floor_ms = [ms for f in floors for ms in f["latencies"]]
    server_ms = [ms for s in servers for ms in s["latencies"]]
    ratio = middle(ratios)
    cpu = {
        "floor": middle([f["cpu_ms"] for f in floors]),
        "floor_postgres": middle([f["postgres_ms"] for f in floors]),
        "server": middle([s["server_ms"] for s in servers]),
        "server_postgres": middle([s["postgres_ms"] for s in servers]),
        "client": middle([s["cpu_ms"] for s in servers]),
    }
    verdict = f" {goal(ratio >= GOAL)}" if case is CASES[0] else ""
    finding.rows.append(
        (
            case.name,
            f"{middle([f['per_second'] for f in floors]):.1f}",
            f"{middle([s['per_second'] for s in servers]):.1f}",
            f"{ratio:.2f} ({min(ratios):.2f}–{max(ratios):.2f}){verdict}",
            f"{percentile(floor_ms, 0.5):.1f} / {percentile(floor_ms, 0.95):.1f}",
            f"{percentile(server_ms, 0.5):.1f} / {percentile(server_ms, 0.95):.1f}",
            f"{cpu['floor']:.1f} + {cpu['floor_postgres']:.1f}",
            f"{cpu['server']:.1f} + {cpu['server_postgres']:.1f} + {cpu['client']:.2f}",
        )
    )
    finding.data[case.name] = {
        "floor_per_second": [round(f["per_second"], 2) for f in floors],
        "server_per_second": [round(s["per_second"], 2) for s in servers],
        "ratios": [round(r, 3) for r in ratios],
        "floor_ms": spread(floor_ms),
        "server_ms": spread(server_ms),
        "cpu_ms_per_run": {name: round(value, 2) for name, value in cpu.items()},
    }


class _Meter:
    """CPU time spent between entering and leaving."""

    def __init__(self, read: Callable[[], float]) -> None:
        self._read = read

    def __enter__(self) -> _Meter:
        self._seconds = -self._read()
        return self

    def __exit__(self, *_: object) -> None:
        self._seconds += self._read()

    def ms_each(self, answer: dict[str, Any]) -> float:
        return self._seconds * 1000 / max(1, len(answer["latencies"]))


def _floor_round(stock: Companion, case: Case, seconds: float) -> dict[str, Any]:
    return stock.ask("closed", graph=case.graph, input=KILOBYTE, clients=case.clients, seconds=seconds)


def _server_round(client: Companion, server: Server, case: Case, seconds: float) -> dict[str, Any]:
    return client.ask(
        "closed",
        url=server.url,
        path=case.path,
        body=body_of(case.graph),
        clients=case.clients,
        seconds=seconds,
    )


def _first_event(
    lab: Lab, rounds: int, seconds: float, server: Server, stock: Companion, client: Companion
) -> Finding:
    floors: list[float] = []
    servers: list[float] = []
    for _ in lab.rounds("floor: first event", range(rounds)):
        floors += stock.ask("first_chunks", graph="one", input=KILOBYTE, seconds=seconds)["firsts"]
        servers += client.ask(
            "closed", url=server.url, path="/runs/stream", body=body_of("one"), clients=1, seconds=seconds
        )["firsts"]
    finding = Finding(
        "Time to the first event: `POST /runs/stream` against `graph.astream`, one client, ms",
        ("", "p50", "p95"),
        notes=["The server's first event says that the run has begun; the floor's is the first `values`."],
    )
    for name, values in (("floor", floors), ("server", servers)):
        finding.rows.append((name, f"{percentile(values, 0.5):.1f}", f"{percentile(values, 0.95):.1f}"))
        finding.data[name] = spread(values)
    return finding
