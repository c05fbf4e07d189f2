"""Traces of AWS X-Ray, through Powertools: what Lambda's own segment of an invocation was spent on.

Only on AWS Lambda, only with the extra `tracing` (whose import costs half a second of an initialisation), and only for
invocations that Lambda has sampled. Elsewhere `record` is one comparison.
"""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from typing import Any

from slackwater.telemetry import service

TRACE = "_X_AMZN_TRACE_ID"
"""Where the runtime client puts the header of the trace, for each invocation."""

DAEMON = "AWS_XRAY_DAEMON_ADDRESS"
"""Where Lambda says who takes the subsegments."""

_recorder: Any = None
"""X-Ray's, as Powertools has set it up; None: nothing is traced."""


def start() -> None:
    """Trace from now on, if there is what it takes. `POWERTOOLS_TRACE_DISABLED=true` says no."""
    global _recorder
    if _recorder is not None or DAEMON not in os.environ or find_spec("aws_xray_sdk") is None:
        return
    from aws_lambda_powertools import Tracer

    # Patching would wrap what the graphs use, and the recorder knows threads, not tasks: it would mix up the runs.
    tracer = Tracer(service=service.name(), auto_patch=False)
    _recorder = None if tracer.disabled else tracer.provider


def record(name: str, began: float, ended: float | None = None, **annotations: str | int | bool) -> None:
    """What this invocation did from `began` until `ended` (monotonic seconds; default: now), as a subsegment."""
    if _recorder is None or "Sampled=1" not in os.environ.get(TRACE, ""):
        return
    clock = time.time() - time.monotonic()
    # Begun and ended in one go: between the two, other threads and tasks have subsegments of their own.
    subsegment = _recorder.begin_subsegment(name)
    if subsegment is not None:
        subsegment.start_time = began + clock
        for key, value in annotations.items():
            subsegment.put_annotation(key, value)
        _recorder.end_subsegment((time.monotonic() if ended is None else ended) + clock)
