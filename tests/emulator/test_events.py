"""What an HTTP API makes of requests, and of results."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from slackwater.emulator.environment import InvocationResult, parse_response
from slackwater.emulator.events import InvalidResult, from_request, scheduled, to_response
from slackwater.emulator.queue import event_of, succeeded


def event(
    *headers: tuple[str, str], body: bytes = b"", path: str = "/", query: str = "", method: str = "POST"
) -> dict[str, Any]:
    scope = {
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "http_version": "1.1",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "client": ("127.0.0.1", 50_000),
    }
    return from_request(scope, body)


def answer(**result: Any) -> Any:
    return to_response(InvocationResult(json.dumps(result).encode()))


def test_headers_of_one_name_are_joined_and_cookies_are_kept_apart() -> None:
    made = event(("X-Tide", "ebb"), ("x-tide", "flood"), ("cookie", "a=b; c=d"), ("Cookie", "e=f"))

    assert made["headers"]["x-tide"] == "ebb,flood"
    assert made["cookies"] == ["a=b", "c=d", "e=f"]
    assert "cookie" not in made["headers"]


def test_the_query_is_raw_and_beside_it_decoded_and_joined() -> None:
    made = event(query="a=1&a=%20b&c=")

    assert made["rawQueryString"] == "a=1&a=%20b&c="
    assert made["queryStringParameters"] == {"a": "1, b", "c": ""}


@pytest.mark.parametrize(
    ("content_type", "body", "encoded"),
    [
        ("application/json", b'{"a":1}', False),
        ("text/plain; charset=utf-8", "é".encode(), False),
        ("application/x-www-form-urlencoded", b"a=b", True),
        ("application/octet-stream", b"\x00\xff", True),
        ("application/json", b"\xff", True),
    ],
)
def test_a_body_that_is_no_text_is_base64(content_type: str, body: bytes, encoded: bool) -> None:
    made = event(("content-type", content_type), body=body)

    assert made["isBase64Encoded"] is encoded
    assert (base64.b64decode(made["body"]) if encoded else made["body"].encode()) == body


def test_a_request_without_a_body_has_none() -> None:
    assert "body" not in event(method="GET")


def test_a_result_becomes_an_answer_with_one_header_for_each_cookie() -> None:
    made = answer(statusCode=201, headers={"X-Tide": "ebb"}, cookies=["a=b", "c=d"], body="é")

    assert made.status == 201
    assert made.headers[:3] == [("x-tide", "ebb"), ("set-cookie", "a=b"), ("set-cookie", "c=d")]
    assert made.body == "é".encode()


def test_a_result_in_base64_is_decoded() -> None:
    assert answer(statusCode=200, body="AP8=", isBase64Encoded=True).body == b"\x00\xff"


@pytest.mark.parametrize("result", [{"a": 1}, [1], "text", None])
def test_a_result_without_a_status_is_the_body(result: Any) -> None:
    made = to_response(InvocationResult(json.dumps(result).encode()))

    assert made.status == 200
    assert made.headers == [("content-type", "application/json")]
    assert json.loads(made.body) == result


@pytest.mark.parametrize(
    "result",
    [
        b"no JSON",
        b'{"statusCode": "many"}',
        b'{"statusCode": 99}',
        b'{"statusCode": 200, "headers": "none"}',
        b'{"statusCode": 200, "body": "?", "isBase64Encoded": true}',
    ],
)
def test_a_result_that_is_no_answer_is_refused(result: bytes) -> None:
    with pytest.raises(InvalidResult):
        to_response(InvocationResult(result))


def test_headers_of_the_connection_are_not_passed_on() -> None:
    made = answer(statusCode=200, headers={"Connection": "close", "content-length": "7"}, body="x")

    assert [name for name, _ in made.headers] == ["content-type"]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b'{"statusCode": 200}', None),
        (200, b"Task timed out after 2.00 seconds", "Sandbox.Timedout"),
        (200, b'{"errorMessage": "no", "errorType": "LookupError"}', "LookupError"),
        (502, b'{"errorMessage": "no", "errorType": "Runtime.ExitError"}', "Runtime.ExitError"),
        (504, b"", "Sandbox.Failure"),
    ],
)
def test_the_emulator_tells_failures_by_what_they_look_like(
    status: int, body: bytes, error: str | None
) -> None:
    assert parse_response(status, body).error == error


def test_each_scheduled_event_has_an_id_of_its_own() -> None:
    first, second = scheduled(0.0), scheduled(0.0)

    assert first["source"] == "aws.events"
    assert first["time"] == "1970-01-01T00:00:00Z"
    assert first["id"] != second["id"]


MESSAGES = [
    {
        "MessageId": name,
        "ReceiptHandle": f"handle-{name}",
        "Body": "{}",
        "Attributes": {"ApproximateReceiveCount": "1"},
        "MessageAttributes": {"kind": {"StringValue": "work", "DataType": "String"}},
    }
    for name in ("a", "b")
]


def test_messages_become_records_in_lambdas_spelling() -> None:
    record = event_of(MESSAGES, "http://127.0.0.1:5000/123456789012/tides")["Records"][1]

    assert record["messageId"] == "b"
    assert record["eventSource"] == "aws:sqs"
    assert record["eventSourceARN"].endswith(":tides")
    assert record["messageAttributes"] == {"kind": {"stringValue": "work", "dataType": "String"}}


@pytest.mark.parametrize(
    ("result", "error", "kept"),
    [
        (None, None, "ab"),
        ({"batchItemFailures": []}, None, "ab"),
        ({"batchItemFailures": [{"itemIdentifier": "a"}]}, None, "b"),
        ({"batchItemFailures": [{"itemIdentifier": "z"}]}, None, ""),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, None, ""),
        ({"batchItemFailures": ["a"]}, None, ""),
        (None, "Unhandled", ""),
    ],
)
def test_only_messages_that_did_not_fail_are_done_with(result: Any, error: str | None, kept: str) -> None:
    outcome = InvocationResult(json.dumps(result).encode(), error)

    assert "".join(message["MessageId"] for message in succeeded(MESSAGES, outcome)) == kept
