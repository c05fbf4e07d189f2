"""What requests of the dialect look like: those of the API, with other defaults. Null means that a key is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PrivateAttr,
    StrictInt,
    StringConstraints,
    model_validator,
)

from slackwater.api.assistants.models import AssistantSearch
from slackwater.api.runs.models import RunConfig, RunCreate
from slackwater.api.threads.models import (
    Checkpoint,
    CheckpointConfig,
    CheckpointId,
    SortBy,
    ThreadField,
    Uuid,
)
from slackwater.kit.fields import BOUNDED_LIST, INTEGRAL, OFFSET_MAX, Integer
from slackwater.kit.reserved import RUN_KEYS, clean_configurable, clean_metadata

OWNERS = frozenset({"user_id", "owner_id"})
"""Whose a thread is, only the server says."""

RECURSION_LIMIT = 100
"""How many supersteps a run may take that does not say how many."""


def _without_owners(metadata: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in clean_metadata(metadata).items() if key not in OWNERS}


def _public(configurable: dict[str, Any]) -> dict[str, Any]:
    """Without names that only code of the server uses."""
    return {key: value for key, value in clean_configurable(configurable).items() if not key.startswith("__")}


def _of_client(context: dict[str, Any]) -> dict[str, Any]:
    """Also without what only the server says."""
    return {key: value for key, value in _public(context).items() if key not in RUN_KEYS}


OwnMetadata = Annotated[dict[str, Any], AfterValidator(_without_owners)]
Context = Annotated[dict[str, Any], AfterValidator(_of_client)]


class _Lenient(BaseModel):
    """Its clients send null for what they leave out."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if item is not None}


class GatewayThread(_Lenient):
    """A thread to make; one's own that is there already is the answer, too."""

    thread_id: Annotated[str, Uuid] | None = None
    metadata: OwnMetadata = {}


class GatewayThreadPatch(_Lenient):
    """`metadata` is merged into the thread's."""

    metadata: OwnMetadata = {}


Scalar = str | bool | StrictInt | float | None
MetadataKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]


class GatewayThreadSearch(_Lenient):
    """Which threads; of their values, the title is shown."""

    metadata: dict[MetadataKey, Scalar] = {}
    status: Literal["idle", "busy", "running", "interrupted", "error"] | None = None
    limit: Integer = Field(100, ge=1, le=1000)
    offset: Integer = Field(0, ge=0, le=OFFSET_MAX)
    sort_by: SortBy = "updated_at"
    sort_order: Literal["asc", "desc"] = "desc"
    select: Annotated[list[ThreadField], BOUNDED_LIST] = []


class GatewayStateUpdate(_Lenient):
    """`values` as if a node had written them: `as_node`, or else one of those that ran last."""

    values: dict[str, Any] = {}
    as_node: str | None = None
    checkpoint: Checkpoint | None = None
    checkpoint_id: CheckpointId | None = None


class GatewayHistory(_Lenient):
    """States from the newest to the oldest: those before the checkpoint `before`."""

    limit: Annotated[StrictInt, Field(ge=1, le=100), INTEGRAL] = 10
    before: CheckpointId | CheckpointConfig | Checkpoint | None = None


class GatewayConfig(_Lenient, RunConfig):
    """A config whose `context`, where it has one, counts instead of its `configurable`."""

    configurable: Annotated[dict[str, Any], AfterValidator(_public)] | None = None
    context: Context | None = None


class GatewayRun(_Lenient, RunCreate):
    """A request for a run. `assistant_id` may be any name: see docs/gateway.md."""

    together: ClassVar[bool] = True

    assistant_id: str = ""
    config: GatewayConfig = GatewayConfig()
    context: Context = {}
    multitask_strategy: Literal["reject", "interrupt", "rollback", "enqueue"] = "reject"
    if_not_exists: Literal["create", "reject"] = "create"
    on_disconnect: Literal["cancel", "continue"] = "cancel"
    on_completion: Literal["delete", "keep"] = "keep"
    _asked_for: str | None = PrivateAttr(None)

    @property
    def kept(self) -> Mapping[str, Any]:
        return {} if self._asked_for is None else {ASKED_FOR: self._asked_for}

    def resolved(self, assistant: str, **changes: Any) -> GatewayRun:
        """The same for the assistant that it means; what it says itself is kept for who lists runs."""
        run = self.model_copy(update={"assistant_id": assistant, **changes})
        run._asked_for = self.assistant_id or assistant
        return run


ASKED_FOR = "gateway_assistant"
"""Among the `kwargs` of a run: the assistant by the name that its client uses."""


class GatewayAssistantSearch(_Lenient, AssistantSearch):
    """Which assistants: `metadata` by containment, `name` by a case-insensitive substring."""
