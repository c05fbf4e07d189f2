"""The headers for browsers are added to what a response says itself, which is left as it is."""

from __future__ import annotations

from typing import Any

from slackwater.web.security_headers import secured

OWN = [(b"Referrer-Policy", b"origin"), (b"content-length", b"0")]


async def sent(scope: dict[str, Any], *messages: dict[str, Any]) -> list[Any]:
    found: list[Any] = []

    async def send(message: Any) -> None:
        found.append(message)

    for message in messages:
        await secured(scope, send)(message)
    return found


async def test_a_response_keeps_its_own_and_is_not_changed() -> None:
    headers = list(OWN)
    (start,) = await sent(
        {"type": "http", "scheme": "https"},
        {"type": "http.response.start", "status": 200, "headers": headers},
    )

    assert start["headers"][: len(OWN)] == OWN
    added = dict(start["headers"][len(OWN) :])
    assert "referrer-policy" not in {name.decode() for name in added}
    assert added[b"x-content-type-options"] == b"nosniff"
    assert b"strict-transport-security" in added
    # THEN a response that is sent again, as one that is kept would be, does not grow
    assert headers == OWN


async def test_a_server_may_leave_out_headers_and_scheme() -> None:
    (start,) = await sent({"type": "http"}, {"type": "http.response.start", "status": 204})

    assert {name for name, _ in start["headers"]} == {
        b"x-content-type-options",
        b"referrer-policy",
        b"content-security-policy",
    }


async def test_other_messages_pass_as_they_are() -> None:
    body = {"type": "http.response.body", "body": b"{}"}

    assert (await sent({"type": "http"}, body))[0] is body
