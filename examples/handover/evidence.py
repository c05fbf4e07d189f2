"""What the demo observed, and whether it is as promised. Pure functions and data, without I/O."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Task = tuple[int, str, str | None]
"""Superstep, node, file."""


@dataclass(slots=True)
class Evidence:
    """Collected during the run, and completed afterwards."""

    ids: list[str] = field(default_factory=list)
    """The ids of the events that the client received, in order."""
    started: list[Task] = field(default_factory=list)
    processes: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Superstep → pids."""
    first_start: dict[int, float] = field(default_factory=dict)
    """Superstep → Unix time."""
    finished: Counter[str] = field(default_factory=Counter)
    """Node → count."""
    words: dict[tuple[str, str | None], str] = field(default_factory=lambda: defaultdict(str))
    """(node, file) → everything that was streamed of its answer."""

    logged: list[str] = field(default_factory=list)
    """The ids in the server's log of events."""
    state: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    status: str = ""
    exit_codes: Mapping[str, int | None] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)

    def record(self, event: str, data: Any, id_: str | None) -> tuple[str, str] | None:
        """Record an event of the client's stream; the ids before and after if it is the first of another process."""
        changed = None
        if id_:
            # Event ids are `<fence>-<number>`, and each owner of a run has a higher fence.
            if self.ids and self.ids[-1].partition("-")[0] != id_.partition("-")[0]:
                changed = self.ids[-1], id_
            self.ids.append(id_)
        if event == "custom":
            superstep = data["superstep"]
            self.started.append((superstep, data["node"], data["file"]))
            self.processes[superstep].add(data["process"])
            self.first_start.setdefault(superstep, data["at"])
        elif event == "updates":
            self.finished.update(data.keys())
        elif event == "messages":
            chunk, about = data
            self.words[about["langgraph_node"], about.get("file")] += chunk["content"]
        return changed

    def nodes(self, superstep: int) -> Counter[str]:
        """How often each node has started in the superstep."""
        return Counter(node for step, node, _ in self.started if step == superstep)

    @property
    def supersteps(self) -> list[int]:
        return sorted(self.processes)

    def boundary(self) -> tuple[int, int] | None:
        """The supersteps before and after the hand-over."""
        for before, after in zip(self.supersteps, self.supersteps[1:], strict=False):
            if self.processes[before] != self.processes[after]:
                return before, after
        return None

    def pause(self) -> float | None:
        """Seconds from the checkpoint of the last superstep before the hand-over to the start of the next."""
        if (boundary := self.boundary()) is None:
            return None
        before, after = boundary
        for snapshot in self.history:
            if snapshot["metadata"].get("step") == before:
                return self.first_start[after] - datetime.fromisoformat(snapshot["created_at"]).timestamp()
        return None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A promise, and the evidence against it, if any."""

    promise: str
    broken: str | None = None


def verdicts(evidence: Evidence) -> list[Verdict]:
    """A verdict on each promise of the demo."""
    return [
        _completed(evidence),
        _once(evidence),
        _checkpoints(evidence),
        _events(evidence),
        _words(evidence),
        _left(evidence),
    ]


def _completed(evidence: Evidence) -> Verdict:
    promise = "The run ended in success, begun by one process and finished by another."
    if evidence.status != "success":
        return Verdict(promise, f"its status is {evidence.status or 'unknown'}")
    pids: set[int] = set().union(*evidence.processes.values())
    if len(pids) != 2 or any(len(owners) != 1 for owners in evidence.processes.values()):
        return Verdict(promise, f"supersteps and processes: {dict(evidence.processes)}")
    return Verdict(promise)


def _once(evidence: Evidence) -> Verdict:
    tasks = evidence.started
    promise = f"{len(evidence.supersteps)} supersteps with {len(set(tasks))} tasks: each ran exactly once."
    if twice := [task for task, count in Counter(tasks).items() if count > 1]:
        return Verdict(promise, f"these ran more than once: {twice}")
    starts = Counter(node for _, node, _ in tasks)
    if starts != evidence.finished:
        return Verdict(promise, f"started {dict(starts)}, finished {dict(evidence.finished)}")
    expected = len(evidence.state.get("names", ()))
    if not expected or any(starts[node] != expected for node in ("read", "outline", "summarise", "check")):
        return Verdict(promise, f"of {expected} texts: {dict(starts)}")
    return Verdict(promise)


def _checkpoints(evidence: Evidence) -> Verdict:
    promise = "One checkpoint for each superstep, none missing, none written twice."
    steps = sorted(snapshot["metadata"]["step"] for snapshot in evidence.history)
    expected = [-1, 0, *evidence.supersteps]
    return Verdict(promise, None if steps == expected else f"{steps} instead of {expected}")


def _events(evidence: Evidence) -> Verdict:
    promise = f"{len(evidence.logged)} events: the client got each once, in order."
    if evidence.ids == evidence.logged and len(set(evidence.ids)) == len(evidence.ids) > 0:
        return Verdict(promise)
    missing = [id_ for id_ in evidence.logged if id_ not in set(evidence.ids)]
    twice = [id_ for id_, count in Counter(evidence.ids).items() if count > 1]
    return Verdict(promise, f"it got {len(evidence.ids)}; missing: {missing[:5]}, twice: {twice[:5]}")


def _words(evidence: Evidence) -> Verdict:
    promise = "What was streamed word by word is what the run's state holds."
    notes = evidence.state.get("notes", {})
    kept = {("summarise", name): note["summary"] for name, note in notes.items()}
    kept["overview", None] = evidence.state.get("overview", "")
    for key, text in kept.items():
        if evidence.words.get(key, "").strip() != text:
            return Verdict(promise, f"{key}: streamed {evidence.words.get(key)!r}, kept {text!r}")
    return Verdict(promise)


def _left(evidence: Evidence) -> Verdict:
    promise = "Both processes left with exit code 0, the first one with the run handed over."
    if set(evidence.exit_codes.values()) != {0}:
        return Verdict(promise, f"exit codes {dict(evidence.exit_codes)}")
    runs = evidence.report.get("runs") or []
    if [(run["outcome"], run["handed_over"]) for run in runs] != [("drained", True)]:
        return Verdict(promise, f"its report says {runs}")
    return Verdict(promise)
