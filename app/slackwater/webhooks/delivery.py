"""Sends what is due, several at a time, and records what came of it.

Whatever happens to this process, a delivery stays a row until its receiver has taken it: it may be sent twice, with the
same `webhook-id`, and is never lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from slackwater.errors import Invalid
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.pool import Database
from slackwater.postgres.shares import Shares
from slackwater.webhooks import address, queries
from slackwater.webhooks.policy import Policy

if TYPE_CHECKING:
    from ssl import SSLContext

    import httpx

log = logging.getLogger(__name__)

AT_A_TIME = 16
OF_ONE_OWNER = 8
"""Of these: a receiver that takes its time keeps others waiting for half of them only."""
ATTEMPT_SECONDS = 30.0
"""How long a receiver may take."""
LEASE_SECONDS = ATTEMPT_SECONDS + 15
CONNECT_SECONDS = 5.0
MAX_ATTEMPTS = 10
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 3600.0
"""Between attempts, three times as long after each: together about four hours."""
LET_GO_SECONDS = 1.0
"""What it may take to say that a delivery was broken off. Otherwise its lease says so, later."""
BREAK_OFF_SHARE, MOMENT_SECONDS = 0.4, 0.05
"""Of the time that is left when this process stops sending, for saying so; and how much at least."""


class Deliveries:
    """The outbox of a process. `key` signs."""

    def __init__(self, database: Database, policy: Policy, key: bytes | None = None) -> None:
        self._database = database
        self._policy = policy
        self._key = key
        self._tls: SSLContext | None = None
        self._wanted = False
        self._held_back = False
        """An owner had as many as one may when the last claim was made: more may be due of theirs."""
        self._stopped = False
        self._taking: asyncio.Task[None] | None = None
        self._live: dict[asyncio.Task[None], str] = {}
        """What is being sent, and whose it is."""
        self._shares = Shares()

    def nudge(self) -> None:
        """Look for what is due, and send it."""
        self._wanted = True
        if self._taking is None and not self._stopped:
            self._taking = asyncio.create_task(self._take(), name="webhooks")

    async def sweep(self) -> None:
        """Send what has become due, and forget what was given up long ago."""
        await queries.trim(self._database)
        self.nudge()

    async def sent(self, timeout: float) -> None:
        """Wait, `timeout` seconds at most, until nothing more is being sent; what is, is broken off and stays due."""
        until = time.monotonic() + timeout
        patience = until - timeout * BREAK_OFF_SHARE
        while (busy := self._busy) and (left := patience - time.monotonic()) > 0:
            await asyncio.wait(busy, timeout=left)
        await self._break_off(until)

    async def stop(self, timeout: float) -> None:
        """Send nothing more; what is being sent has `timeout` seconds left."""
        self._stopped = True
        await self.sent(timeout)

    @property
    def _busy(self) -> set[asyncio.Task[None]]:
        return set(self._live) | ({self._taking} if self._taking is not None else set())

    async def _break_off(self, until: float) -> None:
        self._wanted = self._held_back = False
        # A claim in flight is waited for: what it brings would otherwise be nobody's until its lease ends.
        if self._taking is not None:
            await asyncio.wait([self._taking], timeout=max(MOMENT_SECONDS, until - time.monotonic()))
        if not self._live:
            return
        await asyncio.sleep(0)  # a task that is cancelled before its first turn lets nothing go
        tasks = set(self._live)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=max(MOMENT_SECONDS, until - time.monotonic()))

    async def _take(self) -> None:
        try:
            while self._wanted and (free := AT_A_TIME - len(self._live)) > 0:
                self._wanted = False
                in_hand = list(self._live.values())
                rows = await queries.claim(
                    self._database,
                    limit=free,
                    lease_seconds=LEASE_SECONDS,
                    share=self._shares,
                    in_hand=in_hand,
                    most=OF_ONE_OWNER,
                )
                for row in rows:
                    task = asyncio.create_task(self._deliver(row), name=f"webhook:{row['run_id']}")
                    self._live[task] = row["owner"]
                    task.add_done_callback(self._done)
                self._wanted = self._wanted or len(rows) == free
                # As the claim saw it: some of them may be done by now.
                owners = Counter([*in_hand, *(row["owner"] for row in rows)])
                self._held_back = max(owners.values(), default=0) >= OF_ONE_OWNER
        except DATABASE_UNAVAILABLE as problem:
            log.warning(
                "webhooks: %s; the next sweep sends them", problem, extra={"event": "webhook.trouble"}
            )
        except Exception:
            log.exception(
                "webhooks not claimed; the next sweep tries again", extra={"event": "webhook.trouble"}
            )
        finally:
            self._taking = None

    def _done(self, task: asyncio.Task[None]) -> None:
        self._live.pop(task, None)
        if self._wanted or self._held_back:
            self.nudge()

    async def _deliver(self, row: dict[str, Any]) -> None:
        which = (row["run_id"], row["fence"])
        try:
            trouble = await self._attempt(row)
            if trouble is None:
                await queries.delivered(self._database, *which)
            elif row["attempts"] < MAX_ATTEMPTS:
                await queries.put_off(self._database, *which, seconds=pause(row["attempts"]), trouble=trouble)
                log.warning(
                    "webhook postponed: %s", trouble, extra={"event": "webhook.put_off", **_about(row)}
                )
            elif await queries.give_up(self._database, *which, trouble=trouble):
                log.error("webhook given up: %s", trouble, extra={"event": "webhook.given_up", **_about(row)})
        except asyncio.CancelledError:
            await self._let_go(row)
            raise
        except DATABASE_UNAVAILABLE as problem:
            log.warning(
                "webhook outcome not recorded: %s; it is sent again",
                problem,
                extra={"event": "webhook.trouble", **_about(row)},
            )

    async def _let_go(self, row: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(LET_GO_SECONDS):
                await queries.let_go(self._database, row["run_id"], row["fence"])
        except DATABASE_UNAVAILABLE as problem:
            log.warning(
                "webhook not released: %s; its lease expires",
                problem,
                extra={"event": "webhook.trouble", **_about(row)},
            )

    async def _attempt(self, row: dict[str, Any]) -> str | None:
        """Send it, once; why it was not taken, or None."""
        import httpx  # most processes never send one

        if row["attempts"] > MAX_ATTEMPTS:  # the last ones ended with their processes
            return row["trouble"] or "every attempt ended with its process"
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                status = await self._post(row)
        except TimeoutError:
            return f"no answer within {ATTEMPT_SECONDS:g} s"
        except (Invalid, address.AddressRefused) as refusal:
            return str(refusal)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as problem:
            return f"{type(problem).__name__}: {problem}"[:500]
        except Exception as problem:  # whatever it is, the delivery is put off and, at last, given up
            log.exception("webhook not sent", extra={"event": "webhook.trouble", **_about(row)})
            return type(problem).__name__
        return None if 200 <= status < 300 else f"answered {status}"

    async def _post(self, row: dict[str, Any]) -> int:
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


def pause(attempts: int) -> float:
    """Seconds until the next attempt, after so many."""
    seconds = min(FIRST_PAUSE_SECONDS * 3.0 ** (attempts - 1), LONGEST_PAUSE_SECONDS)
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - no secret


def _about(row: dict[str, Any]) -> dict[str, Any]:
    parts = urlsplit(row["url"])
    return {
        "run_id": str(row["run_id"]),
        "thread_id": str(row["thread_id"]),
        "attempt": row["attempts"],
        # Not its path and query, which may hold a token.
        "receiver": f"{parts.scheme}://{parts.netloc}",
    }
