"""Who calls, in the events of each gateway. The shapes are those of AWS's documentation."""

from __future__ import annotations

from typing import Any

import pytest

from slackwater.identity.authorizer import Kind, caller

IAM = {
    "accessKey": "AKIA1",
    "accountId": "111122223333",
    "callerId": "AIDA1",
    "cognitoIdentity": None,
    "principalOrgId": "o-1",
    "userArn": "arn:aws:iam::111122223333:user/alice",
    "userId": "AIDA1",
}
NAMED: dict[str, tuple[Kind, dict[str, Any], str]] = {
    "http api, jwt": (
        "jwt",
        {"authorizer": {"jwt": {"claims": {"sub": "user-1", "iss": "https://idp"}, "scopes": None}}},
        "jwt:user-1",
    ),
    "rest api, cognito": ("jwt", {"authorizer": {"claims": {"sub": "user-2"}}}, "jwt:user-2"),
    "http api or function url, iam": ("iam", {"authorizer": {"iam": IAM}}, f"iam:{IAM['userArn']}"),
    "an iam caller without an arn": ("iam", {"authorizer": {"iam": {**IAM, "userArn": None}}}, "iam:AIDA1"),
    "rest api, iam": ("iam", {"identity": {"userArn": "arn:1", "caller": "AIDA1"}}, "iam:arn:1"),
    "rest api, lambda": (
        "lambda",
        {"authorizer": {"principalId": "bob", "integrationLatency": 3}},
        "lambda:bob",
    ),
    "http api, lambda": ("lambda", {"authorizer": {"lambda": {"principalId": "bob"}}}, "lambda:bob"),
    "http api, lambda that calls it sub": (
        "lambda",
        {"authorizer": {"lambda": {"sub": "bob"}}},
        "lambda:bob",
    ),
}
NOBODY: dict[str, tuple[Kind, Any]] = {
    "no event": ("jwt", None),
    "no authorizer": ("jwt", {"identity": {"sourceIp": "1.2.3.4"}}),
    "a load balancer": ("jwt", {"elb": {"targetGroupArn": "arn"}}),
    "an authorizer of another kind": ("jwt", {"authorizer": {"iam": IAM}}),
    "a claim that is no text": ("jwt", {"authorizer": {"jwt": {"claims": {"sub": {"a": 1}}}}}),
    "an empty claim": ("jwt", {"authorizer": {"jwt": {"claims": {"sub": ""}}}}),
    "a claim that no database holds": ("jwt", {"authorizer": {"jwt": {"claims": {"sub": "a\0b"}}}}),
    "claims that a lambda authorizer made up": ("jwt", {"authorizer": {"claims": '{"sub": "x"}'}}),
    "a rest api without iam": ("iam", {"identity": {"userArn": None, "caller": None, "sourceIp": "1.2.3.4"}}),
    "a simple answer without a context": ("lambda", {"authorizer": {"lambda": None}}),
    "no mapping at all": ("lambda", ["authorizer"]),
}


@pytest.mark.parametrize(("kind", "context", "owner"), NAMED.values(), ids=NAMED)
def test_the_owner_is_whom_the_authorizer_names(kind: Kind, context: dict[str, Any], owner: str) -> None:
    assert caller({"aws.event": {"requestContext": context}}, kind) == owner


@pytest.mark.parametrize(("kind", "context"), NOBODY.values(), ids=NOBODY)
def test_nobody_is_named(kind: Kind, context: Any) -> None:
    assert caller({"aws.event": {"requestContext": context}}, kind) is None
    assert caller({}, kind) is None


def test_a_header_of_the_client_names_nobody() -> None:
    event = {
        "headers": {"authorization": "Bearer x", "x-amzn-oidc-identity": "alice"},
        "requestContext": {"http": {"sourceIp": "1.2.3.4"}},
    }
    for kind in ("iam", "jwt", "lambda"):
        assert caller({"aws.event": event, "headers": [(b"x-amzn-oidc-identity", b"alice")]}, kind) is None
