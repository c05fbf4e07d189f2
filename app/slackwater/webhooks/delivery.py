"""Sends what is due. A delivery stays a row until its receiver has taken it: it may be sent twice, with the same `webhook-id`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from slackwater.errors import Invalid
from slackwater.postgres.claimed import Claimed, Terms
from slackwater.postgres.pool import Database, Row
from slackwater.postgres.shares import Shares
from slackwater.webhooks import address, queries
from slackwater.webhooks.policy import Policy

if TYPE_CHECKING:
    from ssl import SSLContext

    import httpx

AT_A_TIME = 16
OF_ONE_OWNER = 8
"""Of these: a receiver that takes its time keeps others waiting for half of them only."""
ATTEMPT_SECONDS = 30.0
"""How long a receiver may take."""
LEASE_SECONDS = ATTEMPT_SECONDS + 15
CONNECT_SECONDS = 5.0
MAX_ATTEMPTS = 10
FIRST_PAUSE_SECONDS, PAUSE_FACTOR, LONGEST_PAUSE_SECONDS = 5.0, 3.0, 3600.0
"""Between attempts: together about four hours."""
TERMS = Terms(
    what="webhook",
    key="run_id",
    at_a_time=AT_A_TIME,
    of_one_owner=OF_ONE_OWNER,
    max_attempts=MAX_ATTEMPTS,
    first_pause=FIRST_PAUSE_SECONDS,
    pause_factor=PAUSE_FACTOR,
    longest_pause=LONGEST_PAUSE_SECONDS,
    put_off={"event": "webhook.put_off"},
    given_up={"event": "webhook.given_up"},
    trouble={"event": "webhook.trouble"},
)


class Deliveries(Claimed):
    """The outbox of a process. `key` signs."""

    def __init__(self, database: Database, policy: Policy, key: bytes | None = None) -> None:
        super().__init__(TERMS)
        self._database = database
        self._policy = policy
        self._key = key
        self._tls: SSLContext | None = None
        self._shares = Shares()

    def nudge(self) -> None:
        """Look for what is due, and send it."""
        self.look()

    async def sweep(self) -> None:
        """Send what has become due, and forget what was given up long ago."""
        await queries.trim(self._database)
        self.look()

    async def _claim(self, free: int, in_hand: Sequence[str]) -> list[Row]:
        return await queries.claim(
            self._database,
            limit=free,
            lease_seconds=LEASE_SECONDS,
            share=self._shares,
            in_hand=in_hand,
            most=OF_ONE_OWNER,
        )

    async def _attempt(self, row: Row) -> str | None:
        trouble = await self._send(row)
        if trouble is None:
            await queries.delivered(self._database, row["run_id"], row["fence"])
        return trouble

    async def _put_off(self, row: Row, seconds: float, trouble: str) -> None:
        await queries.put_off(self._database, row["run_id"], row["fence"], seconds=seconds, trouble=trouble)

    async def _give_up(self, row: Row, trouble: str) -> bool:
        return await queries.give_up(self._database, row["run_id"], row["fence"], trouble=trouble)

    async def _give_back(self, row: Row) -> None:
        await queries.let_go(self._database, row["run_id"], row["fence"])

    def _about(self, row: Row) -> dict[str, Any]:
        parts = urlsplit(row["url"])
        return {
            "run_id": str(row["run_id"]),
            "thread_id": str(row["thread_id"]),
            "attempt": row["attempts"],
            # Not its path and query, which may hold a token.
            "receiver": f"{parts.scheme}://{parts.netloc}",
        }

    async def _send(self, row: Row) -> str | None:
        """Send it, once; why it was not taken, or None."""
        import httpx  # most processes never send one

        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                status = await self._post(row)
        except TimeoutError:
            return f"no answer within {ATTEMPT_SECONDS:g} s"
        except (Invalid, address.AddressRefused) as refusal:
            return str(refusal)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as problem:
            return f"{type(problem).__name__}: {problem}"[:500]
        return None if 200 <= status < 300 else f"answered {status}"

    async def _post(self, row: Row) -> int:
        import httpx

        from slackwater.webhooks import message

        policy = self._policy
        policy.check(row["url"])  # the rules may have changed since
        parts = urlsplit(row["url"])
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        ips = await address.resolve(host, port, loopback=policy.loopback, private=policy.private)
        body = message.body_of(row, policy)
        headers = message.headers_of(
            str(row["run_id"]), body, key=self._key, now=int(time.time()), policy=policy
        )
        url = httpx.URL(row["url"])
        headers["host"] = url.netloc.decode()
        async with self._client(tls=parts.scheme == "https") as client:
            while True:
                request = client.build_request(
                    "POST",
                    url.copy_with(host=ips.pop(0)),
                    content=body,
                    headers=headers,
                    # The certificate has to be the name's, and not the address's.
                    extensions={"sni_hostname": host},
                )
                try:
                    answer = await client.send(request, stream=True)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    if not ips:
                        raise
                else:
                    await answer.aclose()
                    return answer.status_code

    def _client(self, *, tls: bool) -> httpx.AsyncClient:
        import httpx

        if tls and self._tls is None:
            self._tls = httpx.create_ssl_context()  # takes longer than all the rest
        return httpx.AsyncClient(
            timeout=httpx.Timeout(ATTEMPT_SECONDS, connect=CONNECT_SECONDS),
            verify=self._tls if tls and self._tls is not None else False,
            # No proxy and no redirect: both would choose another address than the one that was looked at.
            trust_env=False,
            follow_redirects=False,
        )
