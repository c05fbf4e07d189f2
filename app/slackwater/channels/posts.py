"""Tells chats of their answers, for the outbox of webhooks: that each stays a row until it was told is the outbox's affair.

First a notice that an answer is being made, and then the answer in its place: told twice, because nobody knows whether it was heard, it
is there once all the same. A message that a process could not note before it was killed stays; its metadata say of which run it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from slackwater.channels import queries, slack
from slackwater.channels.configured import Channel
from slackwater.postgres.pool import Database, Row
from slackwater.webhooks.chat import ChatCall, Send

NOTICE_SECONDS, NOTICE_POLL_SECONDS = 5.0, 0.2
"""How long an answer waits for a notice that is on its way, before it is put off; and how often it looks."""


class Posts:
    """Those of the channels of this process."""

    def __init__(self, database: Database, channels: Mapping[str, Channel]) -> None:
        self._database, self._channels = database, channels

    async def tell(self, row: Mapping[str, Any], send: Send) -> str | None:
        """Post the notice, or put the answer in its place; why that could not be done, or None."""
        name = row["url"].partition(":")[2]
        channel = self._channels.get(name)
        if channel is None or channel.token is None:
            return f"this process has no chat {name}"
        known = await self._known(row)
        if known is None or known["place"] is None:
            return None  # too long ago, or answered meanwhile
        if known["busy"]:
            return "the notice that comes before is on its way"
        place, shown, old = known["place"], slack.shown(row), known["message"]
        if old is not None and len(shown["text"]) <= slack.UPDATE_CHARACTERS:
            said = await self._say(channel, send, slack.update(place, old, shown))
            if not said.is_gone:
                return said.trouble
        said = await self._say(channel, send, slack.post(place, shown))
        if said.message is not None:
            await queries.note(self._database, row["run_id"], said.message)
            if old is not None:
                # Only now: until the answer is there, the notice says that it is to come.
                await self._say(channel, send, slack.delete(place, old))
        return said.trouble

    async def _known(self, row: Mapping[str, Any]) -> Row | None:
        """Where it is to be said; for an answer, once the notice is there whose place it takes, if that does not take long."""
        if row["run"]["status"] == "pending":
            return await queries.of_notice(self._database, row["run_id"])
        until = time.monotonic() + NOTICE_SECONDS
        while True:
            known = await queries.of_answer(self._database, row["run_id"])
            if known is None or not known["busy"] or time.monotonic() > until:
                return known
            await asyncio.sleep(NOTICE_POLL_SECONDS)

    async def _say(self, channel: Channel, send: Send, call: tuple[str, bytes]) -> slack.SlackAnswer:
        method, body = call
        headers = {
            "authorization": f"Bearer {channel.token}",
            "content-type": "application/json; charset=utf-8",
        }
        sent = await send(ChatCall(f"{channel.api}/{method}", headers, body))
        return slack.SlackAnswer(None, sent.trouble) if sent.trouble is not None else slack.heard(sent.body)
