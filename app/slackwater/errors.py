"""Errors that reach a user. The docstring of a class is its default message and says what to do.

An `ApiError` is one HTTP answer, `{"detail": message}`, or `{"detail": {"code": …, "message": …}}` where a page tells errors of one
status apart; a `StartError` ends the process with its exit code.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Why the process exits."""

    CLEAN = 0
    """Drained within the grace period, or nothing to drain; a command succeeded."""
    FAILED = 1
    """A command did not find what it was asked for, or failed."""
    SETTINGS = 2
    """A setting is wrong or contradicts another."""
    SCHEMA = 3
    """The database cannot be reached, or has a different schema version from this release."""
    GRAPH = 4
    """A graph in `langgraph.json` cannot be imported."""
    RUNS_LEFT = 5
    """Runs were left at the deadline; their leases expire and another process takes them over."""
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


class NoCaller(SlackwaterError):
    """`get_client()` without a URL calls for the owner of a run, or for the caller of a request to this server, as long as that
    goes on. This code belongs to neither: give it this server's URL and an API key."""


class OutsideRun(SlackwaterError):
    """`user_data()` is the folder of a run: call it in a node or a tool of a graph that this server executes, while the run goes on.
    The server needs SLACKWATER_GATEWAY=true."""


class NoMemory(SlackwaterError):
    """`slackwater.memory` is that of a run's owner: use it in a node or a tool of a graph that this server executes, while the run goes
    on. The server needs SLACKWATER_GATEWAY=true."""


class NoSkills(SlackwaterError):
    """`slackwater.skills` are those of a run's owner: use them in a node or a tool of a graph that this server executes, while the run
    goes on. The server needs SLACKWATER_GATEWAY=true."""


class NoMcp(SlackwaterError):
    """`slackwater.mcp` has the tools for a run: use it in a node of a graph that this server executes, while the run goes on. The server
    needs SLACKWATER_GATEWAY=true."""


class McpNotInstalled(SlackwaterError):
    """Tools of MCP servers need the package mcp: pip install "slackwater[mcp-tools]"."""


class UnknownSkill(SlackwaterError):
    """The owner of this run has no skill of that name that is switched on, or it has no such file: `skills()` says which there are."""


class TooManyFiles(SlackwaterError):
    """A thread has too many files: delete some in its folder."""


class StartError(SlackwaterError):
    """The process cannot start."""

    exit_code = ExitCode.SETTINGS


class SettingsError(StartError):
    """A setting is wrong: run `slackwater doctor`."""


class SchemaError(StartError):
    """The database schema does not match this release: run `slackwater migrate`."""

    exit_code = ExitCode.SCHEMA


class GraphImportError(StartError):
    """A graph cannot be imported: run `slackwater doctor` for the full traceback."""

    exit_code = ExitCode.GRAPH


class ApiError(SlackwaterError):
    """The request could not be carried out."""

    status = 400
    headers: Mapping[str, str] = {}
    code: str | None = None
    """What a page that shows the error knows it by."""

    @property
    def detail(self) -> object:
        """What the body says is wrong."""
        return self.message if self.code is None else {"code": self.code, "message": self.message}


class BadRequest(ApiError):
    """The request cannot be understood."""

    status = 400


class Unauthorized(ApiError):
    """Send a valid key in the x-api-key header."""

    status = 401


class NotAuthenticated(Unauthorized):
    """Log in, or send a valid key in the x-api-key header."""

    code = "not_authenticated"


class SessionEnded(Unauthorized):
    """This session has ended: log in again."""

    code = "token_invalid"


class UserNotFound(Unauthorized):
    """There is no such user any more: log in as another."""

    code = "user_not_found"


class TokenExpired(Unauthorized):
    """The token has expired: log in again, or get another one."""

    code = "token_expired"


class TokenInvalid(Unauthorized):
    """The token is not valid: log in again, or get another one."""

    code = "token_invalid"


class Forbidden(ApiError):
    """The key does not allow this request; or there are no keys, and this host or origin may not call without."""

    status = 403


class CsrfTokenMissing(Forbidden):
    """CSRF token missing. Include X-CSRF-Token header."""


class CsrfTokenMismatch(Forbidden):
    """CSRF token mismatch."""


class CrossSiteLogin(Forbidden):
    """Cross-site auth request denied."""


class ForeignPage(Forbidden):
    """This page may not connect with its user's cookies: add its origin to SLACKWATER_CORS_ALLOW_ORIGINS."""


class NoAccount(Forbidden):
    """This is about the account of whoever calls, and a key has none: log in."""


class RefusedByAuth(ApiError):
    """Forbidden"""

    status = 403

    def __init__(
        self, message: str | None = None, status: int = 403, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


class NotFound(ApiError):
    """Not Found"""

    status = 404


class RunsDisabled(NotFound):
    """This server starts no runs: remove disable_runs from http in langgraph.json, or use another server."""


class NoWebSocket(ApiError):
    """AWS Lambda does not support WebSockets: POST to this path for server-sent events (transport="sse")."""

    # 405, as the SDKs try again after a 5xx.
    status = 405
    headers = {"Allow": "POST"}  # noqa: RUF012


class CancelByPost(ApiError):
    """GET changes nothing: POST to this path to cancel the run and read its last events, or to …/cancel."""

    status = 405
    headers = {"Allow": "POST"}  # noqa: RUF012


class Conflict(ApiError):
    """Conflict"""

    status = 409


class ThreadBusy(Conflict):
    """Thread is already running a task. Wait for it to finish or choose a different multitask strategy."""


class MemoryContended(Conflict):
    """The memory is being changed by others at the same time: try again."""


class MemoryTooLarge(ApiError):
    """A memory may have 1 MiB: delete some facts, or make them shorter."""

    status = 413


class BodyTooLarge(ApiError):
    """The request body is too large: raise SLACKWATER_MAX_BODY_BYTES or send less."""

    status = 413


class BodyTooSlow(ApiError):
    """The request body did not arrive within a minute: send it faster, or less."""

    status = 408
    headers = {"Connection": "close"}  # noqa: RUF012


class Crowded(ApiError):
    """Too many large requests are being processed: try again."""

    status = 503
    headers = {"Retry-After": "1"}  # noqa: RUF012


class NotJson(ApiError):
    """Without a key or a bearer token, send the body as JSON: Content-Type: application/json."""

    status = 415


class Invalid(ApiError):
    """The request is not valid."""

    status = 422


class InvalidField(Invalid):
    """The value is not valid."""

    def __init__(self, message: str | None = None, place: Sequence[str] = ("body",)) -> None:
        """`place`: where in the request it is, such as `("body", "password")`."""
        super().__init__(message)
        self._problems = [(place, self.message)]

    @classmethod
    def of(cls, problems: Sequence[tuple[Sequence[str], str]]) -> InvalidField:
        """Of several fields: where each is in the request, and what is wrong with it."""
        error = cls("\n".join(f"{'.'.join(place)}: {message}" for place, message in problems))
        error._problems = list(problems)
        return error

    @property
    def detail(self) -> object:
        # As FastAPI says it: pages show the message of the first one.
        return [
            {"type": "value_error", "loc": list(place), "msg": message} for place, message in self._problems
        ]


class TooManyRequests(ApiError):
    """You have sent more requests than you may in a minute: send the next one after the seconds in Retry-After."""

    status = 429
    headers = {"Retry-After": "1"}  # noqa: RUF012

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.headers = dict(headers or self.headers)


class TooManyRuns(ApiError):
    """Too many of your runs are waiting (SLACKWATER_MAX_PENDING_PER_OWNER, or a limit of your own): try again when some have started, or cancel some."""

    status = 429
    headers = {"Retry-After": "5"}  # noqa: RUF012


class TooManyStreams(ApiError):
    """You have as many streams open as you may (SLACKWATER_MAX_STREAMS_PER_OWNER, or a limit of your own): close one first."""

    status = 429
    headers = {"Retry-After": "5"}  # noqa: RUF012

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.headers = {**self.headers, **(headers or {})}


class TooManyCrons(ApiError):
    """You have as many crons as you may (SLACKWATER_MAX_CRONS_PER_OWNER, or a limit of your own): delete one first."""

    status = 429
    headers = {"Retry-After": "60"}  # noqa: RUF012


class GraphBroken(ApiError):
    """The graph cannot be imported: the server's log says why."""

    status = 424


class NotAGraph(ApiError):
    """The graph's factory returned something that is not a graph."""

    status = 424


class RunContextFailed(ApiError):
    """The project's run_context could not be entered: the server's log says why."""

    status = 424


class GraphSilent(ApiError):
    """The graph's factory did not return in time: check what it waits for."""

    status = 424


class StillRunning(ApiError):
    """The run is still going, but this server cannot wait any longer: GET the Location of this response to keep waiting."""

    # 408, as the JavaScript SDK repeats a POST after a 504, and would start the run again.
    status = 408

    def __init__(self, location: str) -> None:
        super().__init__()
        self.headers = {"Location": location}


class JoinAgain(ApiError):
    """The run is still going, but this server cannot wait any longer: send the same request again to keep waiting."""

    status = 504
    headers = {"Retry-After": "1"}  # noqa: RUF012


class ResponseTooLarge(ApiError):
    """The response is too large for AWS Lambda."""

    # 422, as the JavaScript SDK repeats a request after a 413 or a 5xx, and what a POST was to do has been done.
    status = 422

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"The response has {size} bytes, but AWS Lambda can return only {limit}: ask for less (`select`, `limit`, "
            "a stream with stream_mode=updates), or use a container or a streaming URL."
        )


class PageTooLarge(ApiError):
    """The response would be larger than 20 MB: ask for less at a time (`limit`, `select`)."""

    status = 422


class EventTooLarge(SlackwaterError):
    """An event is too large for any page of a stream."""

    def __init__(self, name: str, event_id: str, size: int) -> None:
        super().__init__(
            f"Event {event_id} ({name}) has {size} bytes, more than this server can send at once. The run continues: read "
            f"what follows with Last-Event-ID: {event_id}, or use stream_mode=updates, a container or a streaming URL."
        )


class Draining(ApiError):
    """This process is stopping: try again, and another process answers."""

    status = 503
    headers = {"Retry-After": "1", "Connection": "close"}  # noqa: RUF012


class DatabaseSilent(ApiError):
    """The database does not answer: try again."""

    status = 503
    headers = Draining.headers


class ConfigurationUnusable(ApiError):
    """Configuration not available: this process cannot use what `slackwater config set` has stored last. `slackwater config show`
    says why; try again, and another process may answer."""

    status = 503
    headers = Draining.headers


class ConfigurationChanged(SlackwaterError):
    """Somebody else has changed the configuration meanwhile: nothing was written. See `slackwater config show`, and set it again."""


class SigningKeyUnreadable(ApiError):
    """This process cannot read the keys that sign tokens: its SLACKWATER_ENCRYPTION_KEY is not that of the others."""

    status = 503
    headers = Draining.headers


class WriteForgotten(ApiError):
    """The database failed over and lost the beginning of this write: send it again."""

    status = 503
    headers = Draining.headers


class Unexpected(ApiError):
    """Internal error: the server's log says what went wrong."""

    status = 500


class AuthBroken(Unexpected):
    """The project's auth failed: the server's log says why."""


class LeaseLost(SlackwaterError):
    """Another process owns this run now; nothing more that this process computes is written."""


class RunOver(LeaseLost):
    """The run of this node has ended or continues in another process: the node can no longer read or write its state."""
