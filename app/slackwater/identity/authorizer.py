"""Who calls behind a gateway of AWS that has checked it already.

The gateway puts what its authorizer found into the event, beside the request and out of the client's reach. A header
that says the same is the client's own word and never looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from starlette.types import Scope

Kind = Literal["iam", "jwt", "lambda"]


def caller(scope: Scope, kind: Kind) -> str | None:
    """The owner that the authorizer in front has named, as `kind:name`; None if it has named nobody.

    The prefix keeps callers apart from API keys and reserved owners, whose names have no colon.
    """
    context = _mapping(_mapping(scope.get("aws.event")).get("requestContext"))
    name = _NAMES[kind](context)
    # Postgres holds no NUL; whoever chose such a name for himself is nobody.
    return f"{kind}:{name}" if isinstance(name, str) and name and "\0" not in name else None


def _jwt(context: Mapping[str, Any]) -> object:
    """An HTTP API's JWT authorizer, or a REST API's Cognito authorizer."""
    authorizer = _mapping(context.get("authorizer"))
    claims = _mapping(_mapping(authorizer.get("jwt")).get("claims")) or _mapping(authorizer.get("claims"))
    return claims.get("sub")


def _iam(context: Mapping[str, Any]) -> object:
    """The signature of a request to an HTTP API or a function URL, or to a REST API."""
    iam = _mapping(_mapping(context.get("authorizer")).get("iam"))
    if iam:
        return iam.get("userArn") or iam.get("callerId")
    identity = _mapping(context.get("identity"))
    return identity.get("userArn") or identity.get("caller")


def _lambda(context: Mapping[str, Any]) -> object:
    """A Lambda authorizer's principal: a REST API tells it, an HTTP API only the context that comes with it."""
    authorizer = _mapping(context.get("authorizer"))
    told = _mapping(authorizer.get("lambda")) or authorizer
    return told.get("principalId") or told.get("sub")


_NAMES: Mapping[Kind, Callable[[Mapping[str, Any]], object]] = {"jwt": _jwt, "iam": _iam, "lambda": _lambda}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
