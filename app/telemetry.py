"""Structured logs through Powertools, as JSON or for a person to read. Every line has a stable dotted `event`."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

if TYPE_CHECKING:
    from app.errors import StartError
    from app.settings import Settings

_FIELDS = ("event", "run_id", "thread_id", "attempt", "fence", "reason")
_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


class _TextFormatter(logging.Formatter):
    """`12:00:01 WARNING run.lost lease lost run_id=… fence=3`"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        extra = {
            name: value for name, value in record.__dict__.items() if name not in _PLAIN and value is not None
        }
        fields = " ".join(f"{name}={value}" for name, value in extra.items())
        return f"{super().format(record)}  {fields}" if fields else super().format(record)


class _CutStreams(logging.Filter):
    """uvicorn calls a response that we abort on purpose an error of the application."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.msg != "ASGI callable returned without completing response."


def configure(settings: Settings) -> None:
    """Send all logs of the process to stderr, in the format that the settings ask for. May be called again."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        LambdaPowertoolsFormatter(service="slackwater", log_record_order=["level", "message", *_FIELDS])
        if as_json
        else _TextFormatter()
    )
    handler.name = "slackwater"
    root = logging.getLogger()
    for old in [h for h in root.handlers if h.name == handler.name]:
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
    for noisy in ("httpx", "httpcore", "psycopg.pool"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


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
