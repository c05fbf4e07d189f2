"""What requests about accounts look like, and how an account and a session are shown."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import BaseModel, StrictBool, StrictStr

from slackwater.identity.accounts.account import Account, Role, Session
from slackwater.kit.json_format import timestamp


class Credentials(BaseModel):
    """Who somebody is going to be."""

    email: StrictStr
    password: StrictStr


class PasswordChange(BaseModel):
    current_password: StrictStr
    new_password: StrictStr
    new_email: StrictStr | None = None


class UserPatch(BaseModel):
    """Only the fields that are sent change."""

    disabled: StrictBool | None = None
    role: Role | None = None


def view(account: Account) -> dict[str, Any]:
    """An account, as its user sees it."""
    return {
        "id": str(account.user_id),
        "email": account.email,
        "system_role": account.role.value,
        "needs_setup": account.needs_setup,
    }


def admin_view(account: Account) -> dict[str, Any]:
    """An account, as administrators see it."""
    return {**view(account), "disabled": account.disabled}


def session_view(session: Session, current: UUID | None) -> dict[str, Any]:
    """A session; `current`: that of the request."""
    return {
        "id": str(session.session_id),
        "created_at": timestamp(session.created_at),
        "last_used_at": timestamp(session.last_used_at),
        "expires_at": timestamp(session.expires_at),
        "address": session.address,
        "user_agent": session.device,
        "current": session.session_id == current,
    }
