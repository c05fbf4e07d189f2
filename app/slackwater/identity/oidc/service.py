"""A login by a provider, from its beginning to a session."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from slackwater.errors import Crowded, Unauthorized
from slackwater.identity.accounts.account import Device, Opened
from slackwater.identity.accounts.service import Accounts
from slackwater.identity.oidc import queries
from slackwater.identity.oidc.client import ProviderClient
from slackwater.identity.oidc.errors import (
    ForeignNext,
    IdentityTaken,
    IdTokenRefused,
    LoginGone,
    ProviderNotFound,
)
from slackwater.identity.oidc.local_path import is_local
from slackwater.identity.oidc.login import SECONDS, Login, code_of
from slackwater.identity.oidc.metadata import Metadata
from slackwater.identity.oidc.person import Person, person_of
from slackwater.identity.oidc.provider import Provider
from slackwater.identity.signing.audience import Audience
from slackwater.identity.signing.service import Signing
from slackwater.postgres.pool import Database

log = logging.getLogger(__name__)

AT_A_TIME = 32
"""Logins for which this process asks providers: anybody may begin one."""

HOME = "/"
"""Where a login leads to that names no path."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A login whose user goes to the provider now."""

    url: str
    token: str
    """What their browser keeps of it, for `login.SECONDS`."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A login that has succeeded."""

    next: str
    opened: Opened | None = None
    """None if a provider was added to the account of somebody who had logged in before."""


class Oidc:
    """Belongs to the event loop of the process."""

    def __init__(
        self, database: Database, signing: Signing, accounts: Accounts, providers: Iterable[Provider]
    ) -> None:
        self._database = database
        self._signing = signing
        self._accounts = accounts
        self._providers = {provider.name: provider for provider in providers}
        self._clients = {name: ProviderClient(provider) for name, provider in self._providers.items()}
        self._asking = 0

    @property
    def names(self) -> list[str]:
        """Of the providers, in the order of the settings."""
        return list(self._providers)

    async def begin(
        self, name: str, redirect_uri: str, next: str | None, link_to: UUID | None = None
    ) -> Begun:
        """Send a user to the provider, who answers at `redirect_uri`. `link_to`: the user who adds it to their account.

        Raises ProviderNotFound, ForeignNext, ProviderUnavailable and Crowded.
        """
        _, client = self._provider(name)
        if next is not None and not is_local(next):
            raise ForeignNext
        login = Login.begin(name, redirect_uri, next or HOME, None if link_to is None else str(link_to))
        with self._room():
            url = await client.url_for(login, await client.metadata())
        token = await self._signing.sign(Audience.OIDC_STATE, login.claims, seconds=SECONDS)
        return Begun(url, token)

    async def finish(
        self,
        name: str,
        token: str | None,
        answer: Mapping[str, str],
        device: Device,
        user_id: UUID | None,
    ) -> Finished:
        """Log in whom the provider's answer names, in the browser that began the login and has kept `token`.

        `user_id`: who is logged in there already. Raises ProviderNotFound, LoginGone, ProviderRefused, ProviderUnavailable,
        IdTokenRefused, EmailNotVerified, ForeignDomain, IdentityTaken, Crowded, and what `Accounts.external` raises.
        """
        provider, client = self._provider(name)
        login = await self._login(token)
        if not login.is_answered_by(name, answer.get("state")):
            raise LoginGone
        if login.link_to is not None and login.link_to != str(user_id):
            raise LoginGone  # somebody else has logged in meanwhile
        with self._room():
            # Before the login is used up: while the provider cannot be reached, the same request may be sent again.
            metadata = await client.metadata()
            code = code_of(answer, metadata)
            # Whatever happens from here on, nobody comes back with this login again; the code can be used once, too.
            if not await queries.come_back(self._database, login.digest):
                raise LoginGone
            person = await self._person(provider, client, metadata, login, code)
        if login.link_to is not None:
            linked = await self._accounts.link(UUID(login.link_to), person.issuer, person.subject, device)
            if not linked:
                raise IdentityTaken
            return Finished(login.next)
        opened = await self._accounts.external(
            person.issuer, person.subject, person.email, device, provision=provider.provision
        )
        return Finished(login.next, opened)

    async def sweep(self) -> None:
        """Forget logins that cannot come back."""
        await queries.trim(self._database)

    def _provider(self, name: str) -> tuple[Provider, ProviderClient]:
        if name not in self._providers:
            raise ProviderNotFound
        return self._providers[name], self._clients[name]

    async def _login(self, token: str | None) -> Login:
        if not token:
            raise LoginGone
        try:
            return Login.of(await self._signing.verify(Audience.OIDC_STATE, token))
        except Unauthorized:
            raise LoginGone from None

    async def _person(
        self, provider: Provider, client: ProviderClient, metadata: Metadata, login: Login, code: str
    ) -> Person:
        try:
            tokens = await client.tokens(login, metadata, code)
            claims = await _claims(provider, client, metadata, login, tokens)
            return person_of(claims, provider.issuer, provider.allowed_domains)
        except IdTokenRefused as error:
            log.warning(
                "an ID token of the provider %s is refused: %s",
                provider.name,
                error.problem,
                extra={"event": "oidc.refused", "provider": provider.name},
            )
            raise

    @contextmanager
    def _room(self) -> Iterator[None]:
        if self._asking >= AT_A_TIME:
            raise Crowded
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1


async def _claims(
    provider: Provider, client: ProviderClient, metadata: Metadata, login: Login, tokens: Mapping[str, Any]
) -> Mapping[str, Any]:
    """What the provider says of the user, verified."""
    from slackwater.identity.oidc.id_token import UnknownKey, verify

    token, access = tokens.get("id_token"), tokens.get("access_token")
    if not isinstance(token, str):
        raise IdTokenRefused("there is none")
    if not isinstance(access, str):
        access = None

    def verified(keys: Any) -> Mapping[str, Any]:
        return verify(
            token,
            keys,
            issuer=provider.issuer,
            client_id=provider.client_id,
            nonce=login.nonce,
            access_token=access,
        )

    try:
        claims = verified(await client.keys(metadata))
    except UnknownKey:
        try:
            claims = verified(await client.new_keys(metadata))
        except UnknownKey as error:
            raise IdTokenRefused("it is signed with a key that the provider does not list") from error
    if "email" in claims or access is None:
        return claims
    # Some providers put only the subject into the token.
    told = await client.userinfo(metadata, access)
    if told and told.get("sub") != claims["sub"]:
        raise IdTokenRefused("the user information is somebody else's")
    return {**claims, "email": told.get("email"), "email_verified": told.get("email_verified")}
