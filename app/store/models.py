"""What requests for items look like."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StrictFloat, StrictInt

from app.errors import BadRequest, Invalid

BIGINT_MAX = 2**63 - 1
MAX_LIMIT = 10_000
MAX_PLACE_BYTES = 2000
"""Of a namespace and a key together: an index of Postgres holds no more than 2,700, the owner's label included."""

Minutes = Annotated[StrictInt | StrictFloat, Field(gt=0, le=2**31 - 1)]
Offset = Annotated[StrictInt, Field(ge=0, le=BIGINT_MAX - MAX_LIMIT)]
Paths = Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=100)]


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
            f"The namespace and the key are too long: together they may have {MAX_PLACE_BYTES} bytes"
        )


def _or(default: int) -> BeforeValidator:
    """Null and 0 are the default, as they are officially."""
    return BeforeValidator(
        lambda value: default if value is None or (value == 0 and value is not False) else value
    )


Labels = Annotated[list[str], AfterValidator(check_labels)]


class ItemPut(BaseModel):
    """`ttl` in minutes: left out, the default of `langgraph.json`; null, for ever."""

    namespace: Labels
    key: str
    value: dict[str, Any]
    index: Literal[False] | Paths | None = None
    ttl: Minutes | None = None


class ItemDelete(BaseModel):
    namespace: Labels = []
    key: str


class ItemSearch(BaseModel):
    """Values by equality, or by `$eq`, `$ne`, `$gt`, `$gte`, `$lt` and `$lte`."""

    namespace_prefix: Labels | None = None
    filter: dict[str, Any] | None = None
    limit: Annotated[StrictInt, Field(ge=1, le=MAX_LIMIT), _or(10)] = 10
    offset: Annotated[Offset, _or(0)] = 0
    query: str | None = None
    refresh_ttl: bool | None = None


class NamespaceList(BaseModel):
    """`*` stands for any one label."""

    prefix: Labels | None = None
    suffix: Labels | None = None
    max_depth: Annotated[StrictInt, Field(ge=1, le=1000)] | None = None
    limit: Annotated[StrictInt, Field(ge=1, le=MAX_LIMIT), _or(100)] = 100
    offset: Annotated[Offset, _or(0)] = 0
