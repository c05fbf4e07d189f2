"""Metrics on AWS Lambda: lines on stdout in CloudWatch's Embedded Metric Format, made by Powertools.

What has changed since the last flush is one line, or none. CloudWatch makes the metrics of it, at no call and no wait.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from slackwater.telemetry import service
from slackwater.telemetry.metrics import Metric, MetricKind, Recorder

if TYPE_CHECKING:
    from aws_lambda_powertools.metrics import EphemeralMetrics

NAMESPACE = "Slackwater"

LINE_VALUES = 99
"""Of one metric in one line. CloudWatch takes a hundred, but at a hundred Powertools prints by itself."""

LOCK_SECONDS = 0.05
"""A process that is about to leave does not wait longer for another thread's flush."""


class EmbeddedMetrics:
    """Writes what a recorder has got since the last flush. Called from any thread."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._written = dict(recorder.totals)
        self._lock = threading.Lock()
        self._powertools: EphemeralMetrics | None = None

    def flush(self) -> None:
        """Write it to stdout; nothing if there is nothing new."""
        if not self._lock.acquire(timeout=LOCK_SECONDS):
            return
        try:
            news = {metric: values for metric, values in self._news() if values}
            while news:
                self._write({metric: values[:LINE_VALUES] for metric, values in news.items()})
                news = {metric: rest for metric, values in news.items() if (rest := values[LINE_VALUES:])}
        finally:
            self._lock.release()

    def _news(self) -> Iterator[tuple[Metric, list[float]]]:
        recorder = self._recorder
        for metric, total in recorder.totals.items():
            more, self._written[metric] = total - self._written[metric], total
            yield metric, [float(more)] if more else []
        for metric in recorder.levels:
            peak = recorder.peaks.pop(metric, None)
            yield metric, [] if peak is None else [float(peak)]
        for metric, durations in recorder.durations.items():
            recent = durations.recent
            yield metric, [round(recent.popleft(), 3) for _ in range(len(recent))]

    def _write(self, news: dict[Metric, list[float]]) -> None:
        from aws_lambda_powertools.metrics import EphemeralMetrics
        from aws_lambda_powertools.metrics.functions import is_metrics_disabled

        if self._powertools is None:
            # Its ordinary class has one set of metrics for the whole process: a graph's own would be in it, too.
            self._powertools = EphemeralMetrics(
                namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE") or NAMESPACE,
                service=service.name(),
            )
        for metric, values in news.items():
            unit = "Milliseconds" if metric.kind is MetricKind.DURATION else "Count"
            for value in values:
                self._powertools.add_metric(metric.label, unit, value)
        metrics = self._powertools.serialize_metric_set()
        self._powertools.clear_metrics()
        if not is_metrics_disabled():
            # Powertools prints the line and its end one after the other: a line that another thread logs would get between.
            sys.stdout.write(json.dumps(metrics, separators=(",", ":")) + "\n")


_sink: EmbeddedMetrics | None = None


def write(recorder: Recorder) -> None:
    """From now on `flush` writes this recorder's figures."""
    global _sink
    _sink = _sink or EmbeddedMetrics(recorder)


def flush() -> None:
    """Write what is new, if this is AWS Lambda."""
    if _sink is not None:
        _sink.flush()
