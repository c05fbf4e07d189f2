"""Metrics in containers: the text that Prometheus asks for, from the figures as they are at that moment.

Import it when it is asked for the first time. What a graph's own nodes record with `prometheus_client` is in the text,
too, and so is the library's own account of the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from slackwater.telemetry.metrics import BOUNDS, Durations, Recorder, recorder


class Figures(Collector):
    """A recorder's figures, as the library wants them."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def collect(self) -> Iterator[Family]:
        for metric, total in self._recorder.totals.items():
            yield CounterMetricFamily(metric.exposed, metric.meaning, value=total)
        for metric, value in self._recorder.levels.items():
            yield GaugeMetricFamily(metric.exposed, metric.meaning, value=value)
        for metric, durations in self._recorder.durations.items():
            yield HistogramMetricFamily(
                metric.exposed, metric.meaning, buckets=_buckets(durations), sum_value=durations.total
            )


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    bounds = [*(str(float(bound)) for bound in BOUNDS), "+Inf"]
    return list(zip(bounds, accumulate(durations.counts), strict=True))


REGISTRY.register(Figures(recorder))


def text(accept: str, registry: CollectorRegistry = REGISTRY) -> tuple[bytes, str]:
    """The text, and its media type, in the format that the `Accept` header asks for."""
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type
