"""The sessions of users who have logged in: the tokens that they send, and whom a process knows to be logged in."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from slackwater.errors import SessionEnded, TokenInvalid, UserNotFound
from slackwater.identity import csrf
from slackwater.identity.accounts.account import Account, Opened, Role
from slackwater.identity.principal import Principal
from slackwater.identity.scopes import EVERYTHING, KeyScope, granted
from slackwater.identity.signing.audience import Audience
from slackwater.identity.valid import Valid

if TYPE_CHECKING:
    from slackwater.identity.accounts.service import Accounts
    from slackwater.identity.signing.service import Signing

COOKIE = "access_token"
"""Holds the token; no script can read it."""

BEARER = "bearer "

USER_SCOPES = granted([KeyScope.RUN])


@dataclass(frozen=True, slots=True)
class Shown:
    """A token that a request was sent with. Nobody has looked at it."""

    token: str
    by_cookie: bool
    """By the browser, whichever page has made it send the request."""


@dataclass(frozen=True, slots=True)
class KnownSession:
    """A session that was valid when the database was asked."""

    account: Account
    expires: float


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says, which is true: we have signed it."""

    user_id: UUID
    session_id: UUID
    version: int
    csrf: str | None

    @classmethod
    def of(cls, claims: Mapping[str, Any]) -> Claims:
        """Raises TokenInvalid for a token of other contents."""
        try:
            version = claims.get("ver", 0)
            if not isinstance(version, int):
                raise TokenInvalid
            return cls(UUID(claims["sub"]), UUID(claims["sid"]), version, claims.get("csrf"))
        except (KeyError, ValueError, AttributeError, TypeError):
            raise TokenInvalid from None


@dataclass(frozen=True, slots=True)
class IssuedSession:
    """A token, and what goes with it."""

    token: str
    csrf: str
    """To be sent as a header beside the cookie."""
    seconds: int
    """For how long."""


def shown_by(headers: Headers) -> Shown | None:
    """The token of a request. The header comes first: only the client itself can have put it there."""
    authorization = headers.get("authorization", "")
    if authorization[: len(BEARER)].lower() == BEARER:
        return Shown(authorization[len(BEARER) :].strip(), by_cookie=False)
    token = cookie(headers, COOKIE)
    return Shown(token, by_cookie=True) if token else None


def cookie(headers: Headers, name: str) -> str | None:
    """The value of a cookie of a request."""
    found: str | None = None
    for line in headers.getlist("cookie"):
        found = cookie_parser(line).get(name, found)
    return found


def scopes_of(role: Role) -> frozenset[KeyScope]:
    """What whoever has logged in may do."""
    return EVERYTHING if role is Role.ADMIN else USER_SCOPES


class Sessions:
    """Belongs to the event loop of the process."""

    def __init__(self, accounts: Accounts, signing: Signing) -> None:
        self._accounts = accounts
        self._signing = signing
        self.valid: Valid[UUID, KnownSession] = Valid("sessions", self._find, accounts.still_valid)

    async def issue(self, opened: Opened) -> IssuedSession:
        """A token for a session that has just begun."""
        seconds = opened.expires_at - time.time()
        secret = csrf.new_token()
        claims = {
            "sub": str(opened.account.user_id),
            "sid": str(opened.session_id),
            "ver": opened.account.token_version,
            "csrf": csrf.digest(secret),
        }
        token = await self._signing.sign(Audience.SESSION, claims, seconds=seconds)
        return IssuedSession(token, secret, int(seconds))

    async def caller(self, headers: Headers, *, lenient: bool) -> Principal | None:
        """Who sends a request; None if it has no token, or, where we are `lenient`, none of ours.

        Raises TokenExpired, TokenInvalid, SessionEnded, UserNotFound.
        """
        shown = shown_by(headers)
        if shown is None:
            return None
        try:
            return await self.principal(shown)
        except TokenInvalid:
            if lenient:
                return None
            raise

    async def principal(self, shown: Shown) -> Principal:
        """Who sends the token. Raises TokenExpired, TokenInvalid, SessionEnded, UserNotFound. One query every few seconds, whoever calls."""
        claims = Claims.of(await self._signing.verify(Audience.SESSION, shown.token))
        known = await self.valid.find(claims.session_id)
        if known is not None and known.account.token_version < claims.version:
            # Another process has changed the password since.
            self.valid.forget(claims.session_id)
            known = await self.valid.find(claims.session_id)
        if known is None and not await self._accounts.is_user(claims.user_id):
            raise UserNotFound
        if known is None or known.account.token_version != claims.version:
            raise SessionEnded
        account = known.account
        if account.user_id != claims.user_id:
            raise TokenInvalid
        return Principal(
            account.owner,
            scopes=scopes_of(account.role),
            session_id=claims.session_id,
            account=account,
            by_cookie=shown.by_cookie,
            csrf=claims.csrf,
        )

    def ended(self, session_id: UUID) -> None:
        """It was ended by this process, which need not wait to find out."""
        self.valid.forget(session_id)

    def changed(self, user_id: UUID) -> None:
        """A user was changed by this process, or all their sessions were ended."""
        self.valid.forget_where(lambda known: known.account.user_id == user_id)

    async def stop(self) -> None:
        """Check no more."""
        await self.valid.stop()

    async def _find(self, session_id: UUID) -> KnownSession | None:
        found = await self._accounts.find(session_id)
        return None if found is None else KnownSession(*found)
