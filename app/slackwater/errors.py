"""Errors that reach a user. A class's docstring is its default message and says what to do.

An `ApiError` is one HTTP answer, `{"detail": message}`; a `StartError` ends the process with its exit code.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from enum import IntEnum


class ExitCode(IntEnum):
    """What the process says by its exit code."""

    CLEAN = 0
    """Drained within the grace period, or nothing to drain; a command has done what it was asked for."""
    FAILED = 1
    """A command did not find what it was asked for, or could not do it."""
    SETTINGS = 2
    """A setting is wrong or contradicts another."""
    SCHEMA = 3
    """The database has another schema version than this release, or cannot be reached."""
    GRAPH = 4
    """A graph of `langgraph.json` does not import."""
    RUNS_LEFT = 5
    """Runs were left at the deadline; their leases expire and another process takes them."""
    FORCED = 130
    """A second SIGINT."""


class SlackwaterError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.getdoc(type(self)) or type(self).__name__)

    @property
    def message(self) -> str:
        return str(self.args[0])


class ForeignThread(SlackwaterError):
    """A run reads and writes the checkpoints of its own thread only."""


class StartError(SlackwaterError):
    """The process cannot start."""

    exit_code = ExitCode.SETTINGS


class SettingsError(StartError):
    """A setting is wrong: run `slackwater doctor`."""


class SchemaError(StartError):
    """The database's schema is not the one of this release: run `slackwater migrate`."""

    exit_code = ExitCode.SCHEMA


class GraphImportError(StartError):
    """A graph does not import: run `slackwater doctor` for the whole traceback."""

    exit_code = ExitCode.GRAPH


class ApiError(SlackwaterError):
    """The request could not be carried out."""

    status = 400
    headers: Mapping[str, str] = {}


class BadRequest(ApiError):
    """The request makes no sense as it is."""

    status = 400


class Unauthorized(ApiError):
    """Send a valid key in the x-api-key header."""

    status = 401


class Forbidden(ApiError):
    """This host or origin may not call a server without keys."""

    status = 403


class NotFound(ApiError):
    """Not Found"""

    status = 404


class RunsDisabled(NotFound):
    """This server starts no runs: take disable_runs out of http in langgraph.json, or ask another one."""


class NoWebSocket(ApiError):
    """There is no WebSocket here: AWS Lambda has none. POST to this path for server-sent events (transport="sse")."""

    # 405, as the SDKs try again after a 5xx.
    status = 405
    headers = {"Allow": "POST"}  # noqa: RUF012


class Conflict(ApiError):
    """Conflict"""

    status = 409


class ThreadBusy(Conflict):
    """Thread is already running a task. Wait for it to finish or choose a different multitask strategy."""


class BodyTooLarge(ApiError):
    """The request body is too large: raise SLACKWATER_MAX_BODY_BYTES or send less."""

    status = 413


class BodyTooSlow(ApiError):
    """The request body did not arrive within a minute: send it faster, or less."""

    status = 408
    headers = {"Connection": "close"}  # noqa: RUF012


class Crowded(ApiError):
    """Too many large requests are being carried out: try again."""

    status = 503
    headers = {"Retry-After": "1"}  # noqa: RUF012


class Invalid(ApiError):
    """The request is not valid."""

    status = 422


class TooManyRuns(ApiError):
    """As many of your runs wait as SLACKWATER_MAX_PENDING_PER_OWNER allows: try again when some have begun, or cancel some."""

    status = 429
    headers = {"Retry-After": "5"}  # noqa: RUF012


class GraphBroken(ApiError):
    """The graph does not import: the log of this server says why."""

    status = 424


class NotAGraph(ApiError):
    """The graph's factory returned something that is not a graph."""

    status = 424


class GraphSilent(ApiError):
    """The graph's factory has not returned in time: what it waits for does not answer."""

    status = 424


class StillRunning(ApiError):
    """The run goes on, longer than this server may wait: GET the Location of this answer to go on waiting."""

    # 408, as the JavaScript SDK repeats a POST after a 504, and would start the run again.
    status = 408

    def __init__(self, location: str) -> None:
        super().__init__()
        self.headers = {"Location": location}


class JoinAgain(ApiError):
    """The run goes on, longer than this server may wait: send the same request again to go on waiting."""

    status = 504
    headers = {"Retry-After": "1"}  # noqa: RUF012


class AnswerTooLarge(ApiError):
    """The answer is too large for AWS Lambda."""

    # 422, as the JavaScript SDK repeats a request after a 413 or a 5xx, and what a POST was to do has been done.
    status = 422

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"The answer has {size} bytes, and AWS Lambda can give back {limit}: ask for less (`select`, `limit`, "
            "a stream with stream_mode=updates), or read it through a container or a streaming URL."
        )


class PageTooLarge(ApiError):
    """The answer would have more than 20 MB: ask for less at a time (`limit`, `select`)."""

    status = 422


class EventTooLarge(SlackwaterError):
    """An event is too large for any page of a stream."""

    def __init__(self, name: str, event_id: str, size: int) -> None:
        super().__init__(
            f"Event {event_id} ({name}) has {size} bytes, more than this server can send at once. The run goes on: read "
            f"what follows with Last-Event-ID: {event_id}, use stream_mode=updates, or a container or a streaming URL."
        )


class Draining(ApiError):
    """This process is stopping: try again, another one answers."""

    status = 503
    headers = {"Retry-After": "1", "Connection": "close"}  # noqa: RUF012


class DatabaseSilent(ApiError):
    """The database does not answer: try again."""

    status = 503
    headers = Draining.headers


class WriteForgotten(ApiError):
    """The database has failed over and has forgotten the beginning of this write: send it again."""

    status = 503
    headers = Draining.headers


class Unexpected(ApiError):
    """Something went wrong in this server: its log says what."""

    status = 500


class LeaseLost(SlackwaterError):
    """Another process owns this run now; what this one still computes is not written."""


class RunOver(LeaseLost):
    """The run of this node has ended, or goes on elsewhere: what the node still does is not read or written for it."""
