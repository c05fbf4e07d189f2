"""What a resource's `openapi.py` is made of: responses, errors, examples.

A `Shape` is documentation only: no request and no response is validated by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from slackwater.errors import ApiError

Json = dict[str, Any]

ErrorKind = type[ApiError] | ApiError
"""An error's class or, where its message needs arguments, an instance."""


def _nothing_required(schema: Json) -> None:
    schema.pop("required", None)


PART = ConfigDict(json_schema_extra=_nothing_required)
"""The config of a shape whose keys are all optional, since the client selects them."""


class Shape(BaseModel):
    """The shape of a response: exactly these keys; those with a default are optional."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ServerSentEvent(Shape):
    """The fields of a server-sent event."""

    event: str
    """The kind of event; absent if only the `id` to resume from is sent."""
    data: str
    """One line of JSON."""
    id: str
    """What to send as `Last-Event-ID` to resume after this event."""
    retry: int
    """How many milliseconds to wait before reconnecting."""

    model_config = PART


class Reason(Shape):
    """What is wrong, for people and for pages."""

    code: str
    message: str


class FieldProblem(Shape):
    """What is wrong with a field of the request."""

    type: str
    loc: list[str]
    msg: str


class Error(Shape):
    """The body of every error."""

    detail: str | Reason | list[FieldProblem]
    """What is wrong and what to do about it; a `Reason` where the server has accounts, and a list of what is wrong with the fields of
    their requests."""


@dataclass(frozen=True, slots=True)
class Response:
    """A successful response of an operation."""

    description: str
    shape: Any = None
    """A `Shape`, or any type that Pydantic has a schema for; None if there is no body."""
    example: Any = None
    media_type: str = "application/json"
    headers: Mapping[str, Json] = field(default_factory=dict)
    """OpenAPI's Header Objects by name."""
    events: str = ""
    """An example of the same response as server-sent events, if the client may ask for them."""
    gives: Mapping[str, str] = field(default_factory=dict)
    """Path parameters of other operations, and where this response contains them: they become links."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What FastAPI does not know about an operation, apart from responses that all operations share."""

    id: str
    responses: Mapping[int, Response]
    errors: Sequence[ErrorKind] = ()
    body: Any = None
    """The type of the request body, if the route parses it itself."""
    bodies: Mapping[str, Any] = field(default_factory=dict)
    """Examples of requests, by name."""
    parameters: Mapping[str, Json] = field(default_factory=dict)
    """Changes to parameters, merged into the Parameter Object."""
    public: bool = False
    """Whether it needs no credentials."""
    session: bool = False
    """Whether it is about the account of whoever calls, which a key has not."""
    stored: bool = True
    """Whether it uses the database."""
    edit: Callable[[Json], None] | None = None
    """Called last, to change the Operation Object."""


def header(
    description: str, schema: Json | None = None, *, required: bool = True, example: Any = None
) -> Json:
    """A Header Object."""
    shown: Json = {"description": description, "required": required, "schema": schema or {"type": "string"}}
    return shown if example is None else {**shown, "example": example}


PAGES: Mapping[str, Json] = {
    "X-Pagination-Total": header(
        "A lower bound of the number of matches: it counts the first one of the next page, if there is a next page.",
        {"type": "integer", "minimum": 0},
        example=11,
    ),
    "X-Pagination-Next": header(
        "The `offset` of the next page; absent on the last page.",
        {"type": "integer", "minimum": 1},
        required=False,
        example=10,
    ),
}
"""The headers of a response that is one page of many."""

NO_CONTENT = Response("Done.")
"""204"""


def page(shape: Any, example: Any) -> Response:
    """One page of a list."""
    return Response("One page of results.", list[shape], [example], headers=PAGES)


def sentence(error: ErrorKind) -> str:
    """The message of an error."""
    return _instance(error).message


def detail_of(error: ErrorKind) -> object:
    """What the body of an error says."""
    return _instance(error).detail


def _instance(error: ErrorKind) -> ApiError:
    return error if isinstance(error, ApiError) else error()


def name_of(error: ErrorKind) -> str:
    return type(error).__name__ if isinstance(error, ApiError) else error.__name__
