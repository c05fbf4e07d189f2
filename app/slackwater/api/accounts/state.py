"""What the routes of accounts are given: the services, and the session of whoever calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from fastapi import Depends, Request

from slackwater.errors import NoAccount
from slackwater.identity.accounts.account import Account
from slackwater.identity.accounts.service import Accounts
from slackwater.identity.oidc.errors import ProviderNotFound
from slackwater.identity.principal import Principal
from slackwater.identity.sessions import Sessions
from slackwater.web.scope import services_of

if TYPE_CHECKING:
    from slackwater.identity.oidc.service import Oidc
    from slackwater.services import Services


@dataclass(frozen=True, slots=True)
class CallerSession:
    """That of the caller."""

    account: Account
    session_id: UUID
    by_cookie: bool


async def current_accounts(request: Request) -> Accounts:
    accounts = services_of(request.scope).accounts
    assert accounts is not None
    return accounts


async def current_sessions(request: Request) -> Sessions:
    sessions = services_of(request.scope).sessions
    assert sessions is not None
    return sessions


async def current_session(request: Request) -> CallerSession:
    """Raises NoAccount."""
    principal: Principal = request.scope["principal"]
    if principal.account is None or principal.session_id is None:
        raise NoAccount
    return CallerSession(principal.account, principal.session_id, principal.by_cookie)


def oidc_of(services: Services) -> Oidc:
    """The providers that users may log in with. Raises ProviderNotFound if there are none."""
    if services.oidc is None:
        raise ProviderNotFound
    return services.oidc


CurrentAccounts = Annotated[Accounts, Depends(current_accounts)]
CurrentSessions = Annotated[Sessions, Depends(current_sessions)]
CurrentSession = Annotated[CallerSession, Depends(current_session)]
