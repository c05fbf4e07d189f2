"""What a process says of itself: figures for CloudWatch and for Prometheus, lines of a log, subsegments of a trace."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from slackwater.settings import Settings
from slackwater.telemetry import logs
from slackwater.telemetry.emf import EmbeddedMetrics
from slackwater.telemetry.metrics import BOUNDS, RECENT, Metric, MetricKind, Recorder
from slackwater.telemetry.prometheus import Figures, text

ROOT = Path(__file__).parents[3]
UNITS = {MetricKind.COUNTER: "Count", MetricKind.GAUGE: "Count", MetricKind.DURATION: "Milliseconds"}


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


# EMF


@pytest.fixture(autouse=True)
def _no_settings_of_powertools(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("POWERTOOLS_"):
            monkeypatch.delenv(name)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_flush_writes_one_line_in_the_shape_that_cloudwatch_documents(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = EmbeddedMetrics(recorder)
    recorder.count(Metric.RUNS_STARTED)
    recorder.count(Metric.RUNS_STARTED)
    recorder.level(Metric.RUNS_LIVE, 2)
    recorder.took(Metric.DRAIN_MS, 12.3456)
    recorder.took(Metric.DRAIN_MS, 7)
    before = time.time() * 1000
    sink.flush()
    (line,) = lines(capsys)
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    aws = line.pop("_aws")
    assert aws.keys() == {"Timestamp", "CloudWatchMetrics"}
    assert isinstance(aws["Timestamp"], int)
    assert before - 1 <= aws["Timestamp"] <= time.time() * 1000
    (directive,) = aws["CloudWatchMetrics"]
    assert directive["Namespace"] == "Slackwater"
    assert directive["Dimensions"] == [["service"]]
    assert directive["Metrics"] == [
        {"Name": "runs_started", "Unit": "Count"},
        {"Name": "runs_live", "Unit": "Count"},
        {"Name": "drain_ms", "Unit": "Milliseconds"},
    ]
    assert line == {
        "service": "slackwater",
        "runs_started": [2.0],
        "runs_live": [2.0],
        "drain_ms": [12.346, 7.0],
    }


def test_every_metric_is_written_with_its_unit(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = EmbeddedMetrics(recorder)
    for metric in Metric:
        {MetricKind.COUNTER: recorder.count}.get(metric.kind, lambda _: None)(metric)
        if metric.kind is MetricKind.GAUGE:
            recorder.level(metric, 1)
        if metric.kind is MetricKind.DURATION:
            recorder.took(metric, 1)
    sink.flush()
    (line,) = lines(capsys)
    said = line["_aws"]["CloudWatchMetrics"][0]["Metrics"]
    assert {entry["Name"]: entry["Unit"] for entry in said} == {
        metric.label: UNITS[metric.kind] for metric in Metric
    }


def test_nothing_is_written_twice_and_no_line_when_nothing_has_happened(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.count(Metric.RUNS_STARTED)
    sink = EmbeddedMetrics(recorder)
    sink.flush()
    assert lines(capsys) == []  # it was there before anybody asked for lines
    recorder.count(Metric.RUNS_STARTED)
    recorder.level(Metric.RUNS_STUCK, 3)
    sink.flush()
    sink.flush()
    assert [(line["runs_started"], line["runs_stuck"]) for line in lines(capsys)] == [([1.0], [3.0])]


def test_a_line_is_written_with_its_end_so_that_no_other_threads_line_gets_between(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[str] = []
    monkeypatch.setattr(sys.stdout, "write", writes.append)
    sink = EmbeddedMetrics(recorder)
    recorder.count(Metric.RUNS_STARTED)
    sink.flush()
    (write,) = writes
    assert json.loads(write)["runs_started"] == [1.0]
    assert write.endswith("}\n")


def test_of_a_level_the_highest_since_the_last_line_is_written(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = EmbeddedMetrics(recorder)
    for value in (1, 4, 0):
        recorder.level(Metric.RUNS_LIVE, value)
    sink.flush()
    recorder.level(Metric.RUNS_LIVE, 2)
    sink.flush()
    assert [line["runs_live"] for line in lines(capsys)] == [[4.0], [2.0]]


def test_more_values_than_a_line_takes_are_several_lines_and_their_number_is_bounded(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = EmbeddedMetrics(recorder)
    for value in range(RECENT + 500):
        recorder.took(Metric.POOL_WAIT_MS, value)
    recorder.count(Metric.RUNS_STARTED)
    sink.flush()
    written = lines(capsys)
    values = [value for line in written for value in line["pool_wait_ms"]]
    assert all(len(line["pool_wait_ms"]) <= 100 for line in written)
    assert values == [float(value) for value in range(500, RECENT + 500)]
    assert sum(line.get("runs_started", [0])[0] for line in written) == 1


def test_namespace_and_service_are_powertools_own_settings(
    recorder: Recorder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Tides")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "harbour")
    sink = EmbeddedMetrics(recorder)
    recorder.count(Metric.COLD_START)
    sink.flush()
    (line,) = lines(capsys)
    assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Tides"
    assert line["service"] == "harbour"


def test_powertools_can_switch_the_lines_off(
    recorder: Recorder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_DISABLED", "true")
    sink = EmbeddedMetrics(recorder)
    for value in range(250):
        recorder.took(Metric.POOL_WAIT_MS, value)
    sink.flush()
    assert lines(capsys) == []


def test_a_graphs_own_metrics_are_not_ours(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    from aws_lambda_powertools import Metrics

    own = Metrics(namespace="Graph", service="of its author")
    own.add_metric("tokens", "Count", 7)
    sink = EmbeddedMetrics(recorder)
    recorder.count(Metric.RUNS_STARTED)
    sink.flush()
    own.flush_metrics()
    ours, theirs = lines(capsys)
    assert "tokens" not in ours
    assert (theirs["tokens"], "runs_started" in theirs) == ([7.0], False)


# Prometheus


def exposed(recorder: Recorder, accept: str = "") -> str:
    registry = CollectorRegistry()
    registry.register(Figures(recorder))
    return text(accept, registry)[0].decode()


def test_prometheus_reads_every_metric_under_the_same_name(recorder: Recorder) -> None:
    families = {family.name: family for family in text_string_to_metric_families(exposed(recorder))}
    types = {MetricKind.COUNTER: "counter", MetricKind.GAUGE: "gauge", MetricKind.DURATION: "histogram"}
    assert {name: family.type for name, family in families.items()} == {
        f"slackwater_{metric.label}": types[metric.kind] for metric in Metric
    }
    for metric in Metric:
        assert families[f"slackwater_{metric.label}"].documentation == metric.meaning
        assert re.search(rf"^{metric.exposed}(_count)? 0\.0$", exposed(recorder), re.M), metric


def test_prometheus_reads_the_figures_as_they_are_now(recorder: Recorder) -> None:
    recorder.count(Metric.LEASE_LOST)
    recorder.level(Metric.RUNS_LIVE, 5)
    recorder.level(Metric.RUNS_LIVE, 3)
    for milliseconds in (0.4, 1, 1.5, 9999, 60_000):
        recorder.took(Metric.DRAIN_MS, milliseconds)
    samples = {
        (sample.name, sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(exposed(recorder))
        for sample in family.samples
    }
    assert samples["slackwater_lease_lost_total", None] == 1
    assert samples["slackwater_runs_live", None] == 3
    assert samples["slackwater_drain_ms_count", None] == samples["slackwater_drain_ms_bucket", "+Inf"] == 5
    assert samples["slackwater_drain_ms_sum", None] == pytest.approx(70_001.9)
    below = {bound: samples["slackwater_drain_ms_bucket", str(float(bound))] for bound in BOUNDS}
    assert (below[1], below[2], below[5000], below[10_000], below[25_000]) == (2, 3, 3, 4, 4)


def test_who_asks_for_openmetrics_gets_it(recorder: Recorder) -> None:
    assert exposed(recorder, "application/openmetrics-text; version=1.0.0").endswith("# EOF\n")


# Logs


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, StringIO]]:
    """A logger that writes as the process's own does on AWS Lambda."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs._json())
    handler.addFilter(logs._keys)
    logger = logging.getLogger("test.telemetry")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield logger, stream
    logger.removeHandler(handler)
    logs.set_invocation(None)


def test_each_line_of_an_invocation_says_whose_it_is_and_what_was_left_of_its_time(
    log: tuple[logging.Logger, StringIO],
) -> None:
    logger, stream = log
    logger.info("before", extra={"event": "run.drained"})
    logs.set_invocation(logs.InvocationFields("request-1", "message-1", True, time.monotonic() + 30))
    logger.info("within", extra={"event": "run.drained", "run_id": "r"})
    logs.correlate("message-2")
    logger.info("of another message")
    logs.set_invocation(None)
    logger.info("after")
    before, within, other, after = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (within["function_request_id"], within["correlation_id"], within["cold_start"]) == (
        "request-1",
        "message-1",
        True,
    )
    assert 20_000 < within["remaining_ms"] <= 30_000
    assert (within["service"], within["event"], within["run_id"]) == ("slackwater", "run.drained", "r")
    assert other["correlation_id"] == "message-2"
    for line in (before, after):
        assert not line.keys() & {"function_request_id", "correlation_id", "cold_start", "remaining_ms"}


HOSTILE = "a\n12:00:01 ERROR   all is lost\r\x1b[2J\x9b1m\x85b\u2028c\u202ed\x00\x7f\ud800"


@pytest.fixture
def process_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], StringIO]]:
    """Configures the log of the process in a format, and gives what it writes."""
    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    level = root.level

    def configure(log_format: str) -> StringIO:
        stream = StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure(Settings(log_format=log_format, log_level="INFO"))
        root.handlers = [each for each in root.handlers if each.name == "slackwater"]
        return stream

    yield configure
    root.handlers = before
    root.setLevel(level)


@pytest.mark.parametrize(
    "name", ["slackwater.runtime.execution.outcome", "uvicorn.error", "somebodys.library"]
)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_whatever_callers_send_a_record_begins_one_line_and_obeys_nobody(
    process_log: Callable[[str], StringIO], log_format: str, name: str
) -> None:
    stream = process_log(log_format)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger(name).exception(
            "failed: %s", HOSTILE, extra={"event": "run.failed", "reason": HOSTILE}
        )

    written = stream.getvalue().removesuffix("\n")
    first, *below = written.splitlines()  # at everything that anybody takes for the end of a line
    assert not [
        letter
        for letter in written.replace("\n", "")
        if unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp", "Cs")
    ]
    if log_format == "json":
        assert below == []
        told = json.loads(first)
        assert (told["message"], told["reason"]) == (f"failed: {HOSTILE}", HOSTILE)
    else:
        assert first.count("all is lost") == 2
        assert below[0] == "  Traceback (most recent call last):"
        assert below[-1].startswith("  12:00:01 ERROR   all is lost")
        assert all(line.startswith("  ") for line in below)


# Traces

TRACED = """
import time
from slackwater.telemetry import tracing
tracing.start()
began = time.monotonic()
tracing.record("drain", began - 0.5, began, runs=2)
print("aws_xray_sdk" in __import__("sys").modules)
"""


def traced(daemon: socket.socket | None, **environment: str) -> tuple[list[dict[str, Any]], bool]:
    """The subsegments that a process on AWS Lambda has sent, and whether it has imported X-Ray's library."""
    if daemon is not None:
        host, port = daemon.getsockname()
        environment["AWS_XRAY_DAEMON_ADDRESS"] = f"{host}:{port}"
        daemon.settimeout(0.3)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("POWERTOOLS_", "AWS_", "_X_AMZN"))}
    done = subprocess.run(
        [sys.executable, "-c", TRACED],
        env={**clean, "LAMBDA_TASK_ROOT": "/var/task", **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    found = []
    try:
        while daemon is not None:
            found.append(json.loads(daemon.recv(65536).split(b"\n", 1)[1]))
    except TimeoutError:
        pass
    return found, done.stdout.strip() == "True"


@pytest.fixture
def daemon() -> Iterator[socket.socket]:
    """Takes what X-Ray's daemon would take."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        yield daemon


TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled="


def test_a_sampled_invocation_has_its_drain_as_a_subsegment(daemon: socket.socket) -> None:
    (drain,), _ = traced(daemon, _X_AMZN_TRACE_ID=TRACE + "1")
    assert (drain["name"], drain["type"], drain["annotations"]) == ("drain", "subsegment", {"runs": 2})
    assert drain["trace_id"] == "1-5759e988-bd862e3fe1be46a994272793"
    assert drain["parent_id"] == "53995c3f42cd8ad8"
    assert drain["end_time"] - drain["start_time"] == pytest.approx(0.5, abs=0.01)
    assert abs(drain["end_time"] - time.time()) < 30


@pytest.mark.parametrize("sampled", ["0", ""])
def test_an_invocation_that_is_not_sampled_sends_nothing(daemon: socket.socket, sampled: str) -> None:
    header = {"_X_AMZN_TRACE_ID": TRACE + sampled} if sampled else {}
    assert traced(daemon, **header)[0] == []


def test_without_a_daemon_the_library_is_not_even_imported() -> None:
    assert traced(None, _X_AMZN_TRACE_ID=TRACE + "1") == ([], False)


def test_powertools_can_switch_traces_off(daemon: socket.socket) -> None:
    assert traced(daemon, _X_AMZN_TRACE_ID=TRACE + "1", POWERTOOLS_TRACE_DISABLED="true")[0] == []


# All of it


def test_telemetry_costs_a_start_nothing() -> None:
    heavy = ("aws_lambda_powertools", "prometheus_client", "aws_xray_sdk", "langgraph", "psycopg", "pydantic")
    code = f"import sys, slackwater.telemetry; print(*sorted(set({heavy}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []
