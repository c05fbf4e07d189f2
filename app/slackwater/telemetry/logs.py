"""Structured logs through Powertools, as JSON or for a person to read. Every line has a stable dotted `event`.

On AWS Lambda each line also says which invocation it is of, in the words of Powertools' own Logger, and what was left
of its time.
"""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slackwater.kit.printable import printable, printable_json
from slackwater.telemetry import service

if TYPE_CHECKING:
    from slackwater.errors import StartError
    from slackwater.settings import Settings

FIELDS = ("event", "run_id", "thread_id", "attempt", "fence", "reason")
"""The keys that come first in a line, in this order, after its level and its message."""

_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


class _TextFormatter(logging.Formatter):
    """`12:00:01 WARNING run.lost lease lost  run_id=… fence=3`, and below it the traceback, indented.

    What a caller has sent may be anywhere in it, in the records of libraries too. Only what begins a line is one of ours.
    """

    def __init__(self) -> None:
        super().__init__(datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        extra = {
            name: value for name, value in record.__dict__.items() if name not in _PLAIN and value is not None
        }
        fields = "".join(f" {printable(name)}={printable(value)}" for name, value in extra.items())
        line = (
            f"{self.formatTime(record, self.datefmt)} {record.levelname:<7} {printable(record.getMessage())}"
        )
        below = [self.formatException(record.exc_info)] if record.exc_info else []
        if record.stack_info:
            below.append(self.formatStack(record.stack_info))
        # Not at each of the characters that Python calls line breaks: those that are left are escaped.
        under = "".join(f"\n  {printable(each)}" for text in below for each in text.split("\n"))
        return f"{line} {fields}{under}" if fields else f"{line}{under}"


class _NotOfMcp(logging.Filter):
    """The package `mcp` calls one of its loggers `client`, as a project may call one of its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "/mcp/client/" not in record.pathname


class _CutStreams(logging.Filter):
    """uvicorn calls a response that we abort on purpose an error of the application."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.msg != "ASGI callable returned without completing response."


@dataclass(slots=True)
class InvocationFields:
    """What the lines of an invocation say of it."""

    request_id: str
    correlation_id: str
    """That of whoever asked: the gateway's request, or the message of a queue."""
    cold_start: bool
    deadline: float
    """Monotonic seconds."""


class _InvocationKeys(logging.Filter):
    """Adds them to each line. Not a context variable: an invocation has several threads, and an environment only one."""

    invocation: InvocationFields | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        current = self.invocation
        if current is not None:
            record.function_request_id = current.request_id
            record.correlation_id = current.correlation_id
            record.cold_start = current.cold_start
            record.remaining_ms = round((current.deadline - time.monotonic()) * 1000)
        return True


_keys = _InvocationKeys()


def set_invocation(invocation: InvocationFields | None) -> None:
    """From now on the lines are this invocation's; None: nobody's, until the next."""
    _keys.invocation = invocation


def correlate(correlation_id: str) -> None:
    """The lines of the invocation that come now are about another message of its batch."""
    if _keys.invocation is not None:
        _keys.invocation.correlation_id = correlation_id


def _json() -> logging.Formatter:
    from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

    formatter = LambdaPowertoolsFormatter(
        service=service.name(), log_record_order=["level", "message", *FIELDS]
    )
    serialize = formatter.json_serializer
    formatter.json_serializer = lambda log: printable_json(serialize(log))
    return formatter


def configure(settings: Settings) -> None:
    """Send all logs of the process to stderr, in the format that the settings ask for. May be called again."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_json() if as_json else _TextFormatter())
    handler.addFilter(_keys)
    handler.name = "slackwater"
    root = logging.getLogger()
    for old in [h for h in root.handlers if h.name == handler.name or _is_of_the_runtime(h)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.disabled = False
    uvicorn.setLevel(logging.WARNING if settings.log_level == "INFO" else settings.log_level)
    if not any(isinstance(f, _CutStreams) for f in uvicorn.filters):
        uvicorn.addFilter(_CutStreams())
    for noisy in ("httpx", "httpx2", "httpcore", "httpcore2", "mangum", "psycopg.pool"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # They name sessions, and log with a traceback what servers and users have sent. What goes wrong with a server is logged by us.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    client = logging.getLogger("client")
    if not any(isinstance(f, _NotOfMcp) for f in client.filters):
        client.addFilter(_NotOfMcp())


def _is_of_the_runtime(handler: logging.Handler) -> bool:
    """AWS's runtime client has installed a handler of its own: with ours, each line would be there twice."""
    return type(handler).__module__.partition(".")[0] == "awslambdaric"


def start_failed(error: StartError, *, log_it: bool) -> None:
    """Keep uvicorn from logging the traceback of what one sentence says: the log's, or that of who started us."""
    if log_it:
        logging.getLogger(__name__).error(error.message, extra={"event": "start.failed"})
    logging.getLogger("uvicorn.error").disabled = True


def flush() -> None:
    """Everything logged until now is out when this returns: called immediately before `os._exit`."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    sys.stdout.flush()
    sys.stderr.flush()
