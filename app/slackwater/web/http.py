"""What all routes share: JSON in and out, errors as `{"detail": …}`, the services of the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from slackwater.errors import (
    ApiError,
    BodyTooLarge,
    BodyTooSlow,
    Crowded,
    DatabaseSilent,
    Invalid,
    Unexpected,
)
from slackwater.identity.audit.refusals import address_of
from slackwater.kit import json_format
from slackwater.kit.refusal import Refusal, refuse
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.web.arguments import Arguments
from slackwater.web.bodies import (
    BODY_SECONDS,
    LARGE_BYTES,
    PIECE_BYTES,
    RESPONSE_SECONDS,
    VALUE_BYTES,
    values_in,
)
from slackwater.web.route_table import FIXED
from slackwater.web.scope import services_of

if TYPE_CHECKING:
    from slackwater.identity.principal import Principal
    from slackwater.services import Services

log = logging.getLogger(__name__)

MAX_DEPTH = 200
"""The nesting of a JSON body; far less than orjson can serialise and Postgres can parse."""


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`value` as compact JSON."""
    return _json(json_format.dumps(value), status, headers)


def _json(body: bytes, status: int, headers: Mapping[str, str] | None) -> Response:
    kind = LargeResponse if len(body) > LARGE_BYTES else Response
    return kind(body, status, headers, "application/json")


class LargeResponse(Response):
    """Sent in pieces: a server buffers what it is given until its client has read it.

    It counts against the quota of large responses meanwhile, and is aborted if the client reads too slowly.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        quota, owner = services_of(scope).answers, scope["principal"].owner
        size = min(len(self.body), quota.share)  # a larger one is sent alone
        try:
            await quota.acquire(owner, size)
        except Crowded as error:
            await refuse(error, scope, receive, send)
            return
        try:
            async with asyncio.timeout(RESPONSE_SECONDS):
                await send(
                    {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
                )
                for at in range(0, len(self.body), PIECE_BYTES):
                    more, piece = at + PIECE_BYTES < len(self.body), self.body[at : at + PIECE_BYTES]
                    await send({"type": "http.response.body", "body": piece, "more_body": more})
        except TimeoutError:
            log.info("a client did not read its response", extra={"event": "answer.unread"})
        finally:
            quota.release(owner, size)


async def current_services(request: Request) -> Services:
    """The services that the lifespan has opened."""
    services: Services = request.state.services
    return services


CurrentServices = Annotated["Services", Depends(current_services)]


class JsonRequest(Request):
    """A request whose body is limited, in bytes and in time, and whose JSON is parsed by orjson."""

    held = 0
    """Bytes that it holds of the body quota."""

    @property
    def limit(self) -> int:
        """How many bytes the body may have."""
        limit: int = self.state.services.settings.max_body_bytes
        return limit

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            limit = self.limit
            declared = self.headers.get("content-length", "")
            if declared.isdecimal() and int(declared[:20]) > limit:
                raise BodyTooLarge
            chunks = []
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    async for chunk in self.stream():
                        if self.held + len(chunk) > limit:
                            raise BodyTooLarge
                        await self._hold(len(chunk))
                        chunks.append(chunk)
            except TimeoutError:
                raise BodyTooSlow from None
            self._body = b"".join(chunks)
        return self._body

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            text = await self.body()
            # Only once, however often an invalid body is parsed.
            await self._hold(len(text) + values_in(text) * VALUE_BYTES - self.held)
            self._json = parse_json(text)
        return self._json

    async def _hold(self, size: int) -> None:
        await self.state.services.bodies.acquire(self._owner, size)
        self.held += size

    def forget(self) -> None:
        """Release the body and its quota: the request has been handled, or a response has begun."""
        if self.held:
            self.state.services.bodies.release(self._owner, self.held)
            self.held = 0
            self._json = self._body = b""

    @property
    def _owner(self) -> str:
        principal: Principal | None = self.scope.get("principal")
        # Whoever calls a public route shares with others of their address.
        return principal.owner if principal is not None else address_of(self.scope)


def parse_json(text: bytes) -> Any:
    """Parse a caller's JSON. Raises JSONDecodeError, and Invalid if it is too large or cannot be stored."""
    values_in(text)
    value = orjson.loads(text)
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise Invalid(f"JSON nested deeper than {MAX_DEPTH} levels")
    # Postgres cannot store NUL in jsonb. In values it is replaced, as in responses; in names it is refused.
    return _without_nul(value) if b"\\u0000" in text else value


class JsonRoute(APIRoute):
    """A route that reads `JsonRequest`s, and refuses paths whose last segment is not an id but a fixed name."""

    request_type = JsonRequest

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        arguments = Arguments.of(self)
        by_id = self.path.endswith("_id}")

        async def handle_json(request: Request) -> Response:
            if by_id and request.scope["path"].rpartition("/")[2] in FIXED:
                raise HTTPException(405)
            # Whatever its content type: `curl -d` declares a form.
            headers = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
            scope = {**request.scope, "headers": [*headers, (b"content-type", b"application/json")]}
            bounded = self.request_type(scope, request.receive)
            try:
                given = await arguments.found_in(bounded) if arguments is not None else None
                if given is None:
                    return await handle(bounded)
                answer: Response = await self.endpoint(**given)
                return answer
            except HTTPException as error:
                # FastAPI turns whatever reading the body raises into a 400.
                if isinstance(error.__cause__, ApiError):
                    raise error.__cause__ from None
                raise
            finally:
                bounded.forget()

        return handle_json


def pagination(limit: int, offset: int, found: int) -> dict[str, str]:
    """The headers of a page; `found` rows were read, at most `limit + 1`.

    The total is the official server's lower bound, not a count.
    """
    if found > limit:
        return {"X-Pagination-Next": str(offset + limit), "X-Pagination-Total": str(offset + limit + 1)}
    return {"X-Pagination-Total": str(offset + found)}


async def failed(_: Request, error: Exception) -> Response:
    """The response to an unexpected error, which is still raised for the server to log."""
    return _response(Refusal.of(Unexpected()))


def _response(refusal: Refusal) -> Response:
    return _json(refusal.body, refusal.status, refusal.headers)


def install_error_handlers(
    app: FastAPI, methods_of: Callable[[str], Sequence[str]] = lambda path: ()
) -> None:
    """Every error becomes `{"detail": "<sentence>"}`; a 405 names `methods_of(path)` in `Allow`."""

    async def api_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return _response(Refusal.of(error))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        if error.status_code == 405 and (methods := methods_of(path)):
            headers["Allow"] = ", ".join(methods)  # the route that refused knows only its own methods
        return _response(Refusal(error.status_code, error.detail, headers))

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _response(Refusal.of(Invalid(_explain(error))))

    async def database_gone(_: Request, error: Exception) -> Response:
        log.warning(
            "the database did not answer", extra={"event": "database.unavailable", "error": str(error)}
        )
        return _response(Refusal.of(DatabaseSilent()))

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, failed)
    for kind in DATABASE_UNAVAILABLE:
        app.add_exception_handler(kind, database_gone)


def _explain(error: RequestValidationError) -> str:
    problems = error.errors()
    if any(
        p["type"] == "json_invalid" or (p["loc"] == ("body",) and p["type"] == "missing") for p in problems
    ):
        return "Invalid JSON in request body"
    return "\n".join(f"{_place(p['loc'])}: {p['msg'].removeprefix('Value error, ')}" for p in problems)


def _place(loc: tuple[str | int, ...]) -> str:
    """The place in the request, as `config.tags.0`, without the union branches that pydantic has tried."""
    return ".".join(str(part) for part in loc[1:] if "[" not in str(part)) or str(loc[0])


def _deeper_than(value: object, limit: int) -> bool:
    """Whether containers are nested more than `limit` deep; iterative, as the body is the caller's."""
    containers = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        containers = [
            child
            for container in containers
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]
        if not containers:
            return False
    return True


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        if any("\x00" in name for name in value):
            raise Invalid("Property names must not contain NUL characters")
        return {name: _without_nul(item) for name, item in value.items()}
    return value
