"""The tables of users, their sessions, and how often somebody has tried to begin one.

What ends sessions changes the user's `token_version` and deletes their rows, in one statement. One that is being opened at the
same time is not seen by the deletion, but has the old version. What is audited is told by the same statement.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from slackwater.identity.accounts.account import owner_of
from slackwater.identity.accounts.lockout import AttemptKind, Counted
from slackwater.identity.audit.actor import COMMAND, Actor, AuditAction, Via
from slackwater.identity.audit.queries import audited
from slackwater.postgres.pool import Database, Row

MOST_SESSIONS = 100
"""Of one user; the oldest ends when one more begins."""

MOST_SETUP_TOKENS = 100

THEMSELVES = Actor(None, Via.API)
"""A user, whose owner is in the statement itself."""

_ACCOUNT = "user_id, owner, email, role, needs_setup, token_version, disabled_at"

_VALID = "s.expires_at > clock_timestamp() and s.token_version = u.token_version and u.disabled_at is null"


def _themselves(rows: str, action: AuditAction, subject: str) -> str:
    return audited(rows, action, subject, actor="x.owner", address="%(address)s::text")


# A session begins for each user of the CTE `x`; what has begun is in `begun`.
_BEGUN = f"""opened as (
  insert into slackwater.sessions (session_id, user_id, token_version, address, device, expires_at)
  select %(session_id)s, x.user_id, x.token_version, %(address)s, %(device)s,
    clock_timestamp() + %(seconds)s::float * interval '1 second' from x
  returning session_id, user_id, expires_at
), trimmed as (
  delete from slackwater.sessions where session_id in (
    select s.session_id from slackwater.sessions s where s.user_id = (select user_id from x)
    order by s.session_id desc offset {MOST_SESSIONS - 1})
), begun as (
  select x.*, o.session_id, extract(epoch from o.expires_at)::float as expires from x join opened o using (user_id))"""

# Of the address only what this account has added from there, or its own account would give somebody as many tries as they like with
# those of others. Locked in the order of `_LOCK_ATTEMPTS`.
_CLEARED = f"""held as materialized (
  select kind, key from slackwater.login_attempts
  where (kind, key) in (('{AttemptKind.ACCOUNT}', %(account_key)s), ('{AttemptKind.ADDRESS}', %(address_key)s),
    ('{AttemptKind.PAIR}', %(pair_key)s)) and exists (select 1 from x)
  order by kind, key for update
), cleared as (
  delete from slackwater.login_attempts a using held
  where a.kind = held.kind and a.key = held.key and a.kind <> '{AttemptKind.ADDRESS}' returning a.kind, a.attempts
), lessened as (
  update slackwater.login_attempts a set attempts = greatest(0, a.attempts - c.attempts) from cleared c
  where c.kind = '{AttemptKind.PAIR}' and a.kind = '{AttemptKind.ADDRESS}' and a.key = %(address_key)s)"""

_ENDED = "ended as (delete from slackwater.sessions where user_id in (select user_id from x))"

_COUNTED = "unnest(%(kinds)s::text[], %(keys)s::bytea[]) as c(kind, key)"

# Whoever counts under the same keys waits here, and then sees what was counted. Always in one order.
_LOCK_ATTEMPTS = f"""
insert into slackwater.login_attempts as a (kind, key, attempts, until)
select c.kind, c.key, 0, clock_timestamp() from {_COUNTED} order by c.kind, c.key
on conflict (kind, key) do update
set attempts = case when a.until <= clock_timestamp() then 0 else a.attempts end"""

_RESERVE = f"""
with mine as materialized (
  select a.kind, a.key, a.attempts, a.until from slackwater.login_attempts a join {_COUNTED} using (kind, key)
), locked as materialized (
  select extract(epoch from max(until) - clock_timestamp())::float as seconds from mine where attempts >= %(most)s
), reserved as (
  update slackwater.login_attempts a
  set attempts = a.attempts + 1, until = clock_timestamp() + %(seconds)s::float * interval '1 second'
  from mine where a.kind = mine.kind and a.key = mine.key and (select seconds from locked) is null
  returning a.attempts
)
select (select seconds from locked) as locked_for, (select max(attempts) from reserved) as attempts"""

_BY_EMAIL = f"select {_ACCOUNT}, password from slackwater.users where email = %(email)s::text"

_BY_ID = f"select {_ACCOUNT}, password from slackwater.users where user_id = %(user_id)s"

# A hash that another login has renewed meanwhile is of the same password.
_LOGIN = f"""
with x as (
  update slackwater.users set last_login_at = clock_timestamp(),
    password = case when password = %(verified)s then coalesce(%(rehashed)s::text, password) else password end
  where user_id = %(user_id)s and token_version = %(version)s and disabled_at is null
  returning {_ACCOUNT}
), {_BEGUN}, {_CLEARED}, {_themselves("begun", AuditAction.LOGIN, "session_id")}
select * from begun"""

_REFUSED = """
insert into slackwater.audit (action, via, owner, subject, address)
values (%(action)s, 'api', %(owner)s::text, %(user_id)s::uuid::text, %(address)s)"""

_REGISTER = f"""
with x as (
  insert into slackwater.users (user_id, owner, email, password, role, last_login_at)
  values (%(user_id)s, %(owner)s, %(email)s, %(password)s, 'user', clock_timestamp())
  on conflict (email) do nothing returning {_ACCOUNT}
), {_BEGUN}, {_themselves("begun", AuditAction.USER_REGISTERED, "user_id")}
select * from begun"""

_CHANGE_PASSWORD = f"""
with x as (
  update slackwater.users set password = %(password)s, token_version = token_version + 1,
    email = coalesce(%(email)s::text, email), needs_setup = needs_setup and %(email)s::text is null
  where user_id = %(user_id)s and token_version = %(version)s and disabled_at is null
  returning {_ACCOUNT}
), {_ENDED}, {_BEGUN}, {_CLEARED}, {_themselves("begun", AuditAction.PASSWORD_CHANGED, "user_id")}
select * from begun"""

# Sessions

# As with keys: whoever uses a session a thousand times a second does not write that a thousand times.
_FIND = f"""
with found as (
  select s.session_id, s.last_used_at, extract(epoch from s.expires_at)::float as expires,
    u.user_id, u.email, u.role, u.needs_setup, u.token_version, u.disabled_at
  from slackwater.sessions s join slackwater.users u using (user_id) where s.session_id = %(session_id)s and {_VALID}
), used as (
  update slackwater.sessions set last_used_at = clock_timestamp() where session_id in (
    select s.session_id from slackwater.sessions s join found using (session_id)
    where s.last_used_at < clock_timestamp() - interval '1 minute'
    for update of s skip locked)
)
select * from found"""

_STILL_VALID = f"""
select s.session_id from slackwater.sessions s join slackwater.users u using (user_id)
where s.session_id = any(%(session_ids)s) and {_VALID}"""

_SESSIONS = f"""
select s.session_id, s.address, s.device, s.created_at, s.last_used_at, s.expires_at
from slackwater.sessions s join slackwater.users u using (user_id)
where s.user_id = %(user_id)s and {_VALID} order by s.session_id desc"""

_LOGOUT = f"""
with gone as (
  delete from slackwater.sessions s using slackwater.users u where s.session_id = %(session_id)s and u.user_id = s.user_id
  returning s.session_id, u.owner
), {audited("gone", AuditAction.LOGOUT, "session_id", actor="x.owner")}
select session_id from gone"""

_REVOKE = f"""
with gone as (
  delete from slackwater.sessions s using slackwater.users u
  where s.session_id = %(session_id)s and s.user_id = %(user_id)s and u.user_id = s.user_id
  returning s.session_id, u.owner
), {audited("gone", AuditAction.SESSION_REVOKED, "session_id", actor="x.owner")}
select session_id from gone"""

# The first administrator

_SETUP_LOCK = "select pg_advisory_xact_lock(hashtextextended('slackwater.setup', 0))"
"""Whoever makes administrators does so one after the other: only a statement that begins after this sees the others'."""

_NO_ADMIN = "not exists (select 1 from slackwater.users where role = 'admin')"

_LINK_KNOWN = "exists (select 1 from slackwater.setup_tokens where sha256 = %(sha256)s::bytea)"

_SETUP = f"select {_NO_ADMIN} as needed, {_LINK_KNOWN} as known"

_ADD_SETUP_TOKEN = f"""
insert into slackwater.setup_tokens (sha256) select %(sha256)s where {_NO_ADMIN} returning sha256"""

_TRIM_SETUP_TOKENS = f"""
delete from slackwater.setup_tokens where sha256 in (
  select sha256 from slackwater.setup_tokens order by created_at desc offset {MOST_SETUP_TOKENS})"""

_INITIALIZE = f"""
with x as (
  insert into slackwater.users (user_id, owner, email, password, role, last_login_at)
  select %(user_id)s, %(owner)s, %(email)s, %(password)s, 'admin', clock_timestamp()
  where {_NO_ADMIN} and (%(open)s or {_LINK_KNOWN})
  on conflict (email) do nothing returning {_ACCOUNT}
), used as (
  delete from slackwater.setup_tokens where exists (select 1 from x)
), {_BEGUN}, {_themselves("begun", AuditAction.SETUP, "user_id")}
select * from begun"""

# External identities

_IDENTITY_LOCK = "select pg_advisory_xact_lock(hashtextextended(%(provider)s || ' ' || %(subject)s, 27))"

_EXTERNAL = f"""
(select true as linked, false as taken, {", ".join(f"u.{name}" for name in _ACCOUNT.split(", "))}
 from slackwater.external_identities e join slackwater.users u using (user_id)
 where e.provider = %(provider)s and e.subject = %(subject)s)
union all
(select false, u.password is not null or exists (
    select 1 from slackwater.external_identities e where e.user_id = u.user_id and e.provider = %(provider)s),
  {", ".join(f"u.{name}" for name in _ACCOUNT.split(", "))}
 from slackwater.users u where u.email = %(email)s::text)"""

_LOGIN_EXTERNAL = f"""
with found as (
  update slackwater.users set last_login_at = clock_timestamp()
  where user_id = %(user_id)s and token_version = %(version)s and disabled_at is null and (%(linked)s or password is null)
  returning {_ACCOUNT}
), link as (
  insert into slackwater.external_identities as e (provider, subject, user_id)
  select %(provider)s, %(subject)s, user_id from found
  on conflict (provider, subject) do update set user_id = e.user_id where e.user_id = excluded.user_id
  returning user_id
), x as (
  select found.* from found join link using (user_id)
), {_BEGUN}, {_themselves("begun", AuditAction.LOGIN, "session_id")}
select * from begun"""

_PROVISION = f"""
with x as (
  insert into slackwater.users (user_id, owner, email, role, last_login_at)
  select %(user_id)s, %(owner)s, %(email)s, 'user', clock_timestamp() where not exists (
    select 1 from slackwater.external_identities where provider = %(provider)s and subject = %(subject)s)
  on conflict (email) do nothing returning {_ACCOUNT}
), link as (
  insert into slackwater.external_identities (provider, subject, user_id)
  select %(provider)s, %(subject)s, user_id from x
), {_BEGUN}, {_themselves("begun", AuditAction.USER_CREATED, "user_id")}
select * from begun"""

# Whose it is already stays so, also if it is the same user's.
_LINK = f"""
with link as (
  insert into slackwater.external_identities as e (provider, subject, user_id)
  select %(provider)s, %(subject)s, user_id from slackwater.users where user_id = %(user_id)s and disabled_at is null
  on conflict (provider, subject) do update set user_id = e.user_id where e.user_id = excluded.user_id
  returning user_id
), x as (select {_ACCOUNT} from slackwater.users join link using (user_id)),
{_themselves("x", AuditAction.IDENTITY_LINKED, "user_id")}
select user_id from x"""

# By command

_CREATE = f"""
with x as (
  insert into slackwater.users (user_id, owner, email, password, role, needs_setup)
  values (%(user_id)s, %(owner)s, %(email)s, %(password)s, %(role)s, true)
  on conflict (email) do nothing returning {_ACCOUNT}
), used as (
  delete from slackwater.setup_tokens where exists (select 1 from x where role = 'admin')
), {audited("x", AuditAction.USER_CREATED, "user_id")}
select * from x"""

_RESET = f"""
with x as (
  update slackwater.users set password = %(password)s, token_version = token_version + 1, needs_setup = true
  where email = %(email)s returning {_ACCOUNT}
), {_ENDED}, cleared as (
  delete from slackwater.login_attempts
  where kind = '{AttemptKind.ACCOUNT}' and key = %(account_key)s and exists (select 1 from x)
), {audited("x", AuditAction.PASSWORD_RESET, "user_id")}
select * from x"""

_DISABLE = f"""
with x as (
  update slackwater.users set disabled_at = clock_timestamp(), token_version = token_version + 1
  where email = %(email)s and disabled_at is null returning {_ACCOUNT}
), {_ENDED}, {audited("x", AuditAction.USER_DISABLED, "user_id")}
select * from x"""

_ENABLE = f"""
with x as (
  update slackwater.users set disabled_at = null where email = %(email)s and disabled_at is not null returning {_ACCOUNT}
), {audited("x", AuditAction.USER_ENABLED, "user_id")}
select * from x"""

_LIST = """
select u.user_id, u.owner, u.email, u.role, u.needs_setup, u.password is not null as has_password, u.created_at,
  u.last_login_at, u.disabled_at, (
    select count(*) from slackwater.sessions s
    where s.user_id = u.user_id and s.token_version = u.token_version and s.expires_at > clock_timestamp()) as sessions
from slackwater.users u order by u.created_at, u.user_id"""

# By administrators

_ALL = f"select {_ACCOUNT} from slackwater.users order by created_at, user_id"

# Under the lock of whoever makes administrators. The last one who may log in stays one.
_NOT_LAST = """not (u.role = 'admin' and u.disabled_at is null and not exists (
    select 1 from slackwater.users o where o.role = 'admin' and o.disabled_at is null and o.user_id <> u.user_id))"""

_SET_ROLE = f"""
with x as (
  update slackwater.users u set role = %(role)s where user_id = %(user_id)s and role <> %(role)s and {_NOT_LAST}
  returning user_id, owner, role
), {audited("x", AuditAction.USER_ROLE_CHANGED, "user_id", detail="x.role")}
select user_id from x"""

_DISABLE_BY_ID = f"""
with x as (
  update slackwater.users u set disabled_at = clock_timestamp(), token_version = token_version + 1
  where user_id = %(user_id)s and disabled_at is null and {_NOT_LAST} returning user_id, owner
), {_ENDED}, {audited("x", AuditAction.USER_DISABLED, "user_id")}
select user_id from x"""

_ENABLE_BY_ID = f"""
with x as (
  update slackwater.users set disabled_at = null where user_id = %(user_id)s and disabled_at is not null
  returning user_id, owner
), {audited("x", AuditAction.USER_ENABLED, "user_id")}
select user_id from x"""

# Retention

_TRIM_SESSIONS = """
delete from slackwater.sessions where ctid = any(array(
  select ctid from slackwater.sessions where expires_at < clock_timestamp() limit %(limit)s for update skip locked))"""

_TRIM_ATTEMPTS = """
delete from slackwater.login_attempts where ctid = any(array(
  select ctid from slackwater.login_attempts where until < clock_timestamp() - interval '1 minute' limit %(limit)s
  for update skip locked))"""


# Logging in


async def attempt(
    database: Database, counted: Counted, *, email: str | None = None, user_id: UUID | None = None
) -> tuple[Row, Row | None]:
    """Reserve an attempt: `locked_for` (seconds; None if it is reserved), `attempts` with this one; and the user, if any.

    The same statements are sent whoever it is.
    """
    parameters = {
        "kinds": [kind.value for kind in counted.kinds],
        "keys": list(counted.keys),
        "most": counted.limit.most,
        "seconds": counted.limit.seconds,
    }
    user = (_BY_EMAIL, {"email": email}) if user_id is None else (_BY_ID, {"user_id": user_id})
    _, (reserved,), users = await database.pipeline(
        (_LOCK_ATTEMPTS, parameters), (_RESERVE, parameters), user
    )
    return reserved, users[0] if users else None


async def login(
    database: Database,
    session: Mapping[str, Any],
    counted: Counted,
    *,
    user_id: UUID,
    version: int,
    verified: str | None,
    rehashed: str | None,
) -> Row | None:
    """Begin a session, if the user is as they were when their password was compared with `verified`.

    `session` is what `begin` has made. A row has the columns of a user, `session_id` and `expires` (seconds since the epoch).
    """
    parameters = {
        **session,
        **_attempts(counted),
        "user_id": user_id,
        "version": version,
        "verified": verified,
        "rehashed": rehashed,
    }
    return await database.fetch_one(_LOGIN, parameters)


async def refused(
    database: Database, action: AuditAction, *, owner: str | None, user_id: UUID | None, address: str
) -> None:
    """Tell of a login that was refused."""
    parameters = {"action": action.value, "owner": owner, "user_id": user_id, "address": address}
    await database.execute(_REFUSED, parameters)


async def register(
    database: Database, session: Mapping[str, Any], *, user_id: UUID, email: str, password: str
) -> Row | None:
    """A new user with a session; None if the address is taken."""
    parameters = {
        **session,
        **_new_user(user_id, email),
        "password": password,
    }
    return await database.fetch_one(_REGISTER, parameters)


async def change_password(
    database: Database,
    session: Mapping[str, Any],
    counted: Counted,
    *,
    user_id: UUID,
    version: int,
    password: str,
    email: str | None,
) -> Row | None:
    """Change it, and the address, and begin a session in place of all others; None if the user is not as they were.

    Raises UniqueViolation if the address is taken.
    """
    parameters = {
        **session,
        **_attempts(counted),
        "user_id": user_id,
        "version": version,
        "password": password,
        "email": email,
    }
    return await database.fetch_one(_CHANGE_PASSWORD, parameters)


def _new_user(user_id: UUID, email: str) -> Mapping[str, Any]:
    return {"user_id": user_id, "owner": owner_of(user_id), "email": email}


def _attempts(counted: Counted) -> Mapping[str, bytes]:
    account, address, pair = counted.keys
    return {"account_key": account, "address_key": address, "pair_key": pair}


# Sessions


async def find(database: Database, session_id: UUID) -> Row | None:
    """The user whose session it is, and `expires`, if it is valid now."""
    return await database.fetch_one(_FIND, {"session_id": session_id})


async def still_valid(database: Database, session_ids: Collection[UUID]) -> set[UUID]:
    """Those of the sessions that are valid now."""
    rows = await database.fetch(_STILL_VALID, {"session_ids": list(session_ids)})
    return {row["session_id"] for row in rows}


async def is_user(database: Database, user_id: UUID) -> bool:
    return await database.fetch_one(_BY_ID, {"user_id": user_id}) is not None


async def sessions(database: Database, user_id: UUID) -> list[Row]:
    """The valid ones of a user, the newest first."""
    return await database.fetch(_SESSIONS, {"user_id": user_id})


async def logout(database: Database, session_id: UUID) -> None:
    """End a session, if it is there."""
    await database.fetch(_LOGOUT, {"session_id": session_id, **THEMSELVES.parameters})


async def revoke_session(database: Database, user_id: UUID, session_id: UUID) -> bool:
    """End a session of this user; whether there was one."""
    parameters = {"user_id": user_id, "session_id": session_id, **THEMSELVES.parameters}
    return bool(await database.fetch(_REVOKE, parameters))


# The first administrator


async def setup(database: Database, sha256: bytes | None = None) -> Row:
    """`needed`: there is no administrator; `known`: this is the hash of a token by which one may be made."""
    (row,) = await database.fetch(_SETUP, {"sha256": sha256})
    return row


async def add_setup_token(database: Database, sha256: bytes) -> bool:
    """One more token by which the first administrator may be made; False if there is one."""
    _, added, _ = await database.pipeline(
        (_SETUP_LOCK, None), (_ADD_SETUP_TOKEN, {"sha256": sha256}), (_TRIM_SETUP_TOKENS, None)
    )
    return bool(added)


async def initialize(
    database: Database,
    session: Mapping[str, Any],
    *,
    user_id: UUID,
    email: str,
    password: str,
    is_open: bool,
    sha256: bytes | None,
) -> Row | None:
    """The first administrator with a session; None if there is one, or the token is none, or the address is taken."""
    parameters = {
        **session,
        **_new_user(user_id, email),
        "password": password,
        "open": is_open,
        "sha256": sha256,
    }
    _, begun = await database.pipeline((_SETUP_LOCK, None), (_INITIALIZE, parameters))
    return begun[0] if begun else None


# External identities


async def external(database: Database, provider: str, subject: str, email: str | None) -> list[Row]:
    """The user with this identity (`linked`), and the one with this address.

    `taken`: who has this identity is not who has the address, or it is not known whether they are.
    """
    return await database.fetch(_EXTERNAL, {"provider": provider, "subject": subject, "email": email})


async def login_external(
    database: Database,
    session: Mapping[str, Any],
    *,
    provider: str,
    subject: str,
    user_id: UUID,
    version: int,
    linked: bool,
) -> Row | None:
    """Begin a session of the user, who has this identity from now on; None if something has changed meanwhile."""
    parameters = {
        **session,
        "provider": provider,
        "subject": subject,
        "user_id": user_id,
        "version": version,
        "linked": linked,
    }
    _, begun = await database.pipeline((_IDENTITY_LOCK, parameters), (_LOGIN_EXTERNAL, parameters))
    return begun[0] if begun else None


async def provision(
    database: Database, session: Mapping[str, Any], *, provider: str, subject: str, user_id: UUID, email: str
) -> Row | None:
    """A new user without a password, with a session; None if somebody has the identity or the address meanwhile."""
    parameters = {
        **session,
        **_new_user(user_id, email),
        "provider": provider,
        "subject": subject,
    }
    _, begun = await database.pipeline((_IDENTITY_LOCK, parameters), (_PROVISION, parameters))
    return begun[0] if begun else None


async def link(database: Database, *, provider: str, subject: str, user_id: UUID, address: str) -> bool:
    """Give the user this identity, too; whether it is theirs now."""
    parameters = {
        "provider": provider,
        "subject": subject,
        "user_id": user_id,
        "address": address,
        **THEMSELVES.parameters,
    }
    _, linked = await database.pipeline((_IDENTITY_LOCK, parameters), (_LINK, parameters))
    return bool(linked)


# By command


async def create(database: Database, *, user_id: UUID, email: str, password: str, role: str) -> Row | None:
    """A new user, who is to choose another password; None if the address is taken."""
    parameters = {
        **_new_user(user_id, email),
        **COMMAND.parameters,
        "password": password,
        "role": role,
    }
    _, made = await database.pipeline((_SETUP_LOCK, None), (_CREATE, parameters))
    return made[0] if made else None


async def reset(database: Database, *, email: str, password: str, account_key: bytes) -> Row | None:
    """Another password, for a user who is to choose yet another one; None if there is no such user."""
    parameters = {"email": email, "password": password, "account_key": account_key}
    return await database.fetch_one(_RESET, {**parameters, **COMMAND.parameters})


async def disable(database: Database, email: str) -> Row | None:
    """End all sessions of a user, who cannot begin one any more; None if that is so, or there is no such user."""
    return await database.fetch_one(_DISABLE, {"email": email, **COMMAND.parameters})


async def enable(database: Database, email: str) -> Row | None:
    """Undo it; None if they are not disabled, or there is no such user."""
    return await database.fetch_one(_ENABLE, {"email": email, **COMMAND.parameters})


async def user(database: Database, email: str) -> Row | None:
    return await database.fetch_one(_BY_EMAIL, {"email": email})


async def list_(database: Database) -> list[Row]:
    """All users, the first one first."""
    return await database.fetch(_LIST)


# By administrators


async def all_users(database: Database) -> list[Row]:
    """All users, the first one first."""
    return await database.fetch(_ALL)


async def administer(
    database: Database, user_id: UUID, *, disabled: bool | None, role: str | None, actor: Actor
) -> Row | None:
    """Change what is not None; the user as they are then, and None if there is none. The last administrator does not change."""
    parameters = {"user_id": user_id, "role": role, **actor.parameters}
    act = {True: [_DISABLE_BY_ID], False: [_ENABLE_BY_ID], None: []}[disabled]
    changes = [*([_SET_ROLE] if role is not None else []), *act]
    *_, users = await database.pipeline(
        (_SETUP_LOCK, None), *((change, parameters) for change in changes), (_BY_ID, parameters)
    )
    return users[0] if users else None


# Retention


async def trim_sessions(database: Database, limit: int) -> int:
    """Delete so many sessions that have expired; how many there were."""
    return await database.execute(_TRIM_SESSIONS, {"limit": limit})


async def trim_attempts(database: Database, limit: int) -> int:
    """Delete so many counts that say nothing any more; how many there were."""
    return await database.execute(_TRIM_ATTEMPTS, {"limit": limit})
