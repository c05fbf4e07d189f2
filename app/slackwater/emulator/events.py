"""Builds events from requests as an API Gateway HTTP API does (payload format 2.0), and responses from results.

What AWS does not document was taken from published captures of live events: the path is decoded, the query is not; bodies
that are not text are base64.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import orjson

from slackwater.emulator.environment import InvocationResult
from slackwater.kit.ids import uuid7

ACCOUNT = "012345678912"
API = "local"
URL_DOMAIN = "local.lambda-url.us-east-1.on.aws"
"""How a function recognises a Function URL."""

CALLER = "local"
"""The caller that the emulated authorizer names."""

ISSUER = "https://issuer.local"

AUTHORIZERS = {
    "lambda": {"lambda": {"principalId": CALLER}},
    "iam": {"iam": {"userArn": CALLER}},
    "jwt": {"jwt": {"claims": {"iss": ISSUER, "sub": CALLER}, "scopes": None}},
}
"""What each kind of authorizer adds to an event."""

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
    }
)
_TEXT = ("text/", "application/json", "application/javascript", "application/xml")


class InvalidResult(Exception):
    """The function returned something that is not an HTTP response."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    @classmethod
    def message(cls, status: int, text: str) -> HttpResponse:
        """A response of the gateway itself."""
        return cls(status, [("content-type", "application/json")], orjson.dumps({"message": text}))


def from_request(scope: Mapping[str, Any], body: bytes, *, streams: bool = False) -> dict[str, Any]:
    """The event for an ASGI request. `streams`: that of a Function URL, which streams responses."""
    headers, cookies = _headers(scope["headers"])
    peer = scope.get("client") or ("127.0.0.1", 0)
    query = scope["query_string"].decode("latin-1")
    now = time.time()
    # A Function URL leaves the path as it is; an HTTP API decodes it.
    path = scope["raw_path"].decode("latin-1") if streams else scope["path"]
    domain = headers.get("host", "localhost")
    headers.setdefault("x-forwarded-for", peer[0])
    headers.setdefault("x-forwarded-proto", "http")
    headers.setdefault("x-forwarded-port", domain.rpartition(":")[2] if ":" in domain else "80")
    headers["content-length"] = str(len(body))
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": API,
            "domainName": URL_DOMAIN if streams else domain,
            "domainPrefix": API if streams else domain.partition(".")[0],
            "http": {
                "method": scope["method"],
                "path": path,
                "protocol": f"HTTP/{scope['http_version']}",
                "sourceIp": peer[0],
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": str(uuid7()),
            "routeKey": "$default",
            "stage": "$default",
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "timeEpoch": int(now * 1000),
        },
        "isBase64Encoded": False,
    }
    if cookies:
        event["cookies"] = cookies
    if query:
        event["queryStringParameters"] = _joined(parse_qsl(query, keep_blank_values=True))
    if body:
        event["body"], event["isBase64Encoded"] = _encoded(body, headers.get("content-type", ""))
    return event


def warm_up() -> bytes:
    """A request that initialises an environment: the emulator does so with its first event, and counts it towards the timeout."""
    scope = {"path": "/ok", "method": "GET", "http_version": "1.1", "query_string": b"", "headers": []}
    return orjson.dumps(from_request(scope, b""))


def authorise(event: object, kind: str | None) -> None:
    """Name the caller in a request's event, as an authorizer of this kind does, unless the event already does."""
    context = event.get("requestContext") if isinstance(event, dict) else None
    if kind is not None and isinstance(context, dict):
        context.setdefault("authorizer", AUTHORIZERS[kind])


def to_response(outcome: InvocationResult) -> HttpResponse:
    """The response for a function's result. Raises InvalidResult."""
    try:
        result = orjson.loads(outcome.payload)
    except orjson.JSONDecodeError:
        raise InvalidResult("it is not JSON") from None
    if not isinstance(result, dict) or "statusCode" not in result:
        # Any other JSON is the body of a 200.
        return HttpResponse(200, [("content-type", "application/json")], orjson.dumps(result))
    try:
        status = int(result["statusCode"])
        headers = [(str(name).lower(), _text(value)) for name, value in (result.get("headers") or {}).items()]
        headers += [("set-cookie", str(cookie)) for cookie in result.get("cookies") or ()]
        body = _decoded(result.get("body"), encoded=bool(result.get("isBase64Encoded")))
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidResult(str(error)) from None
    if not 100 <= status <= 599:
        raise InvalidResult(f"statusCode {status}")
    if not any(name == "content-type" for name, _ in headers):
        headers.append(("content-type", "text/plain;charset=UTF-8"))
    return HttpResponse(
        status, [(n, v) for n, v in headers if n not in _HOP_BY_HOP | {"content-length"}], body
    )


def scheduled(at: float) -> dict[str, Any]:
    """The event of an EventBridge schedule; `at` is in seconds since 1970."""
    return {
        "version": "0",
        "id": str(uuid7()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
        "region": "us-east-1",
        "resources": [f"arn:aws:events:us-east-1:{ACCOUNT}:rule/slackwater-sweep"],
        "detail": {},
    }


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> tuple[dict[str, str], list[str]]:
    """Headers with lower-case names and joined values, and the cookies, which are separate."""
    pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw]
    cookies = [cookie.strip() for name, value in pairs if name == "cookie" for cookie in value.split(";")]
    kept = ((name, value) for name, value in pairs if name != "cookie" and name not in _HOP_BY_HOP)
    return _joined(kept), [cookie for cookie in cookies if cookie]


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _encoded(body: bytes, content_type: str) -> tuple[str, bool]:
    """The body of an event, and whether it is base64."""
    if not content_type or content_type.lower().startswith(_TEXT):
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode(), True


def _decoded(body: object, *, encoded: bool) -> bytes:
    if body is None:
        return b""
    if not isinstance(body, str):
        return orjson.dumps(body)
    try:
        return base64.b64decode(body, validate=True) if encoded else body.encode()
    except binascii.Error as error:
        raise ValueError(f"the body is not base64: {error}") from None


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
