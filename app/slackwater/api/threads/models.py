"""What threads look like: in requests and in answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, Field, StrictBool, StrictInt, WithJsonSchema

from slackwater.graphs.snapshot import FIELDS
from slackwater.kit.fields import BOUNDED_LIST, INTEGRAL, OFFSET_MAX, Integer
from slackwater.kit.ids import parse_uuid
from slackwater.kit.json_format import timestamp
from slackwater.kit.reserved import clean_metadata
from slackwater.project.ttl import MAX_MINUTES

Metadata = Annotated[dict[str, Any], AfterValidator(clean_metadata)]
Status = Literal["idle", "busy", "interrupted", "error"]
SortBy = Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"]
ThreadField = Literal[
    "thread_id",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "config",
    "status",
    "values",
    "interrupts",
]


def _state_field(text: str) -> str:
    if text not in FIELDS and not text.startswith("values."):
        raise ValueError(f"must be one of {', '.join(FIELDS)}, or values.<key>")
    return text


def _checkpoint_id(text: str) -> str:
    return str(parse_uuid(text, "checkpoint"))


StateField = Annotated[
    str,
    AfterValidator(_state_field),
    WithJsonSchema({"type": "string", "pattern": rf"^(({'|'.join(FIELDS)})$|values\.)"}),
]
Uuid = WithJsonSchema({"type": "string", "format": "uuid"})
"""What the document says of a text that `parse_uuid` reads."""
CheckpointId = Annotated[str, AfterValidator(_checkpoint_id), Uuid]
HistoryLimit = Annotated[StrictInt, Field(ge=1, le=1000), INTEGRAL]


EXTRACT_ROOTS = ("config", "interrupts", "metadata", "values")

_BELOW = r"(?:\.[^.\[\]]+|\[-?[0-9]{1,9}\])*"
_PATH = re.compile(rf"([^.\[\]]+)({_BELOW})")
_SEGMENT = re.compile(r"\.([^.\[\]]+)|\[(-?[0-9]+)\]")


def parse_path(text: str) -> tuple[str, list[str] | None]:
    """`values.messages[-1].content` as its root and the keys below it; None for keys that are nobody's business.

    Raises ValueError for what is no path.
    """
    match = _PATH.fullmatch(text)
    if match is None or match[1] not in EXTRACT_ROOTS:
        raise ValueError(f"Extract path '{text}' must start with one of: {', '.join(EXTRACT_ROOTS)}")
    keys = [name or index for name, index in _SEGMENT.findall(match[2])]
    return match[1], None if any(key.startswith("_") for key in keys) else keys


def _extract(paths: dict[str, str]) -> dict[str, str]:
    for alias, path in paths.items():
        if not (alias.isascii() and alias.isidentifier()) or alias in (*get_args(ThreadField), "error"):
            raise ValueError(
                f"Extract alias '{alias}' must be an identifier, and must not be one of a thread's own fields"
            )
        parse_path(path)
    return paths


Extract = Annotated[
    dict[str, str],
    Field(max_length=10),
    AfterValidator(_extract),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": 10,
            "propertyNames": {
                "pattern": "^[A-Za-z_][A-Za-z0-9_]*$",
                "not": {"enum": [*get_args(ThreadField), "error"]},
            },
            "additionalProperties": {
                "type": "string",
                "pattern": f"^({'|'.join(EXTRACT_ROOTS)}){_BELOW.replace('?:', '')}$",
            },
        }
    ),
]
Minutes = Annotated[float, Field(strict=True, gt=0, le=MAX_MINUTES, allow_inf_nan=False)]


class Ttl(BaseModel):
    """How many minutes a thread may be inactive, and what happens then."""

    ttl: Minutes
    strategy: Literal["delete", "keep_latest"] = "delete"


class StepCommand(BaseModel):
    """LangGraph's `Command`, as far as it applies to a state update."""

    update: dict[str, Any] | Annotated[list[tuple[str, Any]], BOUNDED_LIST] | None = None
    resume: Any = None
    goto: str | dict[str, Any] | Annotated[list[str | dict[str, Any]], BOUNDED_LIST] | None = None


class StepUpdate(BaseModel):
    """`values` or `command`, as if node `as_node` had written it."""

    values: dict[str, Any] | list[Any] | None = None
    command: StepCommand | None = None
    as_node: str | None = None


class Superstep(BaseModel):
    """What several nodes wrote in the same superstep."""

    updates: Annotated[list[StepUpdate], Field(min_length=1, max_length=1000, fail_fast=True)]


class ThreadCreate(BaseModel):
    thread_id: Annotated[str, Uuid] | None = None
    metadata: Metadata = {}
    if_exists: Literal["raise", "do_nothing"] = "raise"
    ttl: Minutes | Ttl | None = None
    supersteps: Annotated[list[Superstep], BOUNDED_LIST] | None = None


class ThreadPatch(BaseModel):
    """`metadata` is merged into the existing metadata; keys cannot be removed. A `ttl` of null means forever."""

    metadata: Metadata = {}
    ttl: Minutes | Ttl | None = None


class Prune(BaseModel):
    """Delete threads, or everything but their newest state."""

    thread_ids: Annotated[list[Annotated[str, Uuid]], BOUNDED_LIST]
    strategy: Literal["delete", "keep_latest"] = "delete"


class ThreadFilter(BaseModel):
    """Which threads: `metadata` and `values` by containment."""

    ids: Annotated[list[Annotated[str, Uuid]], BOUNDED_LIST] = []
    metadata: dict[str, Any] = {}
    values: dict[str, Any] = {}
    status: Status | None = None


class ThreadSearch(ThreadFilter):
    limit: Integer = Field(10, ge=1, le=1000)
    offset: Integer = Field(0, ge=0, le=OFFSET_MAX)
    sort_by: SortBy | None = None
    sort_order: Literal["asc", "desc"] | None = None
    select: Annotated[list[ThreadField], BOUNDED_LIST] | None = None
    extract: Extract | None = None


class Checkpoint(BaseModel):
    """A place in the history of the thread, or of one of its subgraphs. A `thread_id` beside it is ignored."""

    checkpoint_id: CheckpointId | None = None
    checkpoint_ns: str | None = None
    checkpoint_map: Annotated[dict[str, str], Field(max_length=100)] | None = None


class CheckpointConfig(BaseModel):
    """A checkpoint inside a config, as the JavaScript SDK sends it."""

    configurable: Checkpoint


class StateAt(BaseModel):
    checkpoint: Checkpoint
    subgraphs: StrictBool = False
    select: Annotated[list[StateField], BOUNDED_LIST] = []


class StateUpdate(BaseModel):
    """`values` as if node `as_node` had written them; None only skips the node."""

    values: dict[str, Any] | list[Any] | None = None
    as_node: str | None = None
    checkpoint: Checkpoint | None = None
    checkpoint_id: CheckpointId | None = None


class HistorySearch(BaseModel):
    """States from the newest to the oldest, those before the checkpoint `before`; `metadata` by containment."""

    limit: HistoryLimit = 1
    before: CheckpointId | CheckpointConfig | Checkpoint | None = None
    metadata: dict[str, Any] | None = None
    checkpoint: Checkpoint | None = None
    select: Annotated[list[StateField], BOUNDED_LIST] = []

    @property
    def before_id(self) -> str | None:
        """The id of the checkpoint `before`."""
        if isinstance(self.before, CheckpointConfig):
            return self.before.configurable.checkpoint_id
        return self.before.checkpoint_id if isinstance(self.before, Checkpoint) else self.before


def view(row: Mapping[str, Any]) -> dict[str, Any]:
    """A thread, or the selected columns of one, as the API shows it."""
    return {name: timestamp(value) if isinstance(value, datetime) else value for name, value in row.items()}
