"""`python -m bench [NAME …]`: measure, print tables; with `--write` put them into the pages that show them."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import orjson
import psycopg
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench import capacity, page
from bench.lab import Lab, laboratory
from bench.tables import Finding
from slackwater import __version__

NAMES = (
    "floor",
    "mem",
    "growth",
    "tokens",
    "two",
    "stop",
    "handover",
    "claim",
    "streams",
    "auth",
    "files",
    "coldstart",
)
ON_REQUEST = ("peer", "profile")
FILE_COLUMNS = 160


def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help=f"Of {', '.join(NAMES + ON_REQUEST)}; all but the last two without."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="One very short round of each: shows that all works, measures nothing.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="TREE",
            exists=True,
            file_okay=False,
            help="Measure the server of another source tree too, by turns with this one's.",
        ),
    ] = None,
    write: Annotated[
        bool, typer.Option(help="Put the figures into docs/performance.md and docs/scaling.md.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Also write the figures to this file.")] = None,
    database_uri: Annotated[
        str | None,
        typer.Option(help="Measure on this Postgres (databases are created) instead of the embedded one."),
    ] = None,
) -> None:
    """Measure Slackwater on this machine."""
    wanted = names or list(NAMES)
    if unknown := sorted(set(wanted) - {*NAMES, *ON_REQUEST}):
        raise typer.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(NAMES + ON_REQUEST)}")
    if quick and write:
        raise typer.BadParameter("--quick measures nothing that belongs on a page")
    console = Console()
    if not console.is_terminal:
        console = Console(width=FILE_COLUMNS)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    results: dict[str, list[Finding]] = {}
    today = time.strftime("%Y-%m-%d")
    with (
        Progress(*columns, console=console, transient=True) as progress,
        laboratory(progress, quick=quick, database_uri=database_uri, against=against) as lab,
    ):
        machine = describe_machine(lab)
        console.print(f"[bold]Slackwater {__version__}[/] on {machine['text']}")
        for name in wanted:
            load, started = os.getloadavg()[0], time.perf_counter()
            measure: Callable[[Lab], list[Finding]] = import_module(f"bench.{name}").run
            results[name] = measure(lab)
            loads = f"load {load:.1f} before and {os.getloadavg()[0]:.1f} after"
            _show(console, *results[name])
            console.print(f"{name}: {loads}, {time.perf_counter() - started:.0f} s")
            if write:
                on = f"{today}, load {load:.1f}"
                page.write(name, results[name], f"{today}: {machine['text']}; {loads}.", on)
    carries = capacity.run(results)
    reached: list[Sequence[str]] = [
        goal.cells for found in results.values() for finding in found for goal in finding.goals
    ]
    _show(console, carries, Finding("Goals", page.GOAL_COLUMNS[:-1], reached))
    if write and carries.rows:
        page.write("capacity", [carries], f"{today}: {machine['text']}.", "")
    if json is not None:
        figures = {name: {f.title: f.data for f in found} for name, found in results.items()}
        json.write_bytes(orjson.dumps({"machine": machine, "figures": figures}, option=orjson.OPT_INDENT_2))


def _show(console: Console, *findings: Finding) -> None:
    for finding in findings:
        if finding.rows:
            console.print()
            console.print(finding.table())


def describe_machine(lab: Lab) -> dict[str, str | float]:
    """What the figures depend on."""
    fsync = _fsync_ms(lab.folder)
    with psycopg.connect(lab.server_uri) as connection:
        postgres = connection.info.server_version // 10000
    load = os.getloadavg()[0]
    versions = ", ".join(f"{tree.name} {tree.version}".rstrip() for tree in lab.trees)
    text = (
        f"{versions}; {os.cpu_count()} CPUs ({platform.machine()}, {platform.system()}), Python {platform.python_version()}, "
        f"Postgres {postgres}, fsync {fsync:.2f} ms"
    )
    return {"text": text, "fsync_ms": fsync, "load_before": load, "python": sys.version}


def _fsync_ms(folder: Path) -> float:
    """The median of 50 syncs of an 8 KB write into a file that has its size already, as Postgres's log has."""
    path, times = folder / "fsync", []
    path.write_bytes(b"\0" * 8192)
    with path.open("r+b", buffering=0) as file:
        for _ in range(50):
            file.seek(0)
            file.write(os.urandom(8192))
            started = time.perf_counter()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - started) * 1000)
    path.unlink()
    return sorted(times)[len(times) // 2]


if __name__ == "__main__":
    typer.run(main)
