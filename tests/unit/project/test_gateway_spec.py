"""`gateway` of langgraph.json: what it may say, and the sentence for what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slackwater.errors import SettingsError
from slackwater.project.gateway import GatewaySpec, LlmModel

FILE = Path("langgraph.json")
FAST = {"name": "fast", "model": "openai:gpt-5-mini"}
HOOK = {"name": "in", "kind": "webhook", "owner": "ann", "assistant": "agent", "secret": "$SECRET"}
SLACK = {**HOOK, "kind": "slack", "token": "$TOKEN"}


def changed(channel: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"channels": [{**channel, **changes}]}


def test_nothing_means_the_defaults() -> None:
    assert GatewaySpec.read(None, FILE) == GatewaySpec()
    assert GatewaySpec().uploads.model_dump() == {
        "max_files": 10,
        "max_file_size": 52_428_800,
        "max_total_size": 104_857_600,
        "auto_convert_documents": False,
    }


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([], "gateway: Input should be"),
        ({"modles": []}, "gateway.modles: Extra inputs are not permitted"),
        ({"models": [{"name": "fast"}]}, "gateway.models.0.model: Field required"),
        ({"models": [{**FAST, "api_key": "x"}]}, "gateway.models.0.api_key: Extra inputs"),
        ({"models": [FAST, FAST]}, "gateway.models: there are several named fast"),
        ({"uploads": {"max_files": 0}}, "gateway.uploads.max_files: Input should be greater"),
        ({"suggestions": {"model": "slow"}, "models": [FAST]}, "'slow' is none of gateway.models: fast"),
        ({"suggestions": {"model": "slow"}}, "there are none"),
        (
            {"memory": {"model": "slow"}},
            "gateway.memory.model: 'slow' is none of gateway.models: there are none",
        ),
        ({"memory": {"debounce_seconds": 301}}, "gateway.memory.debounce_seconds: Input should be less"),
        ({"memory": {"max_facts": 9}}, "gateway.memory.max_facts: Input should be greater"),
        ({"memory": {"fact_confidence_threshold": 1.1}}, "gateway.memory.fact_confidence_threshold: Input"),
        ({"memory": {"max_tokens": 9}}, "gateway.memory.max_tokens: Extra inputs are not permitted"),
        ({"skills_scanner": "slow", "models": [FAST]}, "gateway.skills_scanner: 'slow' is none of"),
        ({"skills": "./nowhere"}, "gateway.skills: there is no folder nowhere"),
        (changed(HOOK, name="In"), "gateway.channels.0.name: String should match"),
        (changed(HOOK, kind="sms"), "gateway.channels.0.kind: Input should be 'webhook' or 'slack'"),
        (changed(HOOK, owner=""), "gateway.channels.0.owner: String should have at least 1"),
        (changed(HOOK, secret="hunter2"), "gateway.channels.0.secret: String should match"),
        (changed(HOOK, reply="mailto:ann"), "gateway.channels.0.reply: String should match"),
        (changed(HOOK, token="$TOKEN"), "gateway.channels.0: token and api are for channels of kind slack"),
        (changed(SLACK, token=None), "gateway.channels.0: a channel of kind slack needs token"),
        (changed(SLACK, reply="https://a.b"), "gateway.channels.0: a channel of kind slack has no reply"),
        ({"channels": [HOOK, SLACK]}, "gateway.channels: there are several named in"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(value: Any, sentence: str) -> None:
    with pytest.raises(SettingsError) as error:
        GatewaySpec.read(value, FILE)
    assert sentence in error.value.message


def test_arguments_are_filled_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "secret")
    args = {"api_key": "$SOME_KEY", "extra": {"headers": ["${SOME_KEY}", "costs $5"]}, "timeout": 3}
    model = LlmModel.model_validate({**FAST, "args": args})

    assert model.arguments() == {
        "api_key": "secret",
        "extra": {"headers": ["secret", "costs $5"]},
        "timeout": 3,
    }
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(SettingsError, match=r"fast: the environment has no SOME_KEY"):
        model.arguments()
