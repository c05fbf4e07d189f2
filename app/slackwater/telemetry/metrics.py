"""The figures of the process, in memory. Who delivers them, and how, is `emf`'s and `prometheus`'s.

Recorded by the thread of the event loop (and, once, by the one that starts a Lambda environment), read by any: a
figure is one number that only grows, so nobody needs a lock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from enum import Enum


class MetricKind(Enum):
    """What a metric's numbers are."""

    COUNTER = "counter"
    """Only grows."""
    GAUGE = "gauge"
    """As it is now."""
    DURATION = "duration"
    """Milliseconds, each time."""


class Metric(Enum):
    """Every metric there is. Its name is the same everywhere; docs/observability.md lists them."""

    RUNS_STARTED = (MetricKind.COUNTER, "Runs started for the first time.")
    RUNS_FINISHED = (MetricKind.COUNTER, "Started runs that ended, whatever their status.")
    RUNS_FAILED = (MetricKind.COUNTER, "Started runs that ended with an error.")
    RUNS_DRAINED = (MetricKind.COUNTER, "Runs stopped at a superstep boundary and handed over there.")
    RUNS_HANDED_OVER = (
        MetricKind.COUNTER,
        "Runs that their own process handed over: drained, or cut inside a superstep.",
    )
    RUNS_TAKEN_OVER = (
        MetricKind.COUNTER,
        "Runs that this process gave back to the queue because their own was gone.",
    )
    RUNS_LIVE = (
        MetricKind.GAUGE,
        "Runs that this process is executing; on AWS Lambda the maximum at a time.",
    )
    RUNS_STUCK = (
        MetricKind.GAUGE,
        "Runs in the whole database that no process was executing, though one should have, at the last sweep.",
    )
    DRAIN_MS = (
        MetricKind.DURATION,
        "From the decision to stop until every run was finished, handed over or left.",
    )
    DRAIN_OVERRUN = (MetricKind.COUNTER, "Stops that missed their deadline.")
    LEASE_LOST = (MetricKind.COUNTER, "Attempts given up because their lease could no longer be confirmed.")
    STREAM_PAGES = (
        MetricKind.COUNTER,
        "Responses that ended before their run: their readers reconnect for more.",
    )
    REQUESTS_REFUSED = (MetricKind.COUNTER, "Requests that were answered 401, 403 or 429.")
    POOL_WAIT_MS = (MetricKind.DURATION, "Waits for a database connection, when none was free.")
    PASSWORD_MS = (MetricKind.DURATION, "Hashing a password, with the wait for a thread.")
    THREADS_BUSY = (MetricKind.GAUGE, "Threads that run sync nodes.")
    THREADS_LEFT = (
        MetricKind.GAUGE,
        "Threads whose nodes are still running although their run has ended here.",
    )
    NODES_LEFT = (
        MetricKind.GAUGE,
        "Runs that were ended although one of their nodes ignores its cancellation.",
    )
    COLD_START = (
        MetricKind.COUNTER,
        "Execution environments of AWS Lambda that received their first invocation.",
    )

    # Enum's own is Python, and would be most of what a figure costs.
    __hash__ = object.__hash__

    def __init__(self, kind: MetricKind, meaning: str) -> None:
        self.kind = kind
        self.meaning = meaning

    @property
    def label(self) -> str:
        """Its name, as CloudWatch shows it."""
        return self.name.lower()

    @property
    def exposed(self) -> str:
        """Its name in the text of `/metrics`."""
        return f"slackwater_{self.label}" + ("_total" if self.kind is MetricKind.COUNTER else "")


BOUNDS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000)
"""Upper bounds, in milliseconds, of the buckets in which durations are counted."""

RECENT = 1000
"""So many durations are kept one by one; older ones are only counted."""


@dataclass(slots=True)
class Durations:
    """Durations in milliseconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    """How many there were, for each of `BOUNDS`, and above the last."""
    total: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    """Those that nobody has taken yet."""


class Recorder:
    """The figures. Each call costs less than a microsecond, and none waits."""

    def __init__(self) -> None:
        self.totals = {metric: 0 for metric in Metric if metric.kind is MetricKind.COUNTER}
        self.levels = {metric: 0.0 for metric in Metric if metric.kind is MetricKind.GAUGE}
        self.peaks: dict[Metric, float] = {}
        """The highest level of each gauge that was set since somebody has taken it out of here."""
        self.durations = {metric: Durations() for metric in Metric if metric.kind is MetricKind.DURATION}

    def count(self, metric: Metric) -> None:
        """It has happened once more."""
        self.totals[metric] += 1

    def level(self, metric: Metric, value: float) -> None:
        """It is so many now."""
        self.levels[metric] = value
        self.peaks[metric] = max(value, self.peaks.get(metric, value))

    def took(self, metric: Metric, milliseconds: float) -> None:
        """It took so long, this time."""
        durations = self.durations[metric]
        durations.counts[bisect_left(BOUNDS, milliseconds)] += 1
        durations.total += milliseconds
        durations.recent.append(milliseconds)


recorder = Recorder()
"""The process's own."""

count, level, took = recorder.count, recorder.level, recorder.took
