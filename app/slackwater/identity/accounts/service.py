"""What can be done with accounts, in any number of processes: all that is decided is decided by the database.

A password is compared between two statements: the first reserves the attempt, the second begins the session if the user is
still who they were. Whoever is killed in between leaves an attempt that counts as a wrong one, and no session.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import UUID

from slackwater.errors import NotFound
from slackwater.identity.accounts import queries
from slackwater.identity.accounts.account import Account, Device, Opened, Role, Session, email_of
from slackwater.identity.accounts.errors import (
    AccountDisabled,
    AlreadySetUp,
    EmailTaken,
    InvalidEmail,
    LastAdministrator,
    LockedOut,
    RegistrationClosed,
    SetupTokenNeeded,
    TooManyRegistrations,
    WrongCredentials,
    WrongPassword,
)
from slackwater.identity.accounts.lockout import Counted, account_key
from slackwater.identity.accounts.passwords import Passwords, check_strength, chosen_for_them
from slackwater.identity.accounts.setup import SetupMode, SetupQuestion, new_token, token_hash
from slackwater.identity.addresses import network_of
from slackwater.identity.audit.actor import Actor, AuditAction
from slackwater.kit.ids import uuid7
from slackwater.postgres.conflicts import UniqueViolation
from slackwater.postgres.pool import Database

DAY = 86_400.0

TRIMMED = 1000
"""How many rows one statement deletes."""

TRIES = 3
"""How often it is looked again who has an external identity, when somebody else was faster."""


@dataclass(frozen=True, slots=True)
class AccountPolicy:
    """What the settings say of accounts."""

    setup: SetupMode = SetupMode.LOCAL
    registration_open: bool = True
    session_days: float = 7.0


class External(Enum):
    """What becomes of somebody whom a provider of identities has named."""

    LOGIN = "login"
    """They have an account."""
    LINK = "link"
    """The account with their address has no password, and no other identity of this provider: it is theirs."""
    PROVISION = "provision"
    """They get one."""
    TAKEN = "taken"
    """Their address belongs to an account that somebody else may have registered."""
    DISABLED = "disabled"
    UNKNOWN = "unknown"
    """They have no account, and get none."""


class Accounts:
    """Belongs to the event loop of the process."""

    def __init__(self, database: Database, policy: AccountPolicy | None = None) -> None:
        self._database = database
        self.policy = policy or AccountPolicy()
        self.passwords = Passwords()
        self._setup = SetupQuestion(self._setup_needed)

    async def _setup_needed(self) -> bool:
        return bool((await queries.setup(self._database))["needed"])

    async def warm(self) -> None:
        """Import what hashes passwords, so that the first login does not wait for it."""
        await self.passwords.warm()

    def close(self) -> None:
        """End its threads."""
        self.passwords.close()

    # Beginning a session

    async def login(self, email: str, password: str, device: Device) -> Opened:
        """Raises WrongCredentials, LockedOut, PasswordsCrowded."""
        address = email_of(email)
        counted = Counted.login(address or email, device.address)
        with self.passwords.place():
            reserved, user = await queries.attempt(self._database, counted, email=address)
            _check_lock(reserved)
            stored = user["password"] if user is not None and user["disabled_at"] is None else None
            verdict = await self.passwords.verify(password, stored)
        begun = None
        if verdict.matches and user is not None:
            begun = await queries.login(
                self._database,
                self._session(device),
                counted,
                user_id=user["user_id"],
                version=user["token_version"],
                verified=stored,
                rehashed=verdict.rehashed,
            )
        if begun is None:
            await self._tell_refused(reserved, counted, user, device)
            raise WrongCredentials
        return _opened(begun)

    async def register(self, email: str, password: str, device: Device) -> Opened:
        """Raises RegistrationClosed, InvalidEmail, WeakPassword, EmailTaken, TooManyRegistrations, PasswordsCrowded."""
        if not self.policy.registration_open:
            raise RegistrationClosed
        address = _checked(email)
        check_strength(password, address)
        with self.passwords.place():
            reserved, _ = await queries.attempt(self._database, Counted.registration(device.address))
            if reserved["locked_for"] is not None:
                raise TooManyRegistrations(reserved["locked_for"])
            stored = await self.passwords.hash(password)
        begun = await queries.register(
            self._database, self._session(device), user_id=uuid7(), email=address, password=stored
        )
        if begun is None:
            raise EmailTaken
        return _opened(begun)

    async def change_password(
        self,
        account: Account,
        session_id: UUID,
        current: str,
        new: str,
        new_email: str | None,
        device: Device,
    ) -> Opened:
        """Change it, and the address; all sessions end, this one too, and the one that is returned begins.

        Whoever was to choose a password has done so, if they give an address as well.
        Raises WeakPassword, InvalidEmail, WrongPassword, EmailTaken, LockedOut, PasswordsCrowded.
        """
        address = None if new_email is None else _checked(new_email, "new_email")
        check_strength(new, address or account.email, "new_password")
        counted = Counted.login(account.email, device.address)
        with self.passwords.place():
            reserved, user = await queries.attempt(self._database, counted, user_id=account.user_id)
            _check_lock(reserved)
            verdict = await self.passwords.verify(current, user["password"] if user is not None else None)
            stored = await self.passwords.hash(new) if verdict.matches else ""
        begun = None
        if verdict.matches and user is not None:
            try:
                begun = await queries.change_password(
                    self._database,
                    self._session(device),
                    counted,
                    user_id=user["user_id"],
                    version=user["token_version"],
                    password=stored,
                    email=address,
                )
            except UniqueViolation:
                raise EmailTaken from None
        if begun is None:
            await self._tell_refused(reserved, counted, user, device)
            raise WrongPassword
        return _opened(begun)

    async def external(
        self, provider: str, subject: str, email: str, device: Device, *, provision: bool
    ) -> Opened:
        """The session of whom a provider of identities has named, whose address it has verified.

        Who has this identity is found by `subject`, else by the address, if that account has neither a password nor another
        identity of this provider: somebody else may have registered it, and addresses are given to others.
        Raises InvalidEmail, EmailTaken, AccountDisabled; RegistrationClosed for who is new, without `provision`.
        """
        address = _checked(email)
        for _ in range(TRIES):
            found = await queries.external(self._database, provider, subject, address)
            outcome, user = decide_external(found, provision=provision)
            match outcome:
                case External.TAKEN:
                    raise EmailTaken
                case External.DISABLED:
                    raise AccountDisabled
                case External.UNKNOWN:
                    raise RegistrationClosed
            if user is None:
                begun = await queries.provision(
                    self._database,
                    self._session(device),
                    provider=provider,
                    subject=subject,
                    user_id=uuid7(),
                    email=address,
                )
            else:
                begun = await queries.login_external(
                    self._database,
                    self._session(device),
                    provider=provider,
                    subject=subject,
                    user_id=user["user_id"],
                    version=user["token_version"],
                    linked=user["linked"],
                )
            if begun is not None:
                return _opened(begun)
        raise AccountDisabled

    async def link(self, user_id: UUID, provider: str, subject: str, device: Device) -> bool:
        """Let a user, who is logged in, also log in with this identity; False if it is another user's."""
        return await queries.link(
            self._database,
            provider=provider,
            subject=subject,
            user_id=user_id,
            address=network_of(device.address),
        )

    # The first administrator

    async def setup_needed(self) -> bool:
        """Whether no administrator exists."""
        return await self._setup.needed()

    async def setup_token(self) -> str | None:
        """A new token by which the first administrator may be made; None if there is one, or no token is needed.

        Those that were made before stay valid, until somebody has used one.
        """
        return None if self.policy.setup is SetupMode.OPEN else await new_setup_token(self._database)

    async def is_setup_token(self, token: str) -> bool:
        """Whether the first administrator may be made by it."""
        state = await queries.setup(self._database, token_hash(token))
        return bool(state["needed"] and state["known"])

    async def initialize(
        self, email: str, password: str, device: Device, *, token: str | None, trusted: bool
    ) -> Opened:
        """The first administrator. `trusted`: the caller is on this machine, and nobody in between.

        Raises AlreadySetUp, SetupTokenNeeded, InvalidEmail, WeakPassword, EmailTaken, PasswordsCrowded.
        """
        sha256 = None if token is None else token_hash(token)
        is_open = self.policy.setup.is_open_to(trusted=trusted)
        await self._check_setup(sha256, is_open=is_open)
        address = _checked(email)
        check_strength(password, address)
        with self.passwords.place():
            stored = await self.passwords.hash(password)
        begun = await queries.initialize(
            self._database,
            self._session(device),
            user_id=uuid7(),
            email=address,
            password=stored,
            is_open=is_open,
            sha256=sha256,
        )
        if begun is None:
            await self._check_setup(sha256, is_open=is_open)
            raise EmailTaken
        return _opened(begun)

    async def _check_setup(self, sha256: bytes | None, *, is_open: bool) -> None:
        state = await queries.setup(self._database, sha256)
        if not state["needed"]:
            raise AlreadySetUp
        if not (is_open or state["known"]):
            raise SetupTokenNeeded

    # Sessions

    async def find(self, session_id: UUID) -> tuple[Account, float] | None:
        """Whose session it is, and until when (seconds since the epoch), if it is valid now. One statement."""
        row = await queries.find(self._database, session_id)
        return None if row is None else (Account.of(row), row["expires"])

    async def still_valid(self, session_ids: Collection[UUID]) -> set[UUID]:
        """Those of them that are valid now."""
        return await queries.still_valid(self._database, session_ids)

    async def is_user(self, user_id: UUID) -> bool:
        """Whether there is such a user, who may be disabled."""
        return await queries.is_user(self._database, user_id)

    async def logout(self, session_id: UUID) -> None:
        """End this session. Of one that has ended nothing is said."""
        await queries.logout(self._database, session_id)

    async def sessions(self, user_id: UUID) -> list[Session]:
        """The valid ones of a user, the newest first."""
        return [Session(**row) for row in await queries.sessions(self._database, user_id)]

    async def revoke_session(self, user_id: UUID, session_id: UUID) -> bool:
        """End a session of this user; False if there is none."""
        return await queries.revoke_session(self._database, user_id, session_id)

    # By administrators

    async def users(self) -> list[Account]:
        """All of them, the first one first."""
        return [Account.of(row) for row in await queries.all_users(self._database)]

    async def administer(
        self, user_id: UUID, *, disabled: bool | None = None, role: Role | None = None, actor: Actor
    ) -> Account:
        """Change a user, whose sessions end if they are disabled. Raises NotFound, LastAdministrator."""
        row = await queries.administer(self._database, user_id, disabled=disabled, role=role, actor=actor)
        if row is None:
            raise NotFound(f"User {user_id} not found")
        changed = Account.of(row)
        if disabled not in (None, changed.disabled) or role not in (None, changed.role):
            raise LastAdministrator
        return changed

    # Inside

    def _session(self, device: Device) -> Mapping[str, Any]:
        """The parameters of a session that is about to begin."""
        return {
            "session_id": uuid7(),
            "address": network_of(device.address),
            "device": device.shown,
            "seconds": self.policy.session_days * DAY,
            **queries.THEMSELVES.parameters,
        }

    async def _tell_refused(
        self, reserved: Mapping[str, Any], counted: Counted, user: Mapping[str, Any] | None, device: Device
    ) -> None:
        last = reserved["attempts"] >= counted.limit.most
        await queries.refused(
            self._database,
            AuditAction.LOGIN_LOCKED if last else AuditAction.LOGIN_REFUSED,
            owner=None if user is None else user["owner"],
            user_id=None if user is None else user["user_id"],
            address=network_of(device.address),
        )


def decide_external(
    found: Collection[Mapping[str, Any]], *, provision: bool
) -> tuple[External, Mapping[str, Any] | None]:
    """What becomes of whom a provider has named, by the rows of `queries.external`; and which of them is theirs."""
    user = next((row for row in found if row["linked"]), next(iter(found), None))
    if user is None:
        return (External.PROVISION if provision else External.UNKNOWN), None
    if not user["linked"] and user["taken"]:
        return External.TAKEN, user
    if user["disabled_at"] is not None:
        return External.DISABLED, user
    return (External.LOGIN if user["linked"] else External.LINK), user


def _check_lock(reserved: Mapping[str, Any]) -> None:
    if (seconds := reserved["locked_for"]) is not None:
        raise LockedOut(seconds)


def _checked(email: str, field: str = "email") -> str:
    address = email_of(email)
    if address is None:
        raise InvalidEmail(field=field)
    return address


def _opened(row: Mapping[str, Any]) -> Opened:
    return Opened(Account.of(row), row["session_id"], row["expires"])


# For commands and sweeps, which have no accounts of their own


async def new_setup_token(database: Database) -> str | None:
    """A token by which the first administrator may be made; None if there is one."""
    token = new_token()
    return token if await queries.add_setup_token(database, token_hash(token)) else None


async def create(database: Database, email: str, role: Role) -> tuple[str, Account]:
    """A new user, and the password that they are to change, which cannot be shown again. Raises InvalidEmail, EmailTaken."""
    address, password = _checked(email), chosen_for_them()
    row = await queries.create(
        database, user_id=uuid7(), email=address, password=await _hashed(password), role=role.value
    )
    if row is None:
        raise EmailTaken
    return password, Account.of(row)


async def reset(database: Database, email: str) -> tuple[str, Account] | None:
    """Another password for a user, who is to change it; their sessions end, and a lock-out. None if there is no such user."""
    address, password = email_of(email), chosen_for_them()
    if address is None:
        return None
    row = await queries.reset(
        database, email=address, password=await _hashed(password), account_key=account_key(address)
    )
    return None if row is None else (password, Account.of(row))


async def set_disabled(database: Database, email: str, disabled: bool) -> Account | None:
    """Let a user in no more, whose sessions every process refuses soon; or again. None if there is no such user."""
    address = email_of(email)
    if address is None:
        return None
    act = queries.disable if disabled else queries.enable
    row = await act(database, address) or await queries.user(database, address)
    return None if row is None else Account.of(row)


async def list_(database: Database) -> list[dict[str, Any]]:
    """All users, the first one first."""
    return await queries.list_(database)


async def trim(database: Database) -> None:
    """Delete the sessions that have expired, and what is not counted any more."""
    for delete in (queries.trim_sessions, queries.trim_attempts):
        while await delete(database, TRIMMED) == TRIMMED:
            pass


async def _hashed(password: str) -> str:
    passwords = Passwords()
    try:
        return await passwords.hash(password)
    finally:
        passwords.close()
