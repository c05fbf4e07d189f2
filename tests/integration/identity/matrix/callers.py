"""Who asks, and what the matrix expects: it follows from what the route needs, whom the caller is, and whose things are named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from slackwater.identity.permissions import NEEDED
from slackwater.identity.scopes import KeyScope, granted
from slackwater.web.route_table import PUBLIC
from tests.integration.identity.matrix.asks import Ask


class Outcome(Enum):
    """What comes of a request."""

    SERVED = "served"
    """Whoever asks gets an answer about what is theirs."""
    NOT_THERE = "as if it were not there"
    """What is named in the request is another's."""
    REFUSED = "refused"
    """It is not known who asks: 401."""
    FORBIDDEN = "forbidden"
    """It is known, and they may not: 403."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who sends requests."""

    name: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    scopes: frozenset[KeyScope] | None = None
    """What they may do; None if they are not let in at all."""
    owns: bool = False
    """Whether what the requests name is theirs."""


def with_key(name: str, secret: str, *scopes: KeyScope, owns: bool) -> Caller:
    return Caller(name, {"x-api-key": secret}, granted(scopes), owns)


def expected(ask: Ask, caller: Caller) -> Outcome:
    """What has to come of it."""
    needed = ask.permission
    if needed is None:
        assert ask.template in PUBLIC, f"{ask}: the table has no rule for it"
        return Outcome.SERVED
    if caller.scopes is None:
        return Outcome.REFUSED
    if NEEDED[needed] not in caller.scopes:
        return Outcome.FORBIDDEN
    return Outcome.NOT_THERE if ask.names and not caller.owns else Outcome.SERVED
