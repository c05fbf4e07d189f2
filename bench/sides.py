"""The sides of a comparison: LangGraph alone, with its checkpoints in Postgres or in memory, and servers.

All but the one whose turn it is have nothing to do. Each has a process to itself, which shares the machine with Postgres
and, if it is a server, with the client.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.companion import Companion
from bench.lab import PROJECT, ROUNDS, THIS, Lab, Server
from bench.project.graphs import KILOBYTE
from bench.tables import Finding, figure, middle, percentile, quotients, ranged, spread

POOL_SIZE = 10
ENV: Mapping[str, str] = {"SLACKWATER_POOL_MAX_SIZE": str(POOL_SIZE)}
FLOOR, MEMORY = "floor", "in memory"
WARM_SECONDS = 0.5


@dataclass(frozen=True)
class Case:
    """A load: `clients` that each start the next run, on a new thread, when the one before has ended."""

    name: str
    graph: str
    clients: int
    path: str = "/threads/{thread}/runs/wait"
    input: Mapping[str, Any] = field(default_factory=lambda: KILOBYTE)
    stretch: float = 1.0
    """How many times as long as others its rounds are."""

    @property
    def body(self) -> dict[str, Any]:
        return {"assistant_id": self.graph, "input": self.input, "if_not_exists": "create"}


@dataclass(frozen=True)
class Round:
    """The result of one side's turn. CPU is in milliseconds per run."""

    per_second: float
    latencies: Sequence[float]
    firsts: Sequence[float]
    process_ms: float
    """The CPU time of the server or, without one, of the process that runs the graph."""
    postgres_ms: float
    client_ms: float = 0.0

    @property
    def cpu_ms(self) -> float:
        """What the runs cost, without the client, which belongs to the benchmark."""
        return self.process_ms + self.postgres_ms


class Side(Protocol):
    def round(self, case: Case, seconds: float) -> Round: ...


class Alone:
    """LangGraph without a server."""

    def __init__(self, lab: Lab, companion: Companion) -> None:
        self._lab, self._companion = lab, companion

    def round(self, case: Case, seconds: float) -> Round:
        before = self._lab.postgres_cpu_seconds()
        answer = self._companion.ask(
            "closed",
            graph=case.graph,
            input=case.input,
            streamed=case.path.endswith("stream"),
            clients=case.clients,
            seconds=seconds,
        )
        postgres = self._lab.postgres_cpu_seconds() - before
        return _round(answer, answer["cpu_ms"] * len(answer["latencies"]) / 1000, postgres)


class Served:
    """One or more server processes on one database."""

    def __init__(self, lab: Lab, servers: Sequence[Server], client: Companion) -> None:
        self._lab, self._servers, self._client = lab, servers, client

    def round(self, case: Case, seconds: float) -> Round:
        return self.ask(case.path, case.body, case.clients, seconds)

    def ask(
        self,
        path: str,
        body: Mapping[str, Any] | None,
        clients: int,
        seconds: float,
        most: int = sys.maxsize,
        headers: Mapping[str, str] | None = None,
    ) -> Round:
        """A round of at most `most` requests; without a body they are GETs."""
        own, postgres = self._server_seconds(), self._lab.postgres_cpu_seconds()
        answer = self._client.ask(
            "closed",
            urls=[server.url for server in self._servers],
            path=path,
            body=body,
            clients=clients,
            seconds=seconds,
            most=most,
            headers=headers,
        )
        own, postgres = self._server_seconds() - own, self._lab.postgres_cpu_seconds() - postgres
        return _round(answer, own, postgres, answer["cpu_ms"])

    def _server_seconds(self) -> float:
        return sum(server.cpu_seconds() for server in self._servers)


def _round(answer: Mapping[str, Any], own: float, postgres: float, client_ms: float = 0.0) -> Round:
    runs = len(answer["latencies"])
    return Round(
        answer["per_second"],
        answer["latencies"],
        answer["firsts"],
        own * 1000 / runs,
        postgres * 1000 / runs,
        client_ms,
    )


@contextmanager
def floor(lab: Lab) -> Iterator[Companion]:
    """A process with the graphs and LangGraph's own Postgres saver."""
    with Companion("bench.stock", str(PROJECT)) as companion:
        companion.ask("connect", conninfo=lab.database(), pool_size=POOL_SIZE)
        yield companion


@contextmanager
def sides(lab: Lab, *, base: str = FLOOR) -> Iterator[dict[str, Side]]:
    """The base of the comparison, FLOOR or MEMORY, then a server of each tree."""
    with ExitStack() as stack:
        alone = floor(lab) if base == FLOOR else Companion("bench.stock", str(PROJECT))
        client = stack.enter_context(Companion("bench.client"))
        found: dict[str, Side] = {base: Alone(lab, stack.enter_context(alone))}
        for tree in lab.trees:
            server = stack.enter_context(lab.serve(lab.database(tree), ENV, tree))
            found[tree.name] = Served(lab, [server], client)
        yield found


def by_turns(
    lab: Lab, name: str, case: Case, between: Mapping[str, Side], seconds: float
) -> dict[str, list[Round]]:
    """Rounds of `seconds` by turns. The first runs of a process import, connect and allocate: they do not count."""
    for side in between.values():
        side.round(case, lab.seconds(WARM_SECONDS))
    length = lab.seconds(seconds * case.stretch)
    return lab.by_turns(f"{name}: {case.name}", between, lambda side: side.round(case, length))


def speed(these: Sequence[Round], those: Sequence[Round]) -> list[float]:
    """The ratio of runs per second, round by round."""
    return quotients([one.per_second for one in these], [one.per_second for one in those])


def cost(these: Sequence[Round], those: Sequence[Round]) -> list[float]:
    """The ratio of CPU time per run, round by round."""
    return quotients([one.cpu_ms for one in these], [one.cpu_ms for one in those])


class Throughput:
    """A table with a line for each side of each case."""

    def __init__(self, lab: Lab, title: str, seconds: float, bases: Sequence[str] = (FLOOR,)) -> None:
        self._bases = [*bases, *(tree.name for tree in lab.trees if tree != THIS)]
        self.finding = Finding(
            title,
            (
                "",
                "",
                "runs/s",
                "p50 / p95 ms",
                "CPU ms per run",
                *(
                    column
                    for base in self._bases
                    for column in (f"runs/s, times {base}", f"CPU, times {base}")
                ),
            ),
            notes=[
                f"{lab.few(ROUNDS)} rounds of {lab.seconds(seconds):g} s by turns; ratios: median of the rounds' own "
                "(lowest–highest).",
                f"Pools of {POOL_SIZE}. CPU: the process + Postgres + the client, which is left out of the ratios.",
            ],
        )

    def add(self, case: str, rounds: Mapping[str, list[Round]]) -> None:
        for side, found in rounds.items():
            latencies = [ms for one in found for ms in one.latencies]
            speeds, costs = {}, {}
            for base in self._bases:
                if base != side and base in rounds:
                    speeds[base], costs[base] = speed(found, rounds[base]), cost(found, rounds[base])
            cells = [ranged(of.get(base, ())) for base in self._bases for of in (speeds, costs)]
            own, postgres, client = (
                middle([getattr(one, part) for one in found])
                for part in ("process_ms", "postgres_ms", "client_ms")
            )
            self.finding.rows.append(
                (
                    case,
                    side,
                    figure(middle([one.per_second for one in found])),
                    f"{percentile(latencies, 0.5):.1f} / {percentile(latencies, 0.95):.1f}",
                    f"{own:.1f} + {postgres:.1f}" + (f" + {client:.2f}" if client else ""),
                    *cells,
                )
            )
            self.finding.data[f"{case}, {side}"] = {
                "per_second": [round(one.per_second, 2) for one in found],
                "ms": spread(latencies),
                "cpu_ms_per_run": {
                    "process": round(own, 3),
                    "postgres": round(postgres, 3),
                    "client": round(client, 3),
                },
                "times": {base: [round(ratio, 3) for ratio in ratios] for base, ratios in speeds.items()},
                "times_cpu": {base: [round(ratio, 3) for ratio in ratios] for base, ratios in costs.items()},
            }
