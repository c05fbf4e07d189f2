"""Who calls behind a gateway of AWS that has checked it already.

The gateway puts what its authorizer found into the event, beside the request and out of the client's reach. A header
that says the same is the client's own word and never looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from starlette.types import Scope

Kind = Literal["iam", "jwt", "lambda"]

_SESSION = re.compile(r"(arn:[^:]+:sts::[^:]*:assumed-role/[^/]+|AROA[^:]*)[/:].+", re.S)
"""A role with the name of its session, which whoever assumes the role chooses as he likes: it proves nothing."""


def caller(scope: Scope, kind: Kind) -> str | None:
    """The owner whom the authorizer in front has named, as `kind:name`; None if it has named nobody.

    The prefix keeps callers apart from API keys and reserved owners, whose names have no colon.
    """
    context = _mapping(_mapping(scope.get("aws.event")).get("requestContext"))
    name = _NAMES[kind](context)
    # Postgres holds no NUL; whoever chose such a name for himself is nobody.
    return f"{kind}:{name}" if isinstance(name, str) and name and "\0" not in name else None


def _jwt(context: Mapping[str, Any]) -> object:
    """An HTTP API's JWT authorizer, or a REST API's Cognito authorizer: `issuer:subject`.

    A subject is unique within its issuer only. Its own colons are escaped, so that the last one separates the two.
    """
    authorizer = _mapping(context.get("authorizer"))
    claims = _mapping(_mapping(authorizer.get("jwt")).get("claims")) or _mapping(authorizer.get("claims"))
    issuer, subject = claims.get("iss", ""), claims.get("sub")
    if not (isinstance(issuer, str) and isinstance(subject, str) and subject):
        return None
    return f"{issuer}:{subject.replace('%', '%25').replace(':', '%3A')}"


def _iam(context: Mapping[str, Any]) -> object:
    """The signature of a request to an HTTP API or a function URL, or to a REST API: the user or the role."""
    iam = _mapping(_mapping(context.get("authorizer")).get("iam"))
    identity = _mapping(context.get("identity"))
    # Everybody whom a Cognito identity pool lets in has the same role, and the same session name.
    person = _mapping(iam.get("cognitoIdentity")).get("identityId") or identity.get("cognitoIdentityId")
    if person:
        return f"cognito:{person}" if isinstance(person, str) else None
    name = iam.get("userArn") or iam.get("callerId") or identity.get("userArn") or identity.get("caller")
    return _SESSION.sub(r"\1", name) if isinstance(name, str) else None


def _lambda(context: Mapping[str, Any]) -> object:
    """A Lambda authorizer's principal: a REST API tells it, an HTTP API only the context that comes with it."""
    authorizer = _mapping(context.get("authorizer"))
    told = _mapping(authorizer.get("lambda")) or authorizer
    return told.get("principalId") or told.get("sub")


_NAMES: Mapping[Kind, Callable[[Mapping[str, Any]], object]] = {"jwt": _jwt, "iam": _iam, "lambda": _lambda}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
