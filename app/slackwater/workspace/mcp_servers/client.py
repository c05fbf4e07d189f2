"""The HTTP client by which servers are asked, and those who give out tokens for them: proxies are the environment's, answers are bounded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from ssl import SSLContext

import httpx2

from slackwater.identity.oidc.transport import bound

MOST_BYTES = 10_000_000
"""Of one answer, or of all that is sent in one stream."""


@cache
def tls() -> SSLContext:
    """Made once: it takes longer than a request."""
    return httpx2.create_ssl_context()


def http_client(
    headers: Mapping[str, str] | None = None,
    timeout: httpx2.Timeout | float | None = None,
    auth: httpx2.Auth | None = None,
    *,
    most_bytes: int = MOST_BYTES,
) -> httpx2.AsyncClient:
    """For one question, or one connection. What `mcp` takes for a factory."""

    async def bounded(response: httpx2.Response) -> None:
        await bound(response, response.request, most_bytes)

    return httpx2.AsyncClient(
        headers={**(headers or {}), "accept-encoding": "identity"},
        timeout=timeout,
        auth=auth,
        verify=tls(),
        event_hooks={"response": [bounded]},
    )
