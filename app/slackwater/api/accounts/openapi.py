"""What the routes of accounts answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal
from uuid import UUID

from slackwater.errors import (
    CrossSiteLogin,
    Crowded,
    InvalidField,
    NoAccount,
    NotAuthenticated,
    NotFound,
    SessionEnded,
    SigningKeyUnreadable,
    TokenExpired,
    TokenInvalid,
    UserNotFound,
)
from slackwater.identity.accounts.errors import (
    AccountDisabled,
    AlreadySetUp,
    EmailTaken,
    InvalidEmail,
    LastAdministrator,
    LockedOut,
    PasswordsCrowded,
    RegistrationClosed,
    SetupTokenNeeded,
    TooManyRegistrations,
    WeakPassword,
    WrongCredentials,
    WrongPassword,
)
from slackwater.identity.oidc.errors import (
    EmailNotVerified,
    ForeignDomain,
    ForeignNext,
    IdentityTaken,
    IdTokenRefused,
    LoginGone,
    ProviderNotFound,
    ProviderRefused,
    ProviderUnavailable,
)
from slackwater.web.openapi.parameters import MOMENT
from slackwater.web.openapi.pieces import NO_CONTENT, Json, Operation, Response, Shape, header

TAG = (
    "Users: how they are set up, log in, and what administrators may do. Only with SLACKWATER_ACCOUNTS=true."
)

USER = "0199b6d2-11aa-7e10-8a52-3d5c7f9b1e20"
SESSION = "0199b6d2-2fd0-7c44-9d10-5b7e9f1a3c50"


class AccountView(Shape):
    """Somebody who may log in."""

    id: UUID
    email: str
    system_role: Literal["admin", "user"]
    needs_setup: bool
    """Somebody else has chosen their password: they have to choose one."""


class AdministeredUser(AccountView):
    """A user, as administrators see them."""

    disabled: bool


class UserSession(Shape):
    """Where a user is logged in."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    """To the minute."""
    expires_at: datetime
    address: str
    user_agent: str | None
    current: bool
    """Whether this request was sent with it."""


class LoggedIn(Shape):
    """A session has begun, whose token is in the cookie."""

    expires_in: int
    """Seconds."""
    needs_setup: bool


class BearerToken(Shape):
    """A session has begun."""

    access_token: str
    token_type: Literal["bearer"]
    expires_in: int
    """Seconds."""


class SetupStatus(Shape):
    """What a page shows to whoever has not logged in."""

    needs_setup: bool
    """The first administrator has to be made."""
    registration: Literal["closed"] = "closed"
    """Only where others may not register."""
    providers: tuple[str, ...] = ()
    """Whom one can log in with, if anybody: `/api/v1/auth/oauth/{provider}`."""


class LinkBegun(Shape):
    """The user goes to the provider now."""

    url: str


class Done(Shape):
    """It was done."""

    message: str


class LoginForm(Shape):
    """Who logs in."""

    username: str
    """The e-mail address."""
    password: str


_STATUS = {"needs_setup": False, "providers": ["oidc"]}
_ONE = {"id": USER, "email": "maria@example.org", "system_role": "user", "needs_setup": False}
_ADMIN = {**_ONE, "system_role": "admin"}
_ADMINISTERED = {**_ONE, "disabled": False}
_SESSION = {
    "id": SESSION,
    "created_at": MOMENT,
    "last_used_at": MOMENT,
    "expires_at": "2026-11-30T20:58:40.877892+00:00",
    "address": "203.0.113.9",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "current": True,
}
_COOKIES = {
    "Set-Cookie": header(
        "`access_token`, which no script can read, and `csrf_token`, whose value pages send as `X-CSRF-Token`.",
        required=False,
    )
}
_DELETES = {"Set-Cookie": header("Deletes both cookies.", required=False)}
_LOGIN_COOKIE = header("What the browser keeps of the login for ten minutes; no script can read it.")
_PROVIDER: Mapping[str, Json] = {
    "provider": {"description": "One of `providers` of the setup status.", "example": "oidc"},
    "next": {"description": "Where it leads to in the end: a path of this server.", "example": "/workspace"},
}
_CREDENTIALS = {"a user": {"email": "maria@example.org", "password": "correct horse battery"}}


def _form(shown: Json) -> None:
    """A form in place of JSON."""
    schema = {
        "type": "object",
        "required": ["username", "password"],
        "properties": {
            "username": {"type": "string", "description": "The e-mail address."},
            "password": {"type": "string"},
        },
    }
    example = {"username": "maria@example.org", "password": "correct horse battery"}
    content = {"application/x-www-form-urlencoded": {"schema": schema, "example": example}}
    shown["requestBody"] = {"required": True, "content": content}


OPERATIONS: Mapping[str, Operation] = {
    "GET /api/v1/auth/setup-status": Operation(
        id="get_setup_status",
        responses={200: Response("The status.", SetupStatus, _STATUS)},
        public=True,
    ),
    "GET /api/v1/auth/setup": Operation(
        id="open_setup",
        responses={
            303: Response(
                "Leads to the page `/setup`.",
                headers={
                    "Location": header("`/setup`", example="/setup"),
                    "Set-Cookie": header("`setup_token`, which no script can read.", required=False),
                },
            )
        },
        parameters={"token": {"description": "That of the link."}},
        public=True,
    ),
    "POST /api/v1/auth/initialize": Operation(
        id="initialize",
        responses={
            201: Response("The first administrator, logged in.", AccountView, _ADMIN, headers=_COOKIES)
        },
        errors=(
            CrossSiteLogin,
            AlreadySetUp,
            SetupTokenNeeded,
            InvalidField,
            InvalidEmail,
            WeakPassword,
            EmailTaken,
            PasswordsCrowded,
        ),
        bodies=_CREDENTIALS,
        public=True,
    ),
    "POST /api/v1/auth/register": Operation(
        id="register",
        responses={201: Response("The user, logged in.", AccountView, _ONE, headers=_COOKIES)},
        errors=(
            CrossSiteLogin,
            EmailTaken,
            RegistrationClosed,
            InvalidField,
            InvalidEmail,
            WeakPassword,
            TooManyRegistrations,
            PasswordsCrowded,
        ),
        bodies=_CREDENTIALS,
        public=True,
    ),
    "POST /api/v1/auth/login/local": Operation(
        id="log_in",
        responses={
            200: Response(
                "Logged in.", LoggedIn, {"expires_in": 604_800, "needs_setup": False}, headers=_COOKIES
            )
        },
        body=LoginForm,
        errors=(CrossSiteLogin, WrongCredentials, LockedOut, InvalidField, PasswordsCrowded),
        edit=_form,
        public=True,
    ),
    "POST /api/v1/auth/token": Operation(
        id="get_token",
        responses={
            200: Response(
                "Logged in.",
                BearerToken,
                {
                    "access_token": "eyJhbGciOiJIUzI1NiIsImtpZCI6…",
                    "token_type": "bearer",
                    "expires_in": 604_800,
                },
            )
        },
        body=LoginForm,
        errors=(
            CrossSiteLogin,
            WrongCredentials,
            LockedOut,
            InvalidField,
            PasswordsCrowded,
            SigningKeyUnreadable,
        ),
        edit=_form,
        public=True,
    ),
    "POST /api/v1/auth/logout": Operation(
        id="log_out",
        responses={
            200: Response("Logged out.", Done, {"message": "Successfully logged out"}, headers=_DELETES)
        },
        errors=(CrossSiteLogin,),
        public=True,
    ),
    "GET /api/v1/auth/oauth/{provider}": Operation(
        id="begin_login",
        responses={
            302: Response(
                "Leads to the provider.",
                headers={
                    "Location": header("The provider's page.", example="https://id.example.com/authorize?…"),
                    "Set-Cookie": _LOGIN_COOKIE,
                },
            )
        },
        errors=(ProviderNotFound, ForeignNext, InvalidField, ProviderUnavailable, Crowded),
        parameters=_PROVIDER,
        public=True,
    ),
    "POST /api/v1/auth/oauth/{provider}/link": Operation(
        id="begin_link",
        session=True,
        responses={
            200: Response(
                "Where to go.",
                LinkBegun,
                {"url": "https://id.example.com/authorize?…"},
                headers={"Set-Cookie": _LOGIN_COOKIE},
            )
        },
        errors=(NoAccount, ProviderNotFound, ForeignNext, InvalidField, ProviderUnavailable, Crowded),
        parameters=_PROVIDER,
    ),
    "GET /api/v1/auth/callback/{provider}": Operation(
        id="end_login",
        responses={
            303: Response(
                "Logged in.", headers={**_COOKIES, "Location": header("`next`", example="/workspace")}
            )
        },
        errors=(
            ProviderNotFound,
            LoginGone,
            ProviderRefused,
            ProviderUnavailable,
            IdTokenRefused,
            EmailNotVerified,
            ForeignDomain,
            IdentityTaken,
            EmailTaken,
            InvalidEmail,
            RegistrationClosed,
            AccountDisabled,
            Crowded,
        ),
        parameters={"provider": _PROVIDER["provider"]},
        public=True,
    ),
    "GET /api/v1/auth/me": Operation(
        id="get_me",
        session=True,
        responses={200: Response("The user.", AccountView, _ONE)},
        errors=(NotAuthenticated, TokenExpired, TokenInvalid, SessionEnded, UserNotFound, NoAccount),
        stored=False,
    ),
    "POST /api/v1/auth/change-password": Operation(
        id="change_password",
        session=True,
        responses={
            200: Response("Changed.", Done, {"message": "Password changed successfully"}, headers=_COOKIES)
        },
        errors=(WrongPassword, EmailTaken, NoAccount, InvalidField, WeakPassword, PasswordsCrowded),
        bodies={
            "the password": {
                "current_password": "correct horse battery",
                "new_password": "staple horse correct",
            }
        },
    ),
    "GET /api/v1/auth/sessions": Operation(
        id="list_sessions",
        session=True,
        responses={200: Response("The sessions, the newest first.", list[UserSession], [_SESSION])},
        errors=(NoAccount,),
    ),
    "DELETE /api/v1/auth/sessions/{session_id}": Operation(
        id="revoke_session",
        session=True,
        responses={204: NO_CONTENT},
        errors=(NoAccount, NotFound),
        parameters={
            "session_id": {
                "description": "The id of the session.",
                "schema": {"type": "string", "format": "uuid"},
                "example": SESSION,
            }
        },
    ),
    "GET /api/v1/auth/users": Operation(
        id="list_users",
        responses={200: Response("All users, the first one first.", list[AdministeredUser], [_ADMINISTERED])},
    ),
    "PATCH /api/v1/auth/users/{user_id}": Operation(
        id="change_user",
        responses={200: Response("The user.", AdministeredUser, {**_ADMINISTERED, "disabled": True})},
        errors=(NotFound, LastAdministrator, InvalidField),
        bodies={"disable": {"disabled": True}},
        parameters={
            "user_id": {
                "description": "The id of the user.",
                "schema": {"type": "string", "format": "uuid"},
                "example": USER,
            }
        },
    ),
}
