"""What requests for items look like."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    WithJsonSchema,
)

from slackwater.errors import BadRequest, Invalid
from slackwater.kit.fields import BOUNDED_LIST, INTEGRAL, OFFSET_MAX

MAX_LIMIT = 10_000
MAX_PLACE_BYTES = 2000
"""Of a namespace and a key together: an index of Postgres holds no more than 2,700, the owner's label included."""

_POSITIVE = Field(gt=0, le=2**31 - 1)
Minutes = Annotated[StrictInt, _POSITIVE] | Annotated[StrictFloat, _POSITIVE]
Paths = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=100, fail_fast=True)
]


def check_labels(labels: list[str]) -> list[str]:
    """The labels. Raises Invalid."""
    for label in labels:
        if not label or "." in label or "\0" in label:
            raise Invalid(f"Namespace label {label!r} must be a non-empty string without periods")
    return labels


def check_key(namespace: list[str], key: str) -> None:
    """Raises BadRequest for a key that names nothing, and Invalid for one that no index can hold."""
    if not key:
        raise BadRequest("Key is required")
    if "\0" in key:
        raise Invalid("key: must not contain NUL characters")
    if len(".".join(namespace).encode()) + len(key.encode()) > MAX_PLACE_BYTES:
        raise Invalid(
            f"The namespace and the key are too long: together they may have at most {MAX_PLACE_BYTES} bytes"
        )


def _or(default: int) -> BeforeValidator:
    """Null and 0 are the default, as they are officially."""
    return BeforeValidator(
        lambda value: default if value is None or (value == 0 and value is not False) else value
    )


def _number_or_null(maximum: int) -> WithJsonSchema:
    return WithJsonSchema({"type": ["integer", "null"], "minimum": 0, "maximum": maximum})


def _no_number(value: Any) -> Any:
    """Or 0 would be taken for false."""
    if not isinstance(value, bool):
        raise ValueError("must be false or a list of paths")
    return value


Label = Annotated[str, WithJsonSchema({"type": "string", "pattern": r"^[^.\u0000]+$"})]
Labels = Annotated[list[Label], BOUNDED_LIST, AfterValidator(check_labels)]
Namespace = Annotated[
    list[str],
    BOUNDED_LIST,
    AfterValidator(check_labels),
    WithJsonSchema(
        {"type": "array", "items": {"type": "string", "pattern": r"^[^.\u0000]+$"}, "minItems": 1}
    ),
]
"""One that an item can be in. That it is not empty is checked later."""
Key = Annotated[str, WithJsonSchema({"type": "string", "minLength": 1})]
Limit = Annotated[StrictInt, Field(ge=1, le=MAX_LIMIT), INTEGRAL]
Offset = Annotated[StrictInt, Field(ge=0, le=OFFSET_MAX), INTEGRAL, _or(0), _number_or_null(OFFSET_MAX)]
NoIndex = Annotated[Literal[False], BeforeValidator(_no_number)]


class ItemPut(BaseModel):
    """`ttl` is in minutes; if it is absent, the default from `langgraph.json` applies; null means forever."""

    namespace: Namespace
    key: Key
    value: dict[str, Any]
    index: NoIndex | Paths | None = None
    ttl: Minutes | None = None


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]  # with which nothing can be deleted


class ItemDelete(BaseModel):
    model_config = ConfigDict(json_schema_extra={"required": ["namespace", "key"]})

    namespace: Annotated[Namespace, Field(json_schema_extra=_without_default)] = []
    key: Key


class ItemSearch(BaseModel):
    """Values by equality, or by `$eq`, `$ne`, `$gt`, `$gte`, `$lt` and `$lte`."""

    namespace_prefix: Labels | None = None
    filter: dict[str, Any] | None = None
    limit: Annotated[Limit, _or(10), _number_or_null(MAX_LIMIT)] = 10
    offset: Offset = 0
    query: str | None = None
    refresh_ttl: StrictBool | None = None


class NamespaceList(BaseModel):
    """`*` matches any one label."""

    prefix: Labels | None = None
    suffix: Labels | None = None
    max_depth: Annotated[StrictInt, Field(ge=1, le=1000), INTEGRAL] | None = None
    limit: Annotated[Limit, _or(100), _number_or_null(MAX_LIMIT)] = 100
    offset: Offset = 0
