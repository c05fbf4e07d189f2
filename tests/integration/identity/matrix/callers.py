"""Who asks, and what the matrix expects: it follows from what the route needs, whom the caller is, and whose things are named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from slackwater.identity.permissions import NEEDED, Permission
from slackwater.identity.scopes import KeyScope, granted
from slackwater.web.route_table import PUBLIC, is_public_account, is_public_channel
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
    logged_in: bool = False
    """Whether they have an account."""
    once: bool = False
    """Whether each request is sent once, and rows are compared at the end: what they ask for is compared as keys ask for it."""

    @property
    def changes(self) -> bool:
        """Whether they may change what the requests name."""
        return self.owns and self.scopes is not None and KeyScope.RUN in self.scopes


def with_key(name: str, secret: str, *scopes: KeyScope, owns: bool) -> Caller:
    return Caller(name, {"x-api-key": secret}, granted(scopes), owns)


def with_token(name: str, token: str, scopes: frozenset[KeyScope] | None = None, **more: bool) -> Caller:
    return Caller(name, {"authorization": f"Bearer {token}"}, scopes, once=True, **more)


def expected(ask: Ask, caller: Caller) -> Outcome:
    """What has to come of it."""
    needed = ask.permission
    if needed is None:
        path = ask.template
        public = path in PUBLIC or is_public_account(path) or is_public_channel(path)
        assert public, f"{ask}: the table has no rule for it"
        return Outcome.SERVED
    if caller.scopes is None:
        return Outcome.REFUSED
    if NEEDED[needed] not in caller.scopes:
        return Outcome.FORBIDDEN
    if needed.resource == "account" and not caller.logged_in:
        return Outcome.FORBIDDEN  # whoever has no account
    if needed is Permission.ACCOUNTS_MANAGE:
        return Outcome.SERVED  # whosever it is
    return Outcome.NOT_THERE if ask.names and not caller.owns else Outcome.SERVED
