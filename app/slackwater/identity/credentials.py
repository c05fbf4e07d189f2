"""What callers may show, as far as it is ours: keys in the database, tokens that we have signed, and sessions of people who log in."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from slackwater.kit.imports import imports_are_lazy

if TYPE_CHECKING:
    from slackwater.identity.accounts.service import Accounts
    from slackwater.identity.oidc.service import Oidc
    from slackwater.identity.sessions import Sessions
    from slackwater.identity.signing.encryption import Encryption
    from slackwater.identity.signing.service import Signing
    from slackwater.identity.stored_keys.valid import ValidKeys
    from slackwater.postgres.pool import Database
    from slackwater.settings import Settings

SweepAlso = Callable[[str, Callable[[], Awaitable[object]]], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CredentialServices:
    """Each is None where the settings do not ask for it."""

    keys: ValidKeys | None = None
    signing: Signing | None = None
    accounts: Accounts | None = None
    sessions: Sessions | None = None
    oidc: Oidc | None = None


# Imported in each function: most servers need few of them, and what these import takes long.


async def open_credentials(
    settings: Settings,
    database: Database,
    encryption: Encryption | None,
    stack: AsyncExitStack,
    sweep_also: SweepAlso,
) -> CredentialServices:
    """Open what the settings ask for. `encryption`: of the keys that sign tokens, if any are signed. Raises SettingsError."""
    keys = _keys(database, stack) if settings.database_keys else None
    if encryption is None:
        return CredentialServices(keys)
    signing = await _signing(settings, database, encryption, stack, sweep_also)
    if not settings.accounts:
        return CredentialServices(keys, signing)
    from slackwater.identity.sessions import Sessions

    accounts = await _accounts(settings, database, stack, sweep_also)
    sessions = Sessions(accounts, signing)
    stack.push_async_callback(sessions.stop)
    oidc = None
    if settings.login_providers:
        from slackwater.identity.oidc.service import Oidc

        oidc = Oidc(database, signing, accounts, settings.login_providers)
        sweep_also("oidc", oidc.sweep)
    return CredentialServices(keys, signing, accounts, sessions, oidc)


def _keys(database: Database, stack: AsyncExitStack) -> ValidKeys:
    from slackwater.identity.stored_keys.valid import ValidKeys

    keys = ValidKeys(database)
    stack.push_async_callback(keys.stop)
    return keys


async def _signing(
    settings: Settings,
    database: Database,
    encryption: Encryption,
    stack: AsyncExitStack,
    sweep_also: SweepAlso,
) -> Signing:
    from slackwater.identity.signing import rotation
    from slackwater.identity.signing.service import Signing

    signing = Signing(database, encryption)
    stack.push_async_callback(signing.stop)
    if encryption.keys or settings.accounts:  # else none may ever be needed
        await signing.open()
    sweep_also("signing", partial(rotation.trim, database))
    return signing


async def _accounts(
    settings: Settings, database: Database, stack: AsyncExitStack, sweep_also: SweepAlso
) -> Accounts:
    """While there is no administrator, the log shows how to become one."""
    from slackwater.identity.accounts import service
    from slackwater.identity.accounts.setup import SetupMode, setup_link

    policy = service.AccountPolicy(
        SetupMode(settings.setup) if settings.setup else SetupMode.LOCAL,
        settings.registration == "open",
        settings.session_days,
    )
    accounts = service.Accounts(database, policy)
    stack.callback(accounts.close)
    if not imports_are_lazy():
        await accounts.warm()
    if (token := await accounts.setup_token()) is not None:
        log.warning(
            "no administrator exists: open %s to become the first one",
            setup_link(settings.own_url, token),
            extra={"event": "accounts.setup"},
        )
    sweep_also("accounts", partial(service.trim, database))
    return accounts
