"""Many concurrent streams in one process: their memory, and the time to their first event."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.companion import Companion
from bench.lab import ROUNDS, Lab, Server
from bench.tables import Finding, figure, middle, percentile, spread

STREAMS = 200
PACED_PER_SECOND = 40
OPEN_SECONDS = 4.0
"""How long each of a run's two nodes sleeps, so that all streams are open before the first one ends."""


@dataclass(frozen=True)
class Crowd:
    firsts: list[float]
    before_mb: float
    open_mb: float
    after_mb: float


def run(lab: Lab) -> list[Finding]:
    streams = lab.few(STREAMS, quick=10)
    finding = Finding(
        f"{streams} concurrent streams in one process: `POST /runs/stream`",
        (
            "",
            "",
            "first event p50 ms",
            "p95",
            "max",
            "RSS before MB",
            "with all open",
            "per stream kB",
            "after",
        ),
        notes=[
            f"{lab.few(ROUNDS)} times each. The runs sleep while they are open. SLACKWATER_MAX_CONCURRENT_RUNS=256; paced comes "
            "first.",
            "Memory: medians; per stream: of the first time, when the process has no pages left from the streams before.",
        ],
    )
    with Companion("bench.client") as client, ExitStack() as stack:
        servers = {
            tree.name: stack.enter_context(
                lab.serve(lab.database(tree), {"SLACKWATER_MAX_CONCURRENT_RUNS": "256"}, tree)
            )
            for tree in lab.trees
        }
        for server in servers.values():  # imports, connections, the allocator's first pages
            _streams(client, server.url, 20, 0, sleep=0.1)
            client.ask("end_streams")
        for name, pace in ((f"{PACED_PER_SECOND} a second", PACED_PER_SECOND), ("all at once", 0)):
            found = lab.by_turns(
                f"streams: {name}",
                servers,
                partial(_crowd, client, streams, pace, lab.seconds(OPEN_SECONDS)),
            )
            for tree, crowds in found.items():
                _report(finding, name, tree, crowds, streams)
    return [finding]


def _crowd(client: Companion, streams: int, pace: float, sleep: float, server: Server) -> Crowd:
    before = server.memory_mb()
    firsts = _streams(client, server.url, streams, pace, sleep)["firsts"]
    opened = server.memory_mb()
    client.ask("end_streams")
    return Crowd(firsts, before, opened, server.memory_mb())


def _report(finding: Finding, name: str, tree: str, crowds: list[Crowd], streams: int) -> None:
    firsts = [ms for crowd in crowds for ms in crowd.firsts]
    before, opened, after = (
        middle([getattr(crowd, when) for crowd in crowds]) for when in ("before_mb", "open_mb", "after_mb")
    )
    each_kb = (crowds[0].open_mb - crowds[0].before_mb) * 1024 / streams
    finding.rows.append(
        (
            name,
            tree,
            *(figure(ms) for ms in (percentile(firsts, 0.5), percentile(firsts, 0.95), max(firsts))),
            f"{before:.0f}",
            f"{opened:.0f}",
            f"{each_kb:.0f}",
            f"{after:.0f}",
        )
    )
    finding.data[f"{name}, {tree}"] = {
        "first_event_ms": spread(firsts),
        "rss_mb": {"before": before, "open": opened, "after": after},
        "per_stream_kb": round(each_kb, 1),
    }


def _streams(client: Companion, url: str, streams: int, per_second: float, sleep: float) -> dict[str, Any]:
    return client.ask(
        "open_streams",
        url=url,
        path="/runs/stream",
        body={
            "assistant_id": "steps",
            "input": {"steps": 2, "sleep": sleep},
            "stream_mode": ["values", "updates"],
        },
        streams=streams,
        per_second=per_second,
    )
