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
from slackwater.webhooks import address, chat, queries
from slackwater.webhooks.chat import ChatCall, Chats, Sent
from slackwater.webhooks.policy import Policy

if TYPE_CHECKING:
    from ssl import SSLContext

    import httpx

AT_A_TIME = 16
OF_ONE_OWNER = 8
"""Of these: a receiver that takes its time keeps others waiting for half of them only."""
ATTEMPT_SECONDS = 30.0
"""How long a receiver may take."""
NO_ANSWER = f"no answer within {ATTEMPT_SECONDS:g} s"
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
    """The outbox of a process. `key` signs; `chats` tells those that are no URLs."""

    def __init__(
        self, database: Database, policy: Policy, key: bytes | None = None, chats: Chats | None = None
    ) -> None:
        super().__init__(TERMS)
        self._database = database
        self._policy = policy
        self._key = key
        self._chats = chats
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
            chats=() if self._chats is None else self._chats.urls,
        )

    async def _attempt(self, row: Row) -> str | None:
        trouble = await (self._tell(row) if row["url"].startswith(chat.SCHEME) else self._post(row))
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
            "receiver": f"{parts.scheme}://{parts.netloc}" if parts.netloc else row["url"],
        }

    async def _tell(self, row: Row) -> str | None:
        """Tell a chat; why it was not told, or None."""
        assert self._chats is not None  # it has claimed its own rows only
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):  # for all of its requests: the lease lasts no longer
                return await self._chats.tell(row, self._call)
        except TimeoutError:
            return NO_ANSWER

    async def _call(self, call: ChatCall) -> Sent:
        # The project says where its chat is: no caller can.
        headers = dict(call.headers)
        return await self._sent_to(
            call.url, call.body, headers, loopback=True, private=True, read=chat.ANSWER_BYTES
        )

    async def _post(self, row: Row) -> str | None:
        """Send it, once; why it was not taken, or None."""
        from slackwater.webhooks import message

        policy = self._policy
        try:
            policy.check(row["url"])  # the rules may have changed since
        except Invalid as refusal:
            return str(refusal)
        body = message.body_of(row, policy)
        headers = message.headers_of(
            str(row["run_id"]), body, key=self._key, now=int(time.time()), policy=policy
        )
        sent = await self._sent_to(
            row["url"], body, headers, loopback=policy.loopback, private=policy.private
        )
        return sent.trouble

    async def _sent_to(
        self, to: str, body: bytes, headers: dict[str, str], *, loopback: bool, private: bool, read: int = 0
    ) -> Sent:
        """POST it, and read so many bytes of the answer."""
        import httpx  # most processes never send one

        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                status, answer = await self._send(
                    to, body, headers, loopback=loopback, private=private, read=read
                )
        except TimeoutError:
            return Sent(NO_ANSWER)
        except address.AddressRefused as refusal:
            return Sent(str(refusal))
        except httpx.LocalProtocolError as problem:
            return Sent(
                type(problem).__name__
            )  # its text has the header that is wrong, which may be a secret
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as problem:
            return Sent(f"{type(problem).__name__}: {problem}")
        return Sent(None if 200 <= status < 300 else f"answered {status}", answer)

    async def _send(
        self, to: str, body: bytes, headers: dict[str, str], *, loopback: bool, private: bool, read: int
    ) -> tuple[int, bytes]:
        import httpx

        parts = urlsplit(to)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        ips = await address.resolve(host, port, loopback=loopback, private=private)
        url = httpx.URL(to)
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
                    try:
                        return answer.status_code, await _beginning(answer, read)
                    finally:
                        await answer.aclose()

    def _client(self, *, tls: bool) -> httpx.AsyncClient:
        import httpx

        return httpx.AsyncClient(
            timeout=httpx.Timeout(ATTEMPT_SECONDS, connect=CONNECT_SECONDS),
            verify=self._context() if tls else False,
            # No proxy and no redirect: both would choose another address than the one that was looked at.
            trust_env=False,
            follow_redirects=False,
        )

    def _context(self) -> SSLContext:
        import httpx

        if self._tls is None:
            self._tls = httpx.create_ssl_context()  # takes longer than all the rest
        return self._tls


async def _beginning(answer: httpx.Response, most: int) -> bytes:
    """So many bytes of an answer, and none that come after them."""
    content = b""
    if most:
        async for piece in answer.aiter_bytes():
            content += piece
            if len(content) >= most:
                break
    return content[:most]
