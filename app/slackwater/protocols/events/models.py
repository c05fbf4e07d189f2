"""What the commands of protocol v2 may say."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, StrictStr, ValidationError, field_validator, model_validator

from slackwater.kit.fields import BOUNDED_LIST


class CommandMethod(StrEnum):
    """What may be asked."""

    START = "run.start"
    RESPOND = "input.respond"
    TREE = "agent.getTree"
    # By WebSocket only.
    SUBSCRIBE = "subscription.subscribe"
    UNSUBSCRIBE = "subscription.unsubscribe"
    RECONNECT = "subscription.reconnect"


STRATEGIES = ("reject", "rollback", "interrupt", "enqueue")


class Parameters(BaseModel):
    """Of a command that starts a run."""

    config: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None

    @field_validator("config")
    @classmethod
    def _fork(cls, config: dict[str, Any] | None) -> dict[str, Any] | None:
        configurable = (config or {}).get("configurable")
        if configurable is not None and not isinstance(configurable, dict):
            raise ValueError("config.configurable must be an object.")
        checkpoint_id = (configurable or {}).get("checkpoint_id")
        if checkpoint_id is None:
            return config
        if not isinstance(checkpoint_id, str) or not checkpoint_id.strip():
            raise ValueError("config.configurable.checkpoint_id must be a non-empty string.")
        try:
            UUID(checkpoint_id)
        except ValueError:
            raise ValueError(f"Invalid config.configurable.checkpoint_id: {checkpoint_id!r}.") from None
        return config


class Tracer(BaseModel):
    """Where LangSmith should trace a run. There is no LangSmith here; what is wrong with it is said all the same."""

    project_name: StrictStr | None = None
    example_id: StrictStr | None = None


class RunStart(Parameters):
    """The parameters of `run.start`."""

    assistant_id: Annotated[StrictStr, Field(min_length=1)]
    input: Any = None
    multitaskStrategy: Any = None
    langsmith_tracer: Tracer | None = None

    @property
    def strategy(self) -> Literal["reject", "rollback", "interrupt", "enqueue"]:
        """What becomes of a run that is there already; what is no strategy means to wait for it."""
        return self.multitaskStrategy if self.multitaskStrategy in STRATEGIES else "enqueue"


ANSWERS_MAX = 1000


class InputResponse(BaseModel):
    """The answer to one question."""

    interrupt_id: StrictStr
    response: Any = None
    namespace: Annotated[list[StrictStr], BOUNDED_LIST] = []


class InputRespond(Parameters):
    """The parameters of `input.respond`: one answer, or several as `responses`."""

    interrupt_id: StrictStr | None = None
    response: Any = None
    namespace: Annotated[list[StrictStr], BOUNDED_LIST] = []
    responses: (
        Annotated[list[InputResponse], Field(min_length=1, max_length=ANSWERS_MAX, fail_fast=True)] | None
    ) = None
    update: dict[str, Any] | Annotated[list[tuple[str, Any]], BOUNDED_LIST] | None = None
    goto: Any = None

    @model_validator(mode="after")
    def _names_one(self) -> InputRespond:
        if self.responses is None and self.interrupt_id is None:
            raise ValueError("input.respond requires an interrupt_id.")
        return self

    @property
    def answers(self) -> dict[str, Any]:
        """By the ids of the questions."""
        if self.responses is not None:
            return {answer.interrupt_id: answer.response for answer in self.responses}
        return {str(self.interrupt_id): self.response}


def explain(error: ValidationError) -> str:
    """What is wrong, as one sentence."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"] if isinstance(part, str) and "[" not in part)
    message = problem["msg"].removeprefix("Value error, ")
    if place == "assistant_id":
        return "run.start requires an assistant_id."
    return message if problem["type"] == "value_error" or not place else f"{place}: {message}"
