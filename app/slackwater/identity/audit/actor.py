"""What is audited, and who has done it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from slackwater.identity.principal import Principal


class AuditAction(StrEnum):
    """What has happened."""

    REQUEST_REFUSED = "request.refused"
    """A request was answered 401, 403 or 429; one row for many of a minute."""
    KEY_CREATED = "key.created"
    KEY_REVOKED = "key.revoked"
    SIGNING_KEY_ROTATED = "signing_key.rotated"
    """Tokens are signed by another key from then on."""
    LOGIN = "login"
    """Of a user, by password or by an external identity."""
    LOGIN_REFUSED = "login.refused"
    """The password was wrong, or there is no such user."""
    LOGIN_LOCKED = "login.locked"
    """The same, and it was the last time for now."""
    LOGOUT = "logout"
    SESSION_REVOKED = "session.revoked"
    PASSWORD_CHANGED = "password.changed"  # noqa: S105 - no secret
    PASSWORD_RESET = "password.reset"  # noqa: S105 - no secret
    USER_REGISTERED = "user.registered"
    """By themselves."""
    USER_CREATED = "user.created"
    """By a command, or by their first login with an external identity."""
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    IDENTITY_LINKED = "identity.linked"
    """A user has added a provider, by which they can log in from then on."""
    USER_ROLE_CHANGED = "user.role_changed"
    SETUP = "setup"
    """The first administrator was made."""
    TOKEN_ISSUED = "token.issued"  # noqa: S105 - no secret
    """A command gave out a token that calls as one owner."""
    RUN_CANCELLED = "run.cancelled"
    """Somebody asked for it. Runs that others displace, or whose readers left, are not in here."""
    RUN_DELETED = "run.deleted"
    THREAD_DELETED = "thread.deleted"
    ASSISTANT_DELETED = "assistant.deleted"
    CRON_DELETED = "cron.deleted"
    SKILL_SWITCHED = "skill.switched"
    """A public one, on or off for everybody."""
    CONFIGURATION_CHANGED = "configuration.changed"
    """What administrators change at run time, such as the models."""
    MCP_SERVER_CHANGED = "mcp_server.changed"
    """Added, changed or removed, for everybody."""
    OWNER_EXPORTED = "owner.exported"
    OWNER_ERASED = "owner.erased"


class Via(StrEnum):
    """How."""

    API = "api"
    TOKEN = "token"  # noqa: S105 - no secret
    """By the API, too, with a token that a command has given out for this owner."""
    COMMAND = "command"
    """By `slackwater …`, of whoever can reach the database."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something that is audited."""

    name: str | None
    via: Via | None
    """None: it is not audited."""
    key_id: UUID | None = None
    """The stored key or the token that they have sent."""

    @classmethod
    def of(cls, principal: Principal) -> Actor:
        """The caller of a request."""
        if principal.token_id is not None:
            return cls(principal.identity, Via.TOKEN, principal.token_id)
        return cls(principal.identity, Via.API, principal.key_id)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Those of `queries.audited`."""
        return {"actor": self.name, "actor_via": self.via and self.via.value, "actor_key": self.key_id}


NOBODY = Actor(None, None)
"""The system itself: what it does by its own rules is not audited."""

COMMAND = Actor(None, Via.COMMAND)
"""Whoever runs a command."""
