"""Who has an account, and the tokens that they call with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

from slackwater.identity import internal
from slackwater.identity.accounts import service
from slackwater.identity.accounts.account import Account, Device, Opened, Role
from slackwater.identity.accounts.service import Accounts
from slackwater.identity.audit.actor import COMMAND
from slackwater.identity.scopes import EVERYTHING, KeyScope, granted
from slackwater.identity.sessions import Sessions
from slackwater.identity.signing.encryption import Encryption
from slackwater.identity.signing.service import Signing
from slackwater.postgres.pool import Database
from tests.integration.identity.matrix.callers import Caller, with_token
from tests.integration.identity.matrix.world import Things

DEVICE = Device("203.0.113.5", "Firefox")

_USER = granted([KeyScope.RUN])


@dataclass(frozen=True)
class Logins:
    """Of the owner, who has two sessions, of another user and of an administrator."""

    database: Database
    signing: Signing
    account: Account
    """The owner's."""
    things: Things
    """What belongs to the account: one of the sessions is nobody's in the matrix, and can be ended."""

    @property
    def owner(self) -> str:
        return self.account.owner

    async def callers(self) -> AsyncIterator[Caller]:
        """One after the other, as the last one is let in no more, and tokens for scripts are valid for minutes."""
        yield with_token("foreign user", await self._token(address()), _USER, logged_in=True)
        yield with_token("administrator with an account", await self._token(ROOT), EVERYTHING, logged_in=True)
        for scope in internal.SCOPES:
            issued = await internal.issue(self.signing, self.owner, seconds=300, scope=scope)
            yield with_token(f"token to {scope}", issued.token, granted([scope]), owns=True)
        foreign = await internal.issue(self.signing, "bob", seconds=300, scope=KeyScope.RUN)
        yield with_token("foreign token", foreign.token, granted([KeyScope.RUN]))
        mine = self.account.email
        yield with_token("user", await self._token(mine), _USER, owns=True, logged_in=True)
        token = await self._token(mine)
        await service.set_disabled(self.database, mine, True)
        yield with_token("disabled user", token)

    async def _token(self, email: str) -> str:
        accounts = Accounts(self.database)
        issued = await Sessions(accounts, self.signing).issue(await _open(accounts, email))
        return issued.token


ROOT = "root@example.com"


def address() -> str:
    return f"email-{uuid4().hex[:12]}@example.com"


async def _open(accounts: Accounts, email: str) -> Opened:
    """A session, without a password, whose hash takes time."""
    return await accounts.external("https://id.example", email, email, DEVICE, provision=True)


@asynccontextmanager
async def logins_of(database: Database) -> AsyncIterator[Logins]:
    """The people, and what signs their tokens as the servers do."""
    accounts, signing = Accounts(database), Signing(database, Encryption())
    root = (await _open(accounts, ROOT)).account
    await accounts.administer(root.user_id, role=Role.ADMIN, actor=COMMAND)
    mine = await _open(accounts, address())
    things = Things(
        {"user_id": str(mine.account.user_id), "session_id": str(mine.session_id)},
        frozenset({mine.account.email.partition("@")[0]}),
    )
    try:
        yield Logins(database, signing, mine.account, things)
    finally:
        await signing.stop()
