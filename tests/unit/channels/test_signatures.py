"""Who has signed: by the examples of those who say how."""

from __future__ import annotations

import pytest

from slackwater.channels import slack
from slackwater.webhooks.signature import TOLERANCE_SECONDS, is_signed, key_of

# https://docs.slack.dev/authentication/verifying-requests-from-slack
SLACK_KEY, SLACK_AT = b"8f742231b10e8888abcd99yyyzzz85a5", 1531420618
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&"
    b"user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2F"
    b"commands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c4"
    b"47fce8b6703c"
)
SLACK_SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"

# The libraries of Standard Webhooks are tested with it.
KEY = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
ID, AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_examples_are_signed() -> None:
    assert slack.is_signed(SLACK_KEY, str(SLACK_AT), SLACK_BODY, SLACK_SIGNATURE, SLACK_AT)
    assert is_signed(KEY, ID, str(AT), BODY, SIGNATURE, AT)
    assert is_signed(KEY, ID, str(AT), BODY, f"v1a,x v1,y {SIGNATURE}", AT)  # of several keys


@pytest.mark.parametrize("sent_at", ["", "soon", "-1", "1.5", "٣", " 1", f"{AT}" * 4])
def test_a_time_that_is_none_is_not_recent(sent_at: str) -> None:
    assert not is_signed(KEY, ID, sent_at, BODY, SIGNATURE, AT)
    assert not slack.is_signed(SLACK_KEY, sent_at, SLACK_BODY, SLACK_SIGNATURE, SLACK_AT)


@pytest.mark.parametrize(("off", "is_recent"), [(0, True), (1, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_copy_is_of_no_use_for_long(off: int, is_recent: bool, sign: int) -> None:
    apart = sign * (TOLERANCE_SECONDS + off)
    assert is_signed(KEY, ID, str(AT), BODY, SIGNATURE, AT + apart) is is_recent
    assert (
        slack.is_signed(SLACK_KEY, str(SLACK_AT), SLACK_BODY, SLACK_SIGNATURE, SLACK_AT + apart) is is_recent
    )


@pytest.mark.parametrize(
    "signature", ["", "v1,", SIGNATURE[:-2], SIGNATURE.removeprefix("v1,"), "v1,é", "v2" + SIGNATURE[2:]]
)
def test_what_is_no_signature_signs_nothing(signature: str) -> None:
    assert not is_signed(KEY, ID, str(AT), BODY, signature, AT)
    assert not slack.is_signed(SLACK_KEY, str(SLACK_AT), SLACK_BODY, signature, SLACK_AT)


def test_each_part_is_signed() -> None:
    assert not is_signed(KEY, ID + "2", str(AT), BODY, SIGNATURE, AT)
    assert not is_signed(KEY, ID, str(AT + 1), BODY, SIGNATURE, AT)
    assert not is_signed(KEY, ID, str(AT), BODY + b" ", SIGNATURE, AT)
    assert not is_signed(KEY[1:], ID, str(AT), BODY, SIGNATURE, AT)
