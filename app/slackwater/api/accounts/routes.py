"""Accounts over HTTP. Where a page logs in, the token is in a cookie that no script can read, and never in a body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers
from starlette.responses import RedirectResponse

from slackwater.api.accounts import cookies
from slackwater.api.accounts.models import (
    Credentials,
    PasswordChange,
    UserPatch,
    admin_view,
    session_view,
    view,
)
from slackwater.api.accounts.route import AccountRoute, SmallRequest, answer
from slackwater.api.accounts.state import CurrentAccounts, CurrentSession, CurrentSessions, oidc_of
from slackwater.errors import InvalidField, NotFound, Unauthorized
from slackwater.identity import loopback
from slackwater.identity.accounts.account import Device, Opened
from slackwater.identity.audit.actor import Actor
from slackwater.identity.principal import CurrentPrincipal
from slackwater.identity.sessions import Sessions, cookie, shown_by
from slackwater.kit.ids import parse_uuid
from slackwater.web.http import CurrentServices
from slackwater.web.route_table import ACCOUNTS

if TYPE_CHECKING:
    from slackwater.services import Services

SETUP_PAGE = "/setup"

router = APIRouter(prefix=ACCOUNTS, tags=["accounts"], route_class=AccountRoute)


# Setting up


@router.get("/setup-status")
async def setup_status(accounts: CurrentAccounts, services: CurrentServices) -> Response:
    """Whether the first administrator still has to be made; and, where it is not as usual, that others may not register, and who
    else logs users in."""
    status: dict[str, Any] = {"needs_setup": await accounts.setup_needed()}
    if services.settings.registration != "open":
        status["registration"] = services.settings.registration
    if services.oidc is not None:
        status["providers"] = services.oidc.names
    return answer(status)


@router.get("/setup")
async def open_setup(request: Request, accounts: CurrentAccounts, token: str = "") -> Response:
    """Begin to set up the first administrator with the link that the log shows: leads to the page `/setup`.

    The token of the link is kept in a cookie, which goes along with the page's form.
    """
    response = RedirectResponse(SETUP_PAGE, 303, {"Cache-Control": "no-store"})
    if token and await accounts.is_setup_token(token):
        cookies.set_setup(request, response, token)
    return response


@router.post("/initialize")
async def initialize(
    request: Request,
    body: Credentials,
    services: CurrentServices,
    accounts: CurrentAccounts,
    sessions: CurrentSessions,
) -> Response:
    """Make the first administrator, and log in."""
    opened = await accounts.initialize(
        body.email,
        body.password,
        _device(request),
        token=cookie(request.headers, cookies.SETUP),
        # On AWS Lambda nobody is on this machine.
        trusted=not services.settings.on_lambda and loopback.refusal(request.scope) is None,
    )
    response = answer(view(opened.account), 201)
    cookies.set_session(request, response, await sessions.issue(opened))
    cookies.delete_setup(request, response)
    return response


# Logging in and out


@router.post("/register")
async def register(
    request: Request, body: Credentials, accounts: CurrentAccounts, sessions: CurrentSessions
) -> Response:
    """Make an account, and log in."""
    opened = await accounts.register(body.email, body.password, _device(request))
    response = answer(view(opened.account), 201)
    cookies.set_session(request, response, await sessions.issue(opened))
    return response


@router.post("/login/local")
async def login(request: Request, accounts: CurrentAccounts, sessions: CurrentSessions) -> Response:
    """Log a browser in: the token is in a cookie."""
    opened = await _opened(request, accounts)
    issued = await sessions.issue(opened)
    response = answer({"expires_in": issued.seconds, "needs_setup": opened.account.needs_setup})
    cookies.set_session(request, response, issued)
    return response


@router.post("/token")
async def token(request: Request, accounts: CurrentAccounts, sessions: CurrentSessions) -> Response:
    """Log a script in: the token is in the body, to be sent as `Authorization: Bearer`. No cookie is set."""
    issued = await sessions.issue(await _opened(request, accounts))
    return answer({"access_token": issued.token, "token_type": "bearer", "expires_in": issued.seconds})


@router.post("/logout")
async def logout(request: Request, accounts: CurrentAccounts, sessions: CurrentSessions) -> Response:
    """End the session, if there is one: its token is refused from now on, whoever has it."""
    shown = shown_by(Headers(scope=request.scope))
    if shown is not None:
        try:
            principal = await sessions.principal(shown)
        except Unauthorized:
            pass  # it has ended already
        else:
            assert principal.session_id is not None
            await accounts.logout(principal.session_id)
            sessions.ended(principal.session_id)
    response = answer({"message": "Successfully logged out"})
    cookies.delete_session(request, response)
    return response


# Logging in with a provider


@router.get("/oauth/{provider}")
async def begin_login(
    provider: str, request: Request, services: CurrentServices, next: str | None = None
) -> Response:
    """Log in with a provider: leads there, and then to `next`, a path of this server."""
    begun = await oidc_of(services).begin(provider, _callback(request, services, provider), next)
    response = RedirectResponse(begun.url, 302, {"Cache-Control": "no-store"})
    cookies.set_login(request, response, begun.token)
    return response


@router.post("/oauth/{provider}/link")
async def begin_link(
    provider: str,
    request: Request,
    services: CurrentServices,
    session: CurrentSession,
    next: str | None = None,
) -> Response:
    """Add a provider to one's account, to log in with from then on: the page goes to `url`, which leads to `next` in the end."""
    user_id = session.account.user_id
    begun = await oidc_of(services).begin(provider, _callback(request, services, provider), next, user_id)
    response = answer({"url": begun.url})
    cookies.set_login(request, response, begun.token)
    return response


@router.get("/callback/{provider}")
async def end_login(
    provider: str, request: Request, services: CurrentServices, sessions: CurrentSessions
) -> Response:
    """Where the provider sends the browser back to."""
    finished = await oidc_of(services).finish(
        provider,
        cookies.login_of(request),
        dict(request.query_params),
        _device(request),
        await _user_id(request, sessions),
    )
    response = RedirectResponse(finished.next, 303, {"Cache-Control": "no-store"})
    cookies.delete_login(request, response)
    if finished.opened is not None:
        cookies.set_session(request, response, await sessions.issue(finished.opened))
    return response


# Oneself


@router.get("/me")
async def me(session: CurrentSession) -> Response:
    """Who has logged in."""
    return answer(view(session.account))


@router.post("/change-password")
async def change_password(
    request: Request,
    body: PasswordChange,
    session: CurrentSession,
    accounts: CurrentAccounts,
    sessions: CurrentSessions,
) -> Response:
    """Change the password, and the address if one is sent: all sessions end, and another one begins here.

    Whoever has sent a bearer token gets another one by logging in.
    """
    opened = await accounts.change_password(
        session.account,
        session.session_id,
        body.current_password,
        body.new_password,
        body.new_email,
        _device(request),
    )
    sessions.changed(session.account.user_id)
    response = answer({"message": "Password changed successfully"})
    if session.by_cookie:
        cookies.set_session(request, response, await sessions.issue(opened))
    return response


@router.get("/sessions")
async def list_sessions(session: CurrentSession, accounts: CurrentAccounts) -> Response:
    """One's sessions, the newest first: where one is logged in."""
    found = await accounts.sessions(session.account.user_id)
    return answer([session_view(each, session.session_id) for each in found])


@router.delete("/sessions/{session_id}")
async def revoke_session(
    session_id: str, session: CurrentSession, accounts: CurrentAccounts, sessions: CurrentSessions
) -> Response:
    """End one of one's sessions. What is open with it ends within ten seconds."""
    ended = parse_uuid(session_id, "session")
    if not await accounts.revoke_session(session.account.user_id, ended):
        raise NotFound(f"Session {session_id} not found")
    sessions.ended(ended)
    return Response(status_code=204)


# Others, for administrators


@router.get("/users")
async def list_users(accounts: CurrentAccounts) -> Response:
    """All users, the first one first."""
    return answer([admin_view(user) for user in await accounts.users()])


@router.patch("/users/{user_id}")
async def change_user(
    user_id: str,
    body: UserPatch,
    principal: CurrentPrincipal,
    accounts: CurrentAccounts,
    sessions: CurrentSessions,
) -> Response:
    """Disable a user, whose sessions end, or let them in again; make them an administrator, or no longer."""
    changed = await accounts.administer(
        parse_uuid(user_id, "user"), disabled=body.disabled, role=body.role, actor=Actor.of(principal)
    )
    sessions.changed(changed.user_id)
    return answer(admin_view(changed))


async def _opened(request: Request, accounts: CurrentAccounts) -> Opened:
    """A new session, by the form that OAuth 2 has for it."""
    assert isinstance(request, SmallRequest)
    fields = await request.form_fields()
    missing = [name for name in ("username", "password") if name not in fields]
    if missing:
        raise InvalidField.of([(("body", name), "Field required") for name in missing])
    return await accounts.login(fields["username"], fields["password"], _device(request))


async def _user_id(request: Request, sessions: Sessions) -> UUID | None:
    """Who is logged in in this browser, if anybody is."""
    shown = shown_by(Headers(scope=request.scope))
    try:
        principal = None if shown is None else await sessions.principal(shown)
    except Unauthorized:
        return None
    return principal.account.user_id if principal is not None and principal.account is not None else None


def _callback(request: Request, services: Services, provider: str) -> str:
    """Where the provider answers: as browsers reach this server."""
    own = services.settings.public_url or f"{request.scope['scheme']}://{request.headers.get('host', '')}"
    return f"{own}{ACCOUNTS}/callback/{provider}"


def _device(request: Request) -> Device:
    client = request.scope.get("client")
    return Device(client[0] if client else "unknown", request.headers.get("user-agent"))
