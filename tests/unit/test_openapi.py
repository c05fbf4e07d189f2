"""The OpenAPI document: complete, valid, and committed as it is served."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

from scripts import openapi
from slackwater.errors import ApiError
from slackwater.main import create_app
from slackwater.web.application import Application
from slackwater.web.openapi.pieces import Operation

OTHER_REFUSALS = {
    ("GET /", "503"),
    ("GET /ok", "503"),
    ("GET /ready", "503"),
    ("POST /mcp", "400"),
    ("POST /threads/{thread_id}/commands", "400"),
}
"""What is told by a status, or in the words of a protocol, and is no sentence."""


@cache
def document() -> dict[str, Any]:
    return create_app().openapi()


def operations() -> dict[str, dict[str, Any]]:
    """The Operation Objects by `METHOD /path`."""
    return {
        f"{method.upper()} {path}": shown
        for path, item in document()["paths"].items()
        for method, shown in item.items()
    }


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """The part itself, or what it refers to."""
    while (where := part.get("$ref")) is not None:
        part = document()
        for name in where.removeprefix("#/").split("/"):
            part = part[name]
    return part


def contents() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Operation, place, and Media Type Object of every body that can be sent or answered."""
    for route, shown in operations().items():
        bodies = {"request": resolved(shown.get("requestBody", {}))}
        bodies |= {status: resolved(answer) for status, answer in shown["responses"].items()}
        for place, body in bodies.items():
            for media_type, content in body.get("content", {}).items():
                yield route, f"{place} {media_type}", content


def examples_of(content: dict[str, Any]) -> list[Any]:
    several = [resolved(example)["value"] for example in content.get("examples", {}).values()]
    return [content["example"]] if "example" in content else several


def test_the_committed_document_is_the_one_that_is_served() -> None:
    committed = openapi.DOCUMENT.read_text()
    assert committed == openapi.text(), "run: python -m scripts.openapi"


def test_it_is_valid() -> None:
    OpenAPIV31SpecValidator(document()).validate()


def test_it_is_made_once_and_with_the_same_keys_whatever_was_built_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")
    monkeypatch.delenv("AWS_LAMBDA_INITIALIZATION_TYPE", raising=False)
    late = create_app()
    late._build(["slackwater.api.store.routes"])

    assert list(late.openapi()["paths"]) == list(document()["paths"])
    assert late.openapi() is late.openapi()


def test_every_route_is_described_and_nothing_else_is() -> None:
    described: dict[str, Operation] = {}
    for module in Application.resources().values():
        described |= import_module(module).OPERATIONS

    assert described.keys() == operations().keys()
    assert {route: shown["operationId"] for route, shown in operations().items()} == {
        route: operation.id for route, operation in described.items()
    }
    assert len({operation.id for operation in described.values()}) == len(described)


def test_every_route_says_what_it_does_in_its_docstring() -> None:
    """FastAPI makes a summary of a function's name where there is none."""
    for route, shown in operations().items():
        assert shown["summary"] != shown["operationId"].replace("_", " ").title(), route
        assert not shown["summary"].istitle(), route


def test_every_parameter_says_what_it_means() -> None:
    for route, shown in operations().items():
        for parameter in shown.get("parameters", ()):
            assert parameter.get("description"), (route, parameter["name"])


def test_every_body_has_a_schema_and_an_example() -> None:
    for route, place, content in contents():
        assert "schema" in content, (route, place)
        assert examples_of(content), (route, place)


def test_every_example_is_what_its_schema_says() -> None:
    for route, place, content in contents():
        if place.endswith("text/event-stream"):
            continue  # the schema is that of an event, the example a whole stream
        schema = {**content["schema"], "components": document()["components"]}  # which it refers to
        validator = Draft202012Validator(schema, format_checker=FormatChecker(["uuid"]))
        for example in examples_of(content):
            assert [error.message for error in validator.iter_errors(example)] == [], (route, place)


def message_of(detail: Any) -> str:
    """What an error says to people."""
    if isinstance(detail, list):
        (detail,) = detail
        return str(detail["msg"])
    return str(detail if isinstance(detail, str) else detail["message"])


FORBIDDEN = ("CsrfTokenMismatch", "CsrfTokenMissing", "ForeignPage")
"""Kinds of Forbidden that concern the page which sends a request, whichever it is."""


def test_every_error_class_is_one_entry() -> None:
    def below(kind: type[ApiError]) -> Iterator[type[ApiError]]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    responses = document()["components"]["responses"]
    kinds = {kind.__name__: kind for kind in below(ApiError) if kind.__module__.startswith("slackwater.")}

    del kinds["Overtaken"]  # a due cron's, of which no client hears
    del kinds["RunsDisabled"]  # where no route is left that starts one
    del kinds["RefusedByAuth"]  # what a project says, whose own description the document gets
    del kinds["AuthBroken"]  # nor of that which fails
    del kinds["NoWebSocket"]  # a path's that is described for its other method
    for name in FORBIDDEN:
        kinds.pop(name, None)  # nobody may have imported it
    assert responses.keys() == kinds.keys()
    for name, kind in kinds.items():
        (content,) = responses[name]["content"].values()
        (sentence,) = [message_of(example["detail"]) for example in examples_of(content)]
        assert kind.headers.keys() <= responses[name].get("headers", {}).keys()
        if "__init__" not in vars(kind):
            assert sentence == inspect.getdoc(kind)


def test_every_error_is_a_sentence() -> None:
    for route, place, content in contents():
        if place[0] in "45" and (route, place[:3]) not in OTHER_REFUSALS:
            assert content["schema"] == {"$ref": "#/components/schemas/Error"}, (route, place)
    assert "HTTPValidationError" not in openapi.text()


LOGINS = {
    *(f"POST /api/v1/auth/{name}" for name in ("login/local", "token")),
    "GET /api/v1/auth/callback/{provider}",
    "POST /api/channels/{name}/webhook",
}
"""Whoever gives a wrong password, is vouched for wrongly, or signs wrongly, is refused, too."""
SESSION = {
    *(f"GET /api/v1/auth/{name}" for name in ("me", "sessions")),
    "POST /api/v1/auth/oauth/{provider}/link",
    *("POST /api/v1/auth/change-password", "DELETE /api/v1/auth/sessions/{session_id}"),
}
PUBLIC = {
    *("GET /", "GET /ok", "GET /info", "GET /health", "GET /ready"),
    *("GET /api/v1/auth/setup-status", "GET /api/v1/auth/setup", "GET /api/v1/auth/oauth/{provider}"),
    *(f"POST /api/v1/auth/{name}" for name in ("initialize", "register", "logout")),
    *LOGINS,
}


def test_what_needs_a_key_says_so() -> None:
    for route, shown in operations().items():
        public = route in PUBLIC
        if route not in LOGINS:
            assert ("401" in shown["responses"]) is not public, route
        assert shown["security"] == ([] if public else [{"session" if route in SESSION else "apiKey": []}]), (
            route
        )
