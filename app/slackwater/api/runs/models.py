"""What a request for a run may say, and how a run is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    model_validator,
)

from slackwater.api.threads.models import Checkpoint, CheckpointId, Uuid
from slackwater.kit import json_format
from slackwater.kit.fields import BOUNDED_LIST, INTEGRAL, Integer
from slackwater.kit.reserved import clean_configurable, clean_metadata
from slackwater.runtime.queue.states import RunStatus

StreamMode = Literal[
    "values", "updates", "messages", "messages-tuple", "events", "debug", "tasks", "checkpoints", "custom"
]
READABLE = frozenset(get_args(StreamMode)) | {"metadata", "error", "lifecycle", "tools"}
"""What a reader may ask for. `tools` only runs of protocol v2 publish, and `lifecycle`, a name of the SDKs', none."""
STREAM_MODES_MAX = 100
Breakpoints = Literal["*"] | Annotated[list[str], BOUNDED_LIST]
Configurable = Annotated[dict[str, Any], AfterValidator(clean_configurable)]
Metadata = Annotated[dict[str, Any], AfterValidator(clean_metadata)]


class RunConfig(BaseModel):
    """The part of a `RunnableConfig` that a request may set; the rest is ignored."""

    tags: Annotated[list[str], BOUNDED_LIST] | None = None
    recursion_limit: Integer | None = None
    max_concurrency: Annotated[StrictInt, Field(ge=1), INTEGRAL] | None = None
    configurable: Configurable | None = None
    metadata: Metadata | None = None


class SendTo(BaseModel):
    """A node to start, and its input."""

    node: str
    input: Any = None


class Command(BaseModel):
    """What to do with a thread that has stopped; LangGraph's `Command` as JSON."""

    resume: Any = None
    update: dict[str, Any] | Annotated[list[tuple[str, Any]], BOUNDED_LIST] | None = None
    goto: str | SendTo | Annotated[list[str | SendTo], BOUNDED_LIST] | None = None


class RunCreate(BaseModel):
    """A request for a run. Unknown keys are ignored, because the SDKs send some that have no meaning here."""

    model_config = ConfigDict(extra="ignore")

    together: ClassVar[bool] = False
    """Whether it may have both `config.configurable` and `context`. Then either has the keys of both, and wins in itself."""

    assistant_id: str
    input: Any = None
    command: Command | None = None
    metadata: Metadata = {}
    config: RunConfig = RunConfig()
    context: Configurable = {}
    checkpoint: Checkpoint | None = None
    checkpoint_id: CheckpointId | None = None
    stream_mode: (
        StreamMode | Annotated[list[StreamMode], Field(max_length=STREAM_MODES_MAX, fail_fast=True)]
    ) = "values"
    stream_subgraphs: StrictBool = False
    stream_resumable: StrictBool = False
    interrupt_before: Breakpoints | None = None
    interrupt_after: Breakpoints | None = None
    multitask_strategy: Literal["reject", "interrupt", "rollback", "enqueue"] = "enqueue"
    if_not_exists: Literal["create", "reject"] = "reject"
    on_disconnect: Literal["cancel", "continue"] = "continue"
    on_completion: Literal["delete", "keep"] = "delete"
    after_seconds: Annotated[float, Field(strict=True, allow_inf_nan=False, le=315_360_000)] = 0
    durability: Literal["sync", "async", "exit"] | None = None
    checkpoint_during: StrictBool | None = None
    webhook: Annotated[str, StringConstraints(min_length=1)] | None = None
    """The URL that is notified of the run's end."""
    feedback_keys: Annotated[list[str], BOUNDED_LIST] | None = None

    @property
    def stream_modes(self) -> list[str]:
        """The modes asked for; an empty list means the default."""
        modes: list[str] = [self.stream_mode] if isinstance(self.stream_mode, str) else list(self.stream_mode)
        return modes or ["values"]

    @property
    def kept(self) -> Mapping[str, Any]:
        """What else the run's row keeps of it, under names that are not shown."""
        return {}


BATCH_MAX = 1000

RunBatch = Annotated[list[RunCreate], Field(min_length=1, max_length=BATCH_MAX, fail_fast=True)]
"""Requests for runs without a thread."""


CANCEL_MAX = 1000


class Cancel(BaseModel):
    """Which runs to cancel: some runs of a thread, or all of the caller's runs with a status."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": ["status"],
                    "properties": {
                        "status": {"type": "string"},
                        "thread_id": {"type": "null"},
                        "run_ids": {"type": "null"},
                    },
                },
                {
                    "required": ["thread_id", "run_ids"],
                    "properties": {
                        "status": {"type": "null"},
                        "thread_id": {"type": "string"},
                        "run_ids": {"type": "array", "maxItems": CANCEL_MAX},
                    },
                },
            ]
        }
    )

    status: Literal["pending", "running", "all"] | None = None
    thread_id: Annotated[str, Uuid] | None = None
    run_ids: (
        Annotated[list[Annotated[str, Uuid]], Field(min_length=1, max_length=CANCEL_MAX, fail_fast=True)]
        | None
    ) = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Cancel:
        named = self.thread_id is not None and self.run_ids is not None
        half = (self.thread_id is None) != (self.run_ids is None)
        if half or named == (self.status is not None):
            raise ValueError("must have either status, or thread_id and run_ids")
        return self


_SHOWN_KWARGS = (
    "input", "command", "config", "context", "stream_mode", "interrupt_before", "interrupt_after", "webhook",
    "feedback_keys", "temporary", "subgraphs", "resumable", "checkpoint_during", "durability",
)  # fmt: skip

RUN_FIELDS = (
    "run_id", "thread_id", "assistant_id", "metadata", "status", "kwargs", "multitask_strategy", "created_at",
    "updated_at", "langsmith_session_name",
)  # fmt: skip


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A run's row as the API shows it."""
    return {
        "run_id": str(row["run_id"]),
        "thread_id": str(row["thread_id"]),
        "assistant_id": str(row["assistant_id"]),
        "metadata": row["metadata"],
        "status": RunStatus(row.get("shown_status", row["status"])).value,
        "kwargs": {name: row["kwargs"][name] for name in _SHOWN_KWARGS if name in row["kwargs"]},
        "multitask_strategy": row["multitask_strategy"],
        "created_at": json_format.timestamp(row["created_at"]),
        "updated_at": json_format.timestamp(row["updated_at"]),
        "langsmith_session_name": None,
    }
