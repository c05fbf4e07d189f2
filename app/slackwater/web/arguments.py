"""The arguments of a route's function, analysed once per route instead of once per request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import deepcopy
from dataclasses import dataclass
from inspect import iscoroutinefunction, signature
from typing import TYPE_CHECKING, Any, cast

from fastapi import params
from pydantic import BaseModel
from starlette.requests import Request

from slackwater.errors import ApiError

if TYPE_CHECKING:
    from fastapi.routing import APIRoute

Dependency = Callable[[Request], Awaitable[Any]]

_STRINGS = (str, str | None)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the query or the headers."""

    name: str
    alias: str
    """Its name in the request."""
    is_string: bool
    """Any value is valid and passed unchanged."""
    required: bool
    default: Any


@dataclass(frozen=True, slots=True)
class Arguments:
    """Extracts the arguments of a valid request: strings, the body, and the results of dependencies.

    Everything else is left to FastAPI's own handler, so that invalid requests get FastAPI's usual errors.
    `dependency_overrides` are ignored.
    """

    path: tuple[tuple[str, str], ...]
    """Pairs of a parameter's name and its name in the path."""
    query: tuple[Parameter, ...]
    headers: tuple[Parameter, ...]
    body: Any | None
    """FastAPI's field, which validates it."""
    dependencies: tuple[tuple[str, Dependency], ...]
    request: str | None
    """The parameter that receives the request itself."""

    @classmethod
    def of(cls, route: APIRoute) -> Arguments | None:
        """None for a route that needs FastAPI features not implemented here."""
        wanted = route.dependant
        own = [*wanted.path_params, *wanted.query_params, *wanted.header_params, *wanted.body_params]
        given = {field.name for field in own} | {needed.name for needed in wanted.dependencies}
        if wanted.request_param_name is not None:
            given.add(wanted.request_param_name)
        understood = (
            iscoroutinefunction(route.endpoint)
            and route.response_field is None
            and given == set(signature(route.endpoint).parameters)
            and all(_is_string(field) for field in wanted.path_params)
            and not any(_is_model(field) for field in (*wanted.query_params, *wanted.header_params))
            and all(_takes_the_request(needed) for needed in wanted.dependencies)
            and (not wanted.body_params or _is_whole_body(route))
        )
        if not understood:
            return None
        return cls(
            path=tuple((field.name, field.alias) for field in wanted.path_params),
            query=tuple(_parameter(field) for field in wanted.query_params),
            headers=tuple(_parameter(field) for field in wanted.header_params),
            body=wanted.body_params[0] if wanted.body_params else None,
            dependencies=tuple(
                (str(needed.name), cast("Dependency", needed.call)) for needed in wanted.dependencies
            ),
            request=wanted.request_param_name,
        )

    async def found_in(self, request: Request) -> dict[str, Any] | None:
        """Arguments by name; None if FastAPI has to handle the request. Raises ApiError for a body that is refused."""
        values: dict[str, Any] = {name: request.path_params[key] for name, key in self.path}
        query = request.query_params if request.scope["query_string"] else {}
        for parameters, received in ((self.query, query), (self.headers, request.headers)):
            for parameter in parameters:
                value = received.get(parameter.alias)
                if value is None and not parameter.required:
                    values[parameter.name] = deepcopy(parameter.default)
                elif value is not None and parameter.is_string:
                    values[parameter.name] = value
                else:
                    return None
        if self.body is not None:
            try:
                sent = await request.json() if await request.body() else None
            except ApiError:
                raise
            except Exception:  # invalid JSON, or the client has gone
                return None
            if sent is None:
                return None
            values[self.body.name], errors = self.body.validate(sent, {}, loc=("body",))
            if errors:
                return None
        for name, call in self.dependencies:
            values[name] = await call(request)
        if self.request is not None:
            values[self.request] = request
        return values


def _parameter(field: Any) -> Parameter:
    required = field.field_info.is_required()
    return Parameter(
        field.name, field.alias, _is_string(field), required, None if required else field.default
    )


def _is_string(field: Any) -> bool:
    return field.field_info.annotation in _STRINGS and not field.field_info.metadata


def _is_model(field: Any) -> bool:
    kind = field.field_info.annotation
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _takes_the_request(needed: Any) -> bool:
    return (
        needed.name is not None
        and iscoroutinefunction(needed.call)
        and list(signature(needed.call).parameters) == [needed.request_param_name]
    )


def _is_whole_body(route: APIRoute) -> bool:
    """Whether the body is neither a form nor one of several parts."""
    field = route.dependant.body_params[0]
    return (
        len(route.dependant.body_params) == 1
        and route.body_field is field
        and not isinstance(field.field_info, params.Form)
    )
