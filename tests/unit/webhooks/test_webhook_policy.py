"""What `webhooks` in langgraph.json means."""

from __future__ import annotations

from typing import Any

import pytest

from slackwater.errors import Invalid, SettingsError
from slackwater.webhooks.policy import Policy
from slackwater.webhooks.signature import key_of, signature


def refused(policy: Policy, url: str) -> str:
    with pytest.raises(Invalid) as refusal:
        policy.check(url)
    return refusal.value.message


def test_without_a_block_public_urls_are_taken_and_what_is_near_is_not() -> None:
    policy = Policy.of(None)
    policy.check("http://example.com/hook")
    policy.check("https://example.com:8443/" + "x" * 3000)
    for host in (
        "127.0.0.1",
        "localhost",
        "a.localhost",
        "[::1]",
        "10.0.0.1",
        "2130706433",
        "169.254.169.254",
    ):
        assert "blocked" in refused(policy, f"http://{host}/")
    assert refused(policy, "https://example.com/" + "x" * 4096).startswith("Webhook URL too long")


def test_a_block_for_urls_makes_them_strict_unless_it_says_otherwise() -> None:
    policy = Policy.of({"url": {}})
    assert refused(policy, "http://example.com/") == "Webhook must use https"
    assert refused(policy, "https://example.com/" + "x" * 2048).startswith("Webhook URL too long")
    Policy.of({"url": {"require_https": False, "max_url_length": 5000}}).check(
        "http://example.com/" + "x" * 4500
    )
    Policy.of({"headers": {}}).check("http://example.com/")


def test_domains_and_ports_are_exact() -> None:
    policy = Policy.of(
        {"url": {"allowed_domains": ["Example.com", "*.example.org"], "allowed_ports": [443, 8443]}}
    )
    policy.check("https://example.com/")
    policy.check("https://EXAMPLE.com.:8443/")
    policy.check("https://a.b.example.org/")
    for url in (
        "https://example.org/",
        "https://notexample.com/",
        "https://example.com.evil.net/",
        "https://xexample.org/",
    ):
        assert refused(policy, url).startswith("Webhook domain not allowed")
    assert refused(policy, "https://example.com:444/") == "Webhook port 444 not allowed"


@pytest.mark.parametrize(
    "url", ["https://a\tb.com/", "https://example.com/\n", "https://example.com\\@evil.com/", "https://bücher.example/", "x", "https:///x"]
)  # fmt: skip
def test_what_programs_read_differently_is_refused(url: str) -> None:
    refused(Policy.of(None), url)


def test_headers_are_filled_from_the_environment() -> None:
    block = {"headers": {"X-Token": "Bearer ${{ env.LG_WEBHOOK_T }}", "X-Plain": "a"}}
    assert Policy.of(block, {"LG_WEBHOOK_T": "t"}).headers == {"X-Token": "Bearer t", "X-Plain": "a"}
    assert Policy.of({"headers": {"X": "", "Y": "a\tb"}}).headers == {"X": "", "Y": "a\tb"}
    block = {"env_prefix": "HOOK_", "headers": {"X": "${{env.HOOK_A}}${{ env.HOOK_B }}"}}
    assert Policy.of(block, {"HOOK_A": "1", "HOOK_B": "2"}).headers == {"X": "12"}


def test_a_secret_that_could_not_be_sent_stops_the_start_and_is_not_told() -> None:
    block = {"headers": {"X-Token": "Bearer ${{ env.LG_WEBHOOK_T }}"}}
    with pytest.raises(SettingsError, match="X-Token must be printable ASCII") as error:
        Policy.of(block, {"LG_WEBHOOK_T": "t0k3n\n"})
    assert "t0k3n" not in error.value.message


@pytest.mark.parametrize(
    ("name", "template"), [("X-Token", "${{ env.LG_WEBHOOK_T }}"), ("Authorization", "Bearer literal")]
)
def test_a_secret_is_sent_to_named_domains_by_https_only(name: str, template: str) -> None:
    def policy(**url: Any) -> Policy:
        block = {"headers": {name: template, "X-Plain": "a"}, "url": url}
        return Policy.of(block, {"LG_WEBHOOK_T": "t"})

    named = policy(allowed_domains=["example.com"], require_https=False)
    named.check("https://example.com/hook")
    assert f"holds a secret ({name})" in refused(named, "http://example.com/hook")
    assert f"holds a secret ({name})" in refused(policy(), "https://example.com/hook")
    Policy.of({"headers": {"X-Plain": "a"}}).check("http://example.com/hook")


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ([], None),
        ("x", "webhooks must be an object"),
        ({"urls": {}}, "webhooks has unknown keys urls"),
        ({"url": {"disable_loopbak": True}}, "webhooks.url has unknown keys disable_loopbak"),
        ({"url": {"require_https": "yes"}}, "webhooks.url.require_https must be true or false"),
        ({"url": {"allowed_ports": ["443"]}}, "allowed_ports must be a list of port numbers"),
        ({"url": {"allowed_domains": "x"}}, "allowed_domains must be a list of strings"),
        ({"url": {"max_url_length": 0}}, "max_url_length must be a positive number"),
        ({"headers": {"X": "${{ env.HOME }}"}}, "begins with LG_WEBHOOK_"),
        (
            {"headers": {"X": "${{ env.LG_WEBHOOK_MISSING }}"}},
            "set the environment variable LG_WEBHOOK_MISSING",
        ),
        ({"headers": {"X": "a\nb"}}, "printable ASCII on one line"),
        ({"headers": {"X": "a "}}, "without spaces around it"),
        ({"headers": {"X": "\ta"}}, "without spaces around it"),
        ({"headers": {"Webhook-Signature": "a"}}, "not a header name that you may set"),
        ({"headers": {"X": 1}}, "an object of strings"),
        ({"env_prefix": 1}, "env_prefix must be a string"),
    ],
)
def test_a_mistake_stops_the_start(block: Any, words: str | None) -> None:
    if words is None:
        assert Policy.of(block, {}) == Policy()
        return
    with pytest.raises(SettingsError, match=words):
        Policy.of(block, {})


def test_a_secret_is_a_text_or_whsec_with_base64() -> None:
    assert key_of("plain") == b"plain"
    # The example of the Standard Webhooks specification's libraries.
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert (
        signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )
    with pytest.raises(SettingsError, match="must be base64"):
        key_of("whsec_no base64")
