"""Tokens that servers ask for, fetched where the configuration says, and kept in memory until shortly before they expire."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from slackwater.errors import SlackwaterError
from slackwater.kit.moment import Moment
from slackwater.workspace.mcp_servers.models import McpOAuth

SECONDS = 5.0
"""How long a token may take to come."""

UNSAID_SECONDS = 3600.0
"""How long a token is valid that does not say so."""

MOST = 100

MOST_BYTES = 512_000
"""Of an answer."""


class McpTokenRefused(SlackwaterError):
    """Whoever gives out tokens for an MCP server has given none."""


class OAuthTokens:
    """Those of this process."""

    def __init__(self) -> None:
        self._tokens: dict[str, tuple[str, Moment, float]] = {}
        """By what was asked for: the header, when it was asked for, and for how many seconds it is used."""
        self._asking: dict[str, asyncio.Lock] = {}

    async def headers(self, oauth: McpOAuth | None) -> dict[str, str]:
        """What a request needs. `oauth` is resolved. Raises McpTokenRefused, and what httpx2 raises."""
        if oauth is None or not oauth.enabled:
            return {}
        key = oauth.model_dump_json()
        async with self._asking.setdefault(key, asyncio.Lock()):
            known = self._tokens.get(key)
            if known is None or known[1].age >= known[2]:
                asked = Moment.now()
                try:
                    async with asyncio.timeout(SECONDS):
                        header, seconds = await _fetch(oauth)
                except TimeoutError:
                    raise McpTokenRefused(f"no token within {SECONDS:g} seconds") from None
                # One that is valid for less than that is used, too.
                used = max(seconds - oauth.refresh_skew_seconds, seconds / 2)
                known = self._tokens[key] = header, asked, used
        if len(self._tokens) > MOST:  # of configurations that there were
            self._tokens.clear()
            self._asking.clear()
        return {"authorization": known[0]}

    def forget(self, oauth: McpOAuth | None) -> None:
        """The next request has another one: this one may have been withdrawn."""
        if oauth is not None:
            self._tokens.pop(oauth.model_dump_json(), None)


async def _fetch(oauth: McpOAuth) -> tuple[str, float]:
    from slackwater.workspace.mcp_servers.client import http_client

    form = {**oauth.extra_token_params, "grant_type": oauth.grant_type}
    for name in ("client_id", "client_secret", "scope", "audience"):
        if (value := getattr(oauth, name)) is not None:
            form[name] = value
    if oauth.grant_type == "refresh_token":
        form["refresh_token"] = oauth.refresh_token or ""
    async with http_client({"accept": "application/json"}, SECONDS, most_bytes=MOST_BYTES) as client:
        answer = await client.post(oauth.token_url, data=form)
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
    if not math.isfinite(seconds):
        raise McpTokenRefused
    # Many say `bearer` and expect `Bearer`.
    return f"{'Bearer' if kind.lower() == 'bearer' else kind} {token}", seconds
