"""Many streams at once in one process: what they cost in memory, and how long they wait for their first event."""

from __future__ import annotations

from typing import Any

from bench.companion import Companion
from bench.lab import Lab
from bench.tables import Finding, percentile, spread

STREAMS = 200
PACED_PER_SECOND = 40
OPEN_SECONDS = 4.0
"""Each run's two nodes sleep for so long: all streams are open before the first one ends."""


def run(lab: Lab) -> list[Finding]:
    streams = 50 if lab.quick else STREAMS
    finding = Finding(
        f"{streams} concurrent streams in one process: `POST /runs/stream`",
        ("", "first event p50 ms", "p95", "max", "RSS before MB", "with all open", "per stream kB", "after"),
        notes=["The runs sleep while they are open. SLACKWATER_MAX_CONCURRENT_RUNS=256; paced comes first."],
    )
    with (
        lab.serve(lab.database(), {"SLACKWATER_MAX_CONCURRENT_RUNS": "256"}) as server,
        Companion("bench.client") as client,
    ):
        _streams(client, server.url, 20, 0, sleep=0.1)  # imports, connections, the allocator's first pages
        client.ask("end_streams")
        for name, pace in ((f"{PACED_PER_SECOND} a second", PACED_PER_SECOND), ("all at once", 0)):
            for _ in lab.rounds(f"streams: {name}", range(1)):
                before = server.memory_mb()
                firsts = _streams(client, server.url, streams, pace)["firsts"]
                opened = server.memory_mb()
                client.ask("end_streams")
                after = server.memory_mb()
            finding.rows.append(
                (
                    name,
                    f"{percentile(firsts, 0.5):.0f}",
                    f"{percentile(firsts, 0.95):.0f}",
                    f"{max(firsts):.0f}",
                    f"{before:.0f}",
                    f"{opened:.0f}",
                    f"{(opened - before) * 1024 / streams:.0f}",
                    f"{after:.0f}",
                )
            )
            finding.data[name] = {
                "first_event_ms": spread(firsts),
                "rss_mb": {"before": before, "open": opened, "after": after},
            }
    return [finding]


def _streams(
    client: Companion, url: str, streams: int, per_second: float, sleep: float = OPEN_SECONDS
) -> dict[str, Any]:
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
