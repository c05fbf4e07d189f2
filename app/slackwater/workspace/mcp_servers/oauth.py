"""Tokens that servers ask for, fetched where the configuration says, and kept in memory until shortly before they expire."""

from __future__ import annotations

import asyncio
from typing import Any

from slackwater.errors import SlackwaterError
from slackwater.kit.moment import Moment
from slackwater.workspace.mcp_servers.models import McpOAuth

SECONDS = 5.0
"""How long a token may take to come."""

UNSAID_SECONDS = 3600.0
"""How long a token is valid that does not say so."""

MOST = 100


class McpTokenRefused(SlackwaterError):
    """Whoever gives out tokens for an MCP server has given none."""


class OAuthTokens:
    """Those of this process."""

    def __init__(self) -> None:
        self._tokens: dict[str, tuple[str, Moment, float]] = {}
        """By what was asked for: the header, when it was asked for, and for how many seconds it is used."""
        self._asking: dict[str, asyncio.Lock] = {}

    async def headers(self, oauth: McpOAuth | None) -> dict[str, str]:
        """What a request needs. `oauth` is resolved. Raises McpTokenRefused, TimeoutError, and what httpx2 raises."""
        if oauth is None or not oauth.enabled:
            return {}
        key = oauth.model_dump_json()
        async with self._asking.setdefault(key, asyncio.Lock()):
            known = self._tokens.get(key)
            if known is None or known[1].age >= known[2]:
                asked = Moment.now()
                async with asyncio.timeout(SECONDS):
                    header, seconds = await _fetch(oauth)
                known = self._tokens[key] = header, asked, seconds - oauth.refresh_skew_seconds
        if len(self._tokens) > MOST:  # of configurations that there were
            self._tokens.clear()
            self._asking.clear()
        return {"authorization": known[0]}


async def _fetch(oauth: McpOAuth) -> tuple[str, float]:
    import httpx2

    from slackwater.identity.oidc.transport import BoundedTransport

    form = {**oauth.extra_token_params, "grant_type": oauth.grant_type}
    for name in ("client_id", "client_secret", "scope", "audience"):
        if (value := getattr(oauth, name)) is not None:
            form[name] = value
    if oauth.grant_type == "refresh_token":
        form["refresh_token"] = oauth.refresh_token or ""
    async with httpx2.AsyncClient(transport=BoundedTransport(), timeout=SECONDS) as client:
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        answer = await client.post(oauth.token_url, data=form, headers=headers)
    if answer.status_code != 200:
        raise McpTokenRefused(f"no token: the answer was {answer.status_code}")
    try:
        said: Any = answer.json()
        token = said[oauth.token_field]
        kind = said.get(oauth.token_type_field) or oauth.default_token_type
        seconds = float(said.get(oauth.expires_in_field) or UNSAID_SECONDS)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise McpTokenRefused from None
    if not isinstance(token, str) or not token or not token.isprintable() or not isinstance(kind, str):
        raise McpTokenRefused
    # Many say `bearer` and expect `Bearer`.
    return f"{'Bearer' if kind.lower() == 'bearer' else kind} {token}", seconds
