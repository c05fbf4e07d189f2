"""A channel that could not work, or that anybody could use, keeps the server from starting."""

from __future__ import annotations

from typing import Any

import pytest

from slackwater.channels.configured import channels_of
from slackwater.errors import SettingsError
from slackwater.project.gateway import ChannelSpec
from slackwater.project.http import RouteGroup
from slackwater.webhooks.policy import Policy

HOOK = {"name": "in", "kind": "webhook", "owner": "ann", "assistant": "agent", "secret": "$SECRET"}
SLACK = {**HOOK, "kind": "slack", "token": "${TOKEN}"}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "a secret that both know")
    monkeypatch.setenv("TOKEN", "xoxb-1")
    monkeypatch.setenv("SHORT", "short")
    monkeypatch.setenv("LINE", "xoxb-1-and-a-line-end\n")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("NOT_BASE64", "whsec_!")


def channel(said: dict[str, Any], *disabled: RouteGroup) -> Any:
    [one] = channels_of([ChannelSpec.model_validate(said)], Policy(), ["agent"], disabled).values()
    return one


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({**HOOK, "owner": "system"}, "gateway.channels: in: 'system' is nobody who could own a thread."),
        ({**HOOK, "assistant": "other"}, "gateway.channels: in: assistant: 'other' is neither"),
        ({**HOOK, "secret": "$NO_SUCH"}, "gateway.channels: in: the environment has no NO_SUCH: set it."),
        ({**HOOK, "secret": "$EMPTY"}, "gateway.channels: in: the environment has no EMPTY: set it."),
        ({**HOOK, "secret": "$SHORT"}, "gateway.channels: in: $SHORT must have at least 16 bytes."),
        ({**HOOK, "secret": "$NOT_BASE64"}, "$NOT_BASE64: the part after whsec_ must be base64."),
        ({**HOOK, "reply": "http://127.0.0.1/x"}, "gateway.channels: in: reply: Webhook host blocked"),
        ({**SLACK, "token": "$NO_SUCH"}, "gateway.channels: in: the environment has no NO_SUCH: set it."),
        (
            {**SLACK, "token": "$LINE"},
            "gateway.channels: in: LINE must be printable ASCII on one line, without",
        ),
        (
            {**SLACK, "secret": "$LINE"},
            "gateway.channels: in: LINE must be printable ASCII on one line, without",
        ),
    ],
)
def test_what_could_not_work_is_refused(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as error:
        channel(said)
    assert sentence in error.value.message
    assert "xoxb" not in error.value.message


def test_a_reply_needs_webhooks() -> None:
    hook = {**HOOK, "reply": "https://example.com/hook"}
    assert channel(hook).reply == "https://example.com/hook"
    with pytest.raises(SettingsError, match=r"in: reply: http\.disable_webhooks is set"):
        channel(hook, RouteGroup.WEBHOOKS)
    channel(HOOK, RouteGroup.WEBHOOKS)


def test_what_is_secret_is_not_shown() -> None:
    slack = channel(SLACK)
    assert (slack.token, slack.key) == ("xoxb-1", b"a secret that both know")
    assert "xoxb" not in repr(slack)
    assert "both know" not in repr(slack)
    assert channel({**HOOK, "assistant": "0193a7c8-1c1c-7000-8000-000000000000"}).owner == "ann"
