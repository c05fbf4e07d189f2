"""What a core carries: calculated from the CPU time that the other benchmarks have measured, for `docs/scaling.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.lab import THIS
from bench.tables import Finding, figure, middle

SHARE = 0.7
"""The share of a core to plan for: above it, waiting times grow faster than the load."""
RUNS = (
    ("runs of one node, 1 kB", "floor", "one node, 16 clients"),
    ("runs of five nodes, 1 kB", "floor", "five nodes, 16 clients"),
    ("runs of fifty nodes, 1 kB", "growth", "50 supersteps, 4 clients"),
    ("runs of five nodes, 100 kB", "growth", "state of 100 kB, 4 clients"),
)
ALONE = "five nodes, 1 client"
TOKENS = (
    ("tokens, 40 a second in each stream", "tokens", "40 tokens a second each"),
    ("tokens, as fast as they come", "tokens", "as fast as they come"),
)


def run(results: Mapping[str, Sequence[Finding]]) -> Finding:
    """The table, with a line for each benchmark that was measured."""
    finding = Finding(
        "What a core carries, a second",
        (
            "",
            "process CPU µs",
            "Postgres CPU µs",
            "one process",
            "one Postgres core",
            "processes for a Postgres core",
        ),
        notes=[
            f"Measured: the CPU time of each. Calculated: the rest, with cores used to {SHARE:.0%}, a process one of them.",
        ],
    )
    data = {
        name: {key: value for one in found for key, value in one.data.items()}
        for name, found in results.items()
    }
    for work, name, case in (*RUNS, *TOKENS):
        measured = data.get(name, {}).get(f"{case}, {THIS.name}")
        if measured is not None:
            process, postgres = _microseconds(measured)
            carried = [SHARE * 1e6 / us if us else float("nan") for us in (process, postgres)]
            finding.rows.append(
                (
                    work,
                    *map(figure, (process, postgres, *carried)),
                    figure(carried[1] / carried[0]),
                )
            )
            finding.data[work] = {"process_us": process, "postgres_us": postgres}
    if (alone := data.get("floor", {}).get(f"{ALONE}, {THIS.name}")) is not None:
        seconds = alone["ms"]["p50"] / 1000
        finding.notes.append(
            f"A Lambda environment with one core that answers one request after another: {figure(1 / seconds)} runs of five nodes "
            "(calculated: the median of one client, without the network)."
        )
    return finding


def _microseconds(measured: Mapping[str, Any]) -> tuple[float, float]:
    """CPU time of the process and of Postgres, per run or token."""
    if "cpu_ms_per_run" in measured:
        return measured["cpu_ms_per_run"]["process"] * 1000, measured["cpu_ms_per_run"]["postgres"] * 1000
    return middle(measured["process_us"]), middle(measured["postgres_us"])
