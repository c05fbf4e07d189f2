"""What the demo shows. Without a terminal it prints plain lines."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from handover.evidence import Evidence, Verdict

COLOURS = {"A": "cyan", "B": "magenta"}
NAME_WIDTH = 24


class Screen:
    """Lines that stay and, below them in a terminal, the words that are being streamed."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = 110
        self._began = time.monotonic()
        self._answers: dict[str, Text] = {}
        self._live = Live(
            get_renderable=self._streamed, console=self._console, transient=True, refresh_per_second=15
        )

    def title(self, text: str) -> None:
        self._console.print(Text(text, style="bold"), end="\n\n")

    def say(self, text: str, *, process: str | None = None, style: str = "") -> None:
        """Print a line with the time, in the colour of the process that it is about."""
        line = Text(f"{time.monotonic() - self._began:5.1f} s  ", style="dim")
        line.append(
            f"● {process}  " if process else "     ", style=f"bold {COLOURS[process]}" if process else ""
        )
        line.append(text, style=style or (COLOURS[process] if process else ""))
        self._console.print(line)

    def begin_words(self) -> None:
        if self._console.is_terminal:
            self._live.start()

    def word(self, name: str, text: str, process: str) -> None:
        """Show an answer so far."""
        flat = " ".join(text.split())
        self._answers[name] = Text(flat[-(self._console.width - NAME_WIDTH - 4) :], style=COLOURS[process])

    def clear_words(self) -> None:
        """Clear the streamed words: the answers are complete."""
        self._answers.clear()

    def end_words(self) -> None:
        self._live.stop()

    def table(self, evidence: Evidence, names: Mapping[int, str], handover: str) -> None:
        """Show which process ran what."""
        table = Table(
            title="Which process ran which superstep",
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
        )
        for header in ("superstep", "node", "times", "process"):
            table.add_column(header, justify="right" if header in ("superstep", "times") else "left")
        boundary = evidence.boundary()
        for superstep in evidence.supersteps:
            processes = [f"{names.get(pid, '?')}  pid {pid}" for pid in sorted(evidence.processes[superstep])]
            colour = COLOURS.get(processes[0][0], "") if len(processes) == 1 else "bold red"
            for node, count in evidence.nodes(superstep).items():
                table.add_row(str(superstep), node, str(count), ", ".join(processes), style=colour)
            if boundary and superstep == boundary[0]:
                table.add_row("", "handed over", "", f"after {handover}", style="bold")
        self._console.print()
        self._console.print(table)

    def report(self, title: str, report: Mapping[str, Any]) -> None:
        self._console.print(Text(title, style="bold"))
        self._console.print(json.dumps(report), soft_wrap=True, markup=False)

    def verdicts(self, verdicts: Sequence[Verdict]) -> None:
        self._console.print()
        for verdict in verdicts:
            if verdict.broken is None:
                self._console.print(Text.assemble(("✔ ", "bold green"), verdict.promise))
            else:
                self._console.print(Text(f"✘ NOT SO: {verdict.promise} {verdict.broken}", style="bold red"))

    def line(self, text: str = "", style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)

    def _streamed(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        for name, text in self._answers.items():
            grid.add_row(Text(name[-NAME_WIDTH:], style="dim"), text)
        return grid
