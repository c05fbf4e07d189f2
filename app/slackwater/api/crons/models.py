"""What requests for crons look like, and how a cron is shown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    WithJsonSchema,
)

from slackwater.api.crons.schedule import MAX_LENGTH
from slackwater.identity.custom.user import USER_OWNER
from slackwater.identity.principal import LOCAL_OWNER
from slackwater.kit.fields import BOUNDED_LIST, OFFSET_MAX, Integer
from slackwater.kit.json_format import timestamp
from slackwater.kit.reserved import clean_config, clean_configurable, clean_metadata

CronField = Literal[
    "cron_id",
    "assistant_id",
    "thread_id",
    "user_id",
    "end_time",
    "schedule",
    "timezone",
    "payload",
    "next_run_date",
    "metadata",
    "on_run_completed",
    "enabled",
    "created_at",
    "updated_at",
]
SortBy = Literal[
    "cron_id", "assistant_id", "thread_id", "created_at", "updated_at", "next_run_date", "end_time"
]


def _aware(moment: datetime) -> datetime:
    """In UTC, which is also what a time without an offset is meant in."""
    if not 1 < moment.year < 9999:  # no room for another zone's offset
        raise ValueError("must be between the years 2 and 9998")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _text(value: Any) -> Any:
    """Or Pydantic would take a number for seconds."""
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


Moment = Annotated[datetime, BeforeValidator(_text), AfterValidator(_aware)]
Schedule = Annotated[str, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_LENGTH})]
"""A cron expression; `next_date` reads it."""


class RunPayload(BaseModel):
    """What each run is started with; the rules of a request for a run hold for it."""

    input: Any = None
    config: Annotated[dict[str, Any], AfterValidator(clean_config)] = {}
    context: Annotated[dict[str, Any], AfterValidator(clean_configurable)] = {}
    metadata: Annotated[dict[str, Any], AfterValidator(clean_metadata)] = {}
    interrupt_before: Any = None
    interrupt_after: Any = None
    webhook: str | None = None
    stream_mode: Any = None
    stream_subgraphs: StrictBool | None = None
    stream_resumable: StrictBool | None = None
    durability: str | None = None
    checkpoint_during: StrictBool | None = None


RUN_KEYS = (*RunPayload.model_fields, "multitask_strategy")
"""The keys of a payload that a run takes."""


class CronCreate(RunPayload):
    """A run at each time of `schedule`, until `end_time`; without `timezone`, times are in UTC."""

    assistant_id: str
    schedule: Schedule
    timezone: str | None = None
    end_time: Moment | None = None
    enabled: StrictBool = True
    on_run_completed: Literal["delete", "keep"] | None = None
    multitask_strategy: str | None = None


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]  # it stands for a schedule that stays


class CronPatch(RunPayload):
    """Only the fields that are sent change: `metadata` is merged, `end_time` and `timezone` may be null."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    schedule: Schedule = Field("", json_schema_extra=_without_default)
    timezone: str | None = None
    end_time: Moment | None = None
    enabled: StrictBool = True
    on_run_completed: Literal["delete", "keep"] | None = None


class CronFilter(BaseModel):
    """Which crons: `metadata` by containment."""

    assistant_id: UUID | None = None
    thread_id: UUID | None = None
    metadata: dict[str, Any] = {}


class CronSearch(CronFilter):
    enabled: StrictBool | None = None
    limit: Integer = Field(10, ge=1, le=1000)
    offset: Integer = Field(0, ge=0, le=OFFSET_MAX)
    sort_by: SortBy | None = None
    sort_order: Literal["asc", "desc"] | None = None
    select: Annotated[list[CronField], BOUNDED_LIST] | None = None


def view(row: Mapping[str, Any]) -> dict[str, Any]:
    """A cron's row as the API shows it."""
    shown: dict[str, Any] = {}
    for name, value in row.items():
        if name == "owner":
            shown["user_id"] = None if value == LOCAL_OWNER else value.removeprefix(USER_OWNER)
        elif name not in ("revision", "auth_user"):
            shown[name] = timestamp(value) if isinstance(value, datetime) else value
    return shown
