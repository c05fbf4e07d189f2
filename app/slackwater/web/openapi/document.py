"""Completes FastAPI's document."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from slackwater.errors import (
    BodyTooLarge,
    BodyTooSlow,
    Crowded,
    DatabaseSilent,
    Draining,
    Forbidden,
    Invalid,
    NotJson,
    PageTooLarge,
    ResponseTooLarge,
    SigningKeyUnreadable,
    TokenExpired,
    TokenInvalid,
    TooManyRequests,
    TooManyStreams,
    Unauthorized,
    Unexpected,
)
from slackwater.identity.limits.streams import stays_open
from slackwater.web.openapi.parameters import PARAMETERS
from slackwater.web.openapi.pieces import (
    Error,
    ErrorKind,
    Json,
    Operation,
    Response,
    ServerSentEvent,
    detail_of,
    header,
    name_of,
    sentence,
)

KEY = "apiKey"
SESSION = "session"
"""Where there are accounts."""

_SCHEMES: Json = {
    KEY: {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The secret printed by `slackwater keys new`. A server without keys serves only its own "
        "machine, and requires none.",
    },
    SESSION: {
        "type": "http",
        "scheme": "bearer",
        "description": "The token of a user who has logged in. A page has it in a cookie, and sends `X-CSRF-Token` as well.",
    },
}

_METHODS = ("get", "put", "post", "delete", "patch")
_FASTAPIS_OWN = ("HTTPValidationError", "ValidationError")
_TOO_LARGE = ResponseTooLarge(7_340_032, 6_225_920)
_HEADERS = {
    "Retry-After": "How many seconds to wait before trying again.",
    "Connection": "The connection closes after this response.",
    "Location": "Where to resume.",
    "Allow": "The methods that this path has.",
    "Content-Range": "How many bytes there are.",
}
_BODY = 0
"""In place of a status: the request body."""
_ERROR, _EVENT = ("error", _BODY), ("event", _BODY)
_PATH_PARAMETER = re.compile(r"{(\w+)}")


def complete(document: Json, operations: Mapping[str, Operation], tags: Mapping[str, str]) -> Json:
    """The document, completed by `operations`, keyed `METHOD /path`; others stay as FastAPI describes them."""
    routes = {
        f"{method.upper()} {path}": (shown, operations[f"{method.upper()} {path}"])
        for path, item in sorted(document["paths"].items())  # whatever the order in which they were built
        for method, shown in item.items()
        if f"{method.upper()} {path}" in operations
    }
    shapes, definitions = _schemas_of({route: operation for route, (_, operation) in routes.items()})
    for route, (shown, operation) in routes.items():
        if operation.body is not None:
            content = {"application/json": {"schema": shapes[route, _BODY]}}
            shown["requestBody"] = {"required": True, "content": content}
    ids = {route: operation.id for route, (_, operation) in routes.items()}
    errors: dict[str, ErrorKind] = {}
    for route, (shown, operation) in routes.items():
        kinds = list(_errors_of(route, shown, operation))
        errors |= {name_of(kind): kind for kind in kinds}
        responses = {
            str(status): _response(
                response, shapes.get((route, status)), shapes[_EVENT], _links(response, ids)
            )
            for status, response in operation.responses.items()
        }
        shown["responses"] = dict(sorted((responses | _error_responses(kinds, responses)).items()))
        _describe(shown, operation)
    schemas = document.get("components", {}).get("schemas", {})
    if twice := schemas.keys() & definitions.keys():
        raise ValueError(f"a shape has the name of a request's model: {', '.join(sorted(twice))}")
    schemas |= definitions
    return {
        **document,
        "paths": {
            path: {method: item[method] for method in _METHODS if method in item}
            for path, item in sorted(document["paths"].items())
        },
        "tags": [{"name": name, "description": text} for name, text in tags.items()],
        "components": {
            "schemas": {
                name: _untitled(schema)
                for name, schema in sorted(schemas.items())
                if name not in _FASTAPIS_OWN
            },
            "responses": {name: _error_response([kind]) for name, kind in sorted(errors.items())},
            "examples": {
                name: {"value": {"detail": detail_of(kind)}} for name, kind in sorted(errors.items())
            },
            "securitySchemes": _SCHEMES
            if any(each.session for _, each in routes.values())
            else {KEY: _SCHEMES[KEY]},
        },
    }


def _schemas_of(operations: Mapping[str, Operation]) -> tuple[dict[tuple[str, int], Json], Json]:
    """The schemas of all bodies by route and status, and the definitions they refer to."""
    mode: JsonSchemaMode = "validation"
    inputs: list[tuple[tuple[str, int], JsonSchemaMode, TypeAdapter[Any]]] = [
        ((route, status), mode, TypeAdapter(response.shape))
        for route, operation in operations.items()
        for status, response in operation.responses.items()
        if response.shape is not None
    ]
    inputs += [
        ((route, _BODY), mode, TypeAdapter(operation.body))
        for route, operation in operations.items()
        if operation.body is not None
    ]
    inputs += [(_ERROR, mode, TypeAdapter(Error)), (_EVENT, mode, TypeAdapter(ServerSentEvent))]
    schemas, rest = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
    return {key: _untitled(schema) for (key, _), schema in schemas.items()}, rest["$defs"]


def _errors_of(route: str, shown: Json, operation: Operation) -> Iterator[ErrorKind]:
    """The errors that the operation may respond with."""
    if not operation.public:
        yield from (Unauthorized, TokenExpired, TokenInvalid, Forbidden, TooManyRequests)
        yield from (Draining, SigningKeyUnreadable)
        if stays_open("http", *route.split(" ", 1)):
            yield TooManyStreams
    if "requestBody" in shown:
        yield from (BodyTooLarge, BodyTooSlow, Crowded)
        if not operation.public:
            yield NotJson
    if "requestBody" in shown or "parameters" in shown:
        yield Invalid
    yield from operation.errors
    if PageTooLarge in operation.errors:
        yield Crowded
    if any(response.shape is not None for response in operation.responses.values()) and not operation.public:
        yield _TOO_LARGE
    if operation.stored:
        yield DatabaseSilent
    yield Unexpected


def _response(response: Response, schema: Json | None, event: Json, links: Json) -> Json:
    shown: Json = {"description": response.description}
    if response.headers:
        shown["headers"] = dict(response.headers)
    if schema is not None:
        shown["content"] = {response.media_type: {"schema": schema, "example": response.example}}
    if response.events:
        shown.setdefault("content", {})["text/event-stream"] = {"schema": event, "example": response.events}
    if links:
        shown["links"] = links
    return shown


def _links(response: Response, ids: Mapping[str, str]) -> Json:
    """Links to the operations that take what the response contains."""
    links: Json = {}
    for route, operation_id in ids.items():
        names = _PATH_PARAMETER.findall(route)
        if names and response.gives.keys() == set(names):
            links[operation_id] = {
                "operationId": operation_id,
                "parameters": {name: response.gives[name] for name in names},
            }
    return links


def _error_responses(kinds: Sequence[ErrorKind], responses: Mapping[str, Json]) -> Json:
    """The error responses, by status."""
    by_status: dict[str, dict[str, ErrorKind]] = {}
    for kind in kinds:
        by_status.setdefault(str(kind.status), {})[name_of(kind)] = kind
    return {
        status: {"$ref": f"#/components/responses/{next(iter(same))}"}
        if len(same) == 1
        else _error_response(list(same.values()))
        for status, same in by_status.items()
        if status not in responses
    }


def _error_response(kinds: Sequence[ErrorKind]) -> Json:
    """The Response Object for errors with the same status."""
    names = [name_of(kind) for kind in kinds]
    shown: Json = {
        "description": sentence(kinds[0]) if len(kinds) == 1 else HTTPStatus(kinds[0].status).phrase,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Error"},
                "examples": {name: {"$ref": f"#/components/examples/{name}"} for name in names},
            }
        },
    }
    headers = {
        name: header(
            _HEADERS[name], required=all(name in other.headers for other in kinds), example=kind.headers[name]
        )
        for kind in kinds
        for name in kind.headers
    }
    return {**shown, "headers": headers} if headers else shown


def _describe(shown: Json, operation: Operation) -> None:
    """Set the operation id, summary, parameters and examples."""
    shown["operationId"] = operation.id
    summary, _, rest = shown.pop("description", shown["summary"]).partition("\n")
    shown["summary"] = summary.strip().removesuffix(".")
    if rest.strip():
        shown["description"] = rest.strip()
    for parameter in shown.get("parameters", ()):
        parameter["schema"] = _untitled(_sendable(parameter["schema"]))
        parameter |= PARAMETERS.get(parameter["name"], {}) | operation.parameters.get(parameter["name"], {})
    if operation.bodies:
        (content,) = shown["requestBody"]["content"].values()
        content["examples"] = {name: {"value": value} for name, value in operation.bodies.items()}
    shown["security"] = [] if operation.public else [{SESSION if operation.session else KEY: []}]
    if operation.edit is not None:
        operation.edit(shown)


def _sendable(schema: Json) -> Json:
    """The schema without null, which cannot be sent in a query or a header."""
    branches = [branch for branch in schema.get("anyOf", ()) if branch != {"type": "null"}]
    return branches[0] if len(branches) == 1 else schema


def _untitled(schema: Any) -> Any:
    """Remove the titles that Pydantic derives from names."""
    if isinstance(schema, list):
        return [_untitled(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _untitled(value) for key, value in schema.items() if key != "title" or not isinstance(value, str)
    }
