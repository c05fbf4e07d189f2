"""The context of a run: what its graph's schema makes of what was sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from slackwater.graphs.context import ContextMismatch, fitted

IDS = {"thread_id": "t", "run_id": "r"}


@dataclass
class Plain:
    prompt: str = "be kind"
    tools: list[str] = field(default_factory=list)
    made: str = field(default="here", init=False)


@dataclass
class Derived(Plain):
    model: str = "small"
    thread_id: str = ""


@dataclass
class Strict:
    user: str
    team: str
    size: int = 1


class Model(BaseModel):
    prompt: str = "be kind"
    model_id: str = Field("small", validation_alias=AliasChoices("model", "llm"))


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    size: int


class Keys(TypedDict, total=False):
    prompt: str


def test_without_a_schema_it_is_a_dict_with_the_ids_of_its_run() -> None:
    assert fitted(None, None, IDS) == IDS
    sent = {"user": {"name": "ann"}, "thread_id": "another"}
    context = fitted(None, sent, IDS)
    assert context == {"user": {"name": "ann"}, **IDS}
    # AND what a node changes in it changes nothing else
    context["user"]["name"] = "bob"
    assert sent["user"] == {"name": "ann"}


@pytest.mark.parametrize(
    ("schema", "sent", "wanted"),
    [
        (Plain, None, Plain()),
        (Plain, {}, Plain()),
        (Plain, {"prompt": "x", "unknown": 1, "made": "there"}, Plain("x")),
        (Derived, {"prompt": "x"}, Derived("x", thread_id="t")),
        (Strict, {"user": "ann", "team": "a"}, Strict("ann", "a")),
        (Model, {}, Model()),
        (Model, {"llm": "large", "unknown": 1}, Model.model_validate({"model": "large"})),
        (Open, {"size": 3, "more": 1}, Open.model_validate({"size": 3, "more": 1})),
    ],
)
def test_a_schema_makes_an_instance_with_its_defaults(schema: Any, sent: Any, wanted: Any) -> None:
    assert fitted(schema, sent, IDS) == wanted


def test_a_typed_dict_holds_what_it_declares_and_is_there_when_it_is_empty() -> None:
    assert fitted(Keys, {"prompt": "x", "unknown": 1}, IDS) == {"prompt": "x"}
    empty = fitted(Keys, {}, IDS)
    assert empty == {}
    assert empty or False  # LangGraph asks `context or None`
    assert fitted(dict, {"any": 1}, IDS) == {"any": 1, **IDS}


@pytest.mark.parametrize(
    ("schema", "sent", "fault", "error"),
    [
        (Strict, {"size": 2}, "`user`, `team` is missing", "TypeError"),
        (Open, {}, "size: Field required", "ValidationError"),
        (Open, {"size": "big"}, "size: Input should be a valid integer", "ValidationError"),
    ],
)
def test_what_does_not_fit_is_named(schema: Any, sent: Any, fault: str, error: str) -> None:
    with pytest.raises(ContextMismatch, match=fault) as raised:
        fitted(schema, sent, IDS)
    assert schema.__name__ in str(raised.value)
    assert raised.value.error == error
