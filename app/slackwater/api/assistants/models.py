"""What requests for assistants look like."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from pydantic import AfterValidator, BaseModel, Field, StrictInt, WithJsonSchema

from slackwater.errors import Invalid
from slackwater.kit.fields import BOUNDED_LIST, INTEGRAL, OFFSET_MAX, Integer
from slackwater.kit.reserved import clean_config, clean_configurable, clean_metadata


class _Config(BaseModel, extra="allow"):
    tags: Annotated[list[str], BOUNDED_LIST] = []
    recursion_limit: StrictInt = 25
    configurable: dict[str, Any] = {}


def _checked_config(value: dict[str, Any]) -> dict[str, Any]:
    _Config.model_validate(value)
    return clean_config(value)


Config = Annotated[
    dict[str, Any],
    AfterValidator(_checked_config),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                "tags": {"type": "array", "items": {"type": "string"}},
                "recursion_limit": {"type": "integer"},
                "configurable": {"type": "object"},
            },
        }
    ),
]
Context = Annotated[dict[str, Any], AfterValidator(clean_configurable)]
Metadata = Annotated[dict[str, Any], AfterValidator(clean_metadata)]

Field_ = Literal[
    "assistant_id",
    "graph_id",
    "config",
    "context",
    "metadata",
    "name",
    "created_at",
    "updated_at",
    "version",
    "description",
]
SortBy = Literal["assistant_id", "graph_id", "name", "created_at", "updated_at"]


class AssistantCreate(BaseModel):
    graph_id: str
    assistant_id: UUID = Field(default_factory=uuid4)
    config: Config = {}
    context: Context = {}
    metadata: Metadata = {}
    if_exists: Literal["raise", "do_nothing"] = "raise"
    name: str | None = None
    description: str | None = None


class AssistantPatch(BaseModel):
    """Only the fields that are sent change: `metadata` is merged, `config` and `context` are replaced."""

    graph_id: str | None = None
    config: Config | None = None
    context: Context | None = None
    metadata: Metadata = {}
    name: str | None = None
    description: str | None = None


class VersionSearch(BaseModel):
    """Which versions of an assistant, from the newest: `metadata` by containment."""

    metadata: dict[str, Any] = {}
    limit: Integer = Field(10, ge=1, le=1000)
    offset: Integer = Field(0, ge=0, le=OFFSET_MAX)


class Latest(BaseModel):
    """The version that runs use from now on."""

    version: Annotated[StrictInt, Field(ge=-(2**31), lt=2**31), INTEGRAL] | None = None


class AssistantFilter(BaseModel):
    """Which assistants: `metadata` by containment, `name` by a case-insensitive substring."""

    metadata: dict[str, Any] = {}
    graph_id: str | None = None
    name: str | None = None


class AssistantSearch(AssistantFilter):
    limit: Integer = Field(10, ge=1, le=1000)
    offset: Integer = Field(0, ge=0, le=OFFSET_MAX)
    sort_by: SortBy | None = None
    sort_order: Literal["asc", "desc"] | None = None
    select: Annotated[list[Field_], BOUNDED_LIST] | None = None


def depth_of(xray: str) -> int | bool:
    """How many levels of subgraphs to draw, from the query. Raises Invalid."""
    if xray in ("", "false", "False"):
        return False
    if xray in ("true", "True"):
        return True
    if xray.isdecimal() and len(xray) < 10 and (depth := int(xray)) > 0:
        return depth
    raise Invalid("Invalid xray value")
