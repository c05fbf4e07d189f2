"""The cookies of a session, the one by which the first administrator is set up, and the one of a login with a provider."""

from __future__ import annotations

from fastapi import Request, Response

from slackwater.identity.csrf import COOKIE as CSRF
from slackwater.identity.oidc import login
from slackwater.identity.sessions import COOKIE as SESSION
from slackwater.identity.sessions import IssuedSession, cookie
from slackwater.web.route_table import ACCOUNTS

SETUP = "setup_token"
SETUP_SECONDS = 3600

LOGIN = "oidc_login"


def set_session(request: Request, response: Response, issued: IssuedSession) -> None:
    """Log the browser in. Over plain HTTP, which is for trying things out, until it is closed."""
    secure = _is_secure(request)
    seconds = issued.seconds if secure else None
    response.set_cookie(SESSION, issued.token, seconds, secure=secure, httponly=True, samesite="lax")
    response.set_cookie(CSRF, issued.csrf, seconds, secure=secure, samesite="strict")


def delete_session(request: Request, response: Response) -> None:
    secure = _is_secure(request)
    response.delete_cookie(SESSION, secure=secure, httponly=True, samesite="lax")
    response.delete_cookie(CSRF, secure=secure, samesite="strict")


def set_setup(request: Request, response: Response, token: str) -> None:
    """Sent with the form of the first administrator, which has no field for it, and with nothing else."""
    response.set_cookie(
        SETUP,
        token,
        SETUP_SECONDS,
        path=ACCOUNTS,
        secure=_is_secure(request),
        httponly=True,
        samesite="strict",
    )


def delete_setup(request: Request, response: Response) -> None:
    response.delete_cookie(SETUP, path=ACCOUNTS, secure=_is_secure(request), httponly=True, samesite="strict")


def set_login(request: Request, response: Response, token: str) -> None:
    """What this browser keeps of a login while its user is at the provider. Of two at a time the last one counts."""
    response.set_cookie(
        _login_name(request),
        token,
        login.SECONDS,
        secure=_is_secure(request),
        httponly=True,
        samesite="lax",  # the provider's page leads back
    )


def login_of(request: Request) -> str | None:
    return cookie(request.headers, _login_name(request))


def delete_login(request: Request, response: Response) -> None:
    secure = _is_secure(request)
    response.delete_cookie(_login_name(request), secure=secure, httponly=True, samesite="lax")


def _login_name(request: Request) -> str:
    """Over TLS one that only this host can set: another one of its domain could make its own login that of this browser."""
    return f"__Host-{LOGIN}" if _is_secure(request) else LOGIN


def _is_secure(request: Request) -> bool:
    """Whether the client speaks TLS, as the server, a trusted proxy or the gateway's event says."""
    return bool(request.scope["scheme"] == "https")
