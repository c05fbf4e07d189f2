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
ROLE = "arn:aws:sts::111122223333:assumed-role/Role"
POOL = {"userArn": "arn:aws:sts::111122223333:assumed-role/Cognito_Auth_Role/CognitoIdentityCredentials"}
NAMED: dict[str, tuple[Kind, dict[str, Any], str]] = {
    "http api, jwt": (
        "jwt",
        {"authorizer": {"jwt": {"claims": {"sub": "user-1", "iss": "https://idp"}, "scopes": None}}},
        "jwt:https://idp:user-1",
    ),
    "rest api, cognito": (
        "jwt",
        {"authorizer": {"claims": {"sub": "user-2", "iss": "https://cognito-idp/pool"}}},
        "jwt:https://cognito-idp/pool:user-2",
    ),
    "a subject with a colon": (
        "jwt",
        {"authorizer": {"jwt": {"claims": {"sub": "a:b%3A", "iss": "https://idp:8443"}}}},
        "jwt:https://idp:8443:a%3Ab%253A",
    ),
    "a token without an issuer": ("jwt", {"authorizer": {"claims": {"sub": "user-2"}}}, "jwt::user-2"),
    "http api or function url, iam": ("iam", {"authorizer": {"iam": IAM}}, f"iam:{IAM['userArn']}"),
    "an iam caller without an arn": ("iam", {"authorizer": {"iam": {**IAM, "userArn": None}}}, "iam:AIDA1"),
    "rest api, iam": ("iam", {"identity": {"userArn": "arn:1", "caller": "AIDA1"}}, "iam:arn:1"),
    "a role": ("iam", {"authorizer": {"iam": {**IAM, "userArn": f"{ROLE}/i-0abc"}}}, f"iam:{ROLE}"),
    "a role of a rest api": ("iam", {"identity": {"userArn": f"{ROLE}/maria@example.com"}}, f"iam:{ROLE}"),
    "a role in china": (
        "iam",
        {"identity": {"userArn": "arn:aws-cn:sts::1:assumed-role/Role/me"}},
        "iam:arn:aws-cn:sts::1:assumed-role/Role",
    ),
    "a role without an arn": (
        "iam",
        {"authorizer": {"iam": {**IAM, "userArn": None, "callerId": "AROA1:me"}}},
        "iam:AROA1",
    ),
    "a federated user, whom somebody trusted has named": (
        "iam",
        {"identity": {"userArn": "arn:aws:sts::1:federated-user/bob"}},
        "iam:arn:aws:sts::1:federated-user/bob",
    ),
    "a user whose path says assumed-role": (
        "iam",
        {"identity": {"userArn": "arn:aws:iam::1:user/assumed-role/a/b"}},
        "iam:arn:aws:iam::1:user/assumed-role/a/b",
    ),
    "http api, an identity pool": (
        "iam",
        {"authorizer": {"iam": {**IAM, **POOL, "cognitoIdentity": {"identityId": "eu-central-1:7"}}}},
        "iam:cognito:eu-central-1:7",
    ),
    "rest api, an identity pool": (
        "iam",
        {"identity": {**POOL, "cognitoIdentityId": "eu-central-1:7"}},
        "iam:cognito:eu-central-1:7",
    ),
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
    "an issuer that is no string": ("jwt", {"authorizer": {"jwt": {"claims": {"sub": "a", "iss": ["b"]}}}}),
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


def test_two_who_differ_have_two_owners() -> None:
    def owner(iss: str, sub: str) -> str | None:
        event = {"requestContext": {"authorizer": {"jwt": {"claims": {"iss": iss, "sub": sub}}}}}
        return caller({"aws.event": event}, "jwt")

    people = [
        (iss, sub) for iss in ("", "a", "a:b", "a:b%3Ac", "b") for sub in ("a", "b:a", "b%3Aa", ":", "%")
    ]
    assert len({owner(*person) for person in people}) == len(people)


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
