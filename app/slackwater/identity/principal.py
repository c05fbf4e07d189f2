"""Who is calling. One `Principal` reaches every service; queries filter by its `owner`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from fastapi import Depends, Request

from slackwater.errors import Forbidden
from slackwater.identity.permissions import NEEDED, Permission
from slackwater.identity.scopes import EVERYTHING, KeyScope

if TYPE_CHECKING:
    from slackwater.identity.accounts.account import Account, Role
    from slackwater.identity.custom.user import User

SYSTEM_OWNER = "system"
"""Owns what belongs to everybody: one assistant per graph, and runs started by a schedule."""

LOCAL_OWNER = "local"
"""The caller of a server without keys, which serves loopback only."""

NOBODY = ""
"""Owns nothing, ever: as this owner a caller uses what an `on` handler's filter hides."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of one request. For the routes of a project's own application they are what Starlette calls a user."""

    owner: str
    headers: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Those of their request that graphs get to see in `configurable` (`http.configurable_headers`)."""

    scopes: frozenset[KeyScope] = EVERYTHING
    """What they may do, with what that includes."""
    key_id: UUID | None = None
    """The stored key that they have sent."""
    token_id: UUID | None = None
    """The token for scripts that they have sent: see `slackwater.identity.internal`."""
    session_id: UUID | None = None
    """The session whose token they have sent."""
    account: Account | None = field(default=None, compare=False, repr=False)
    """Theirs, if they have logged in, as it was a few seconds ago."""
    by_cookie: bool = field(default=False, compare=False)
    """Their browser has sent the session's token by itself, whichever page has made it send the request."""
    csrf: str | None = field(default=None, compare=False, repr=False)
    """The hash of the token by which a page of ours is told from others."""
    user: User | None = field(default=None, compare=False, repr=False)
    """Who they are to the project's own `auth`, if that has said who calls."""

    def require(self, permission: Permission) -> None:
        """Raises Forbidden."""
        if (scope := NEEDED[permission]) not in self.scopes:
            if self.session_id is not None:
                raise Forbidden("Only administrators may do this.")
            what = "key" if self.token_id is None else "token"
            raise Forbidden(
                f"The {what} does not allow this request, which needs the scope {scope.value!r}: use another {what}."
            )

    def may(self, permission: Permission) -> bool:
        """Whether `require` raises nothing."""
        return NEEDED[permission] in self.scopes

    @property
    def role(self) -> Role | None:
        """None: they have not logged in."""
        return None if self.account is None else self.account.role

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def identity(self) -> str:
        return self.owner if self.user is None else self.user.identity

    @property
    def display_name(self) -> str:
        return self.owner if self.user is None else self.user.display_name


async def current_principal(request: Request) -> Principal:
    """The principal that the authentication middleware put into the request's scope."""
    principal: Principal = request.scope["principal"]
    return principal


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
