"""Tells chats of their answers, for the outbox of webhooks: that each stays a row until it was told is the outbox's affair.

First a notice that an answer is being made, and then the answer in its place: told twice, because nobody knows whether it was heard, it
is there once all the same. A message that a process could not note before it was killed stays; its metadata say of which run it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from slackwater.channels import queries, slack
from slackwater.channels.configured import Channel
from slackwater.postgres.claimed import GIVE_BACK_SECONDS
from slackwater.postgres.pool import Database, Row
from slackwater.webhooks.chat import SCHEME, ChatCall, Send

Say = Callable[[tuple[str, bytes]], Awaitable[slack.SlackAnswer]]
"""Calls a method of Slack's API, as the channel's bot."""

NOTICE_SECONDS, NOTICE_POLL_SECONDS = 5.0, 0.2
"""How long an answer waits for a notice that is on its way, before it is put off; and how often it looks."""


class Posts:
    """Those of the channels of this process."""

    def __init__(self, database: Database, channels: Mapping[str, Channel]) -> None:
        self._database = database
        self._chats = {
            f"{SCHEME}{name}": channel for name, channel in channels.items() if channel.token is not None
        }

    @property
    def urls(self) -> Sequence[str]:
        return list(self._chats)

    async def tell(self, row: Mapping[str, Any], send: Send) -> str | None:
        """Post the notice, or put the answer in its place; why that could not be done, or None."""
        say = partial(_say, self._chats[row["url"]], send)
        if row["run"]["status"] == "pending":
            return await self._notice(row, say)
        return await self._answer(row, say)

    async def _notice(self, row: Mapping[str, Any], say: Say) -> str | None:
        known = await queries.of_notice(self._database, row["run_id"])
        if known is None:
            return None  # answered meanwhile, or there already
        said = await say(slack.post(known["place"], slack.shown(row)))
        if said.message is not None:
            await _noted(queries.note_notice(self._database, row["run_id"], said.message))
        return said.trouble

    async def _answer(self, row: Mapping[str, Any], say: Say) -> str | None:
        known = await self._known(row)
        if known is None or known["place"] is None:
            return None  # too long ago
        if known["busy"]:
            return "the notice that comes before is on its way"
        place, notice = known["place"], known["message"]
        if known["answer"] is None:
            shown = slack.shown(row)
            if notice is not None and len(shown["text"]) <= slack.UPDATE_CHARACTERS:
                said = await say(slack.update(place, notice, shown))
                if not said.is_gone:
                    return said.trouble
            said = await say(slack.post(place, shown))
            if said.message is None:
                return said.trouble
            await _noted(queries.note_answer(self._database, row["run_id"], said.message))
        if notice is None:
            return None
        # Only now: until the answer is there, the notice says that it is to come.
        said = await say(slack.delete(place, notice))
        return None if said.is_gone else said.trouble

    async def _known(self, row: Mapping[str, Any]) -> Row | None:
        """Where the answer is to be said, once the notice is there whose place it takes, if that does not take long."""
        until = time.monotonic() + NOTICE_SECONDS
        while True:
            known = await queries.of_answer(self._database, row["run_id"])
            if known is None or not known["busy"] or time.monotonic() > until:
                return known
            await asyncio.sleep(NOTICE_POLL_SECONDS)


async def _say(channel: Channel, send: Send, call: tuple[str, bytes]) -> slack.SlackAnswer:
    method, body = call
    headers = {
        "authorization": f"Bearer {channel.token}",
        "content-type": "application/json; charset=utf-8",
    }
    sent = await send(ChatCall(f"{channel.api}/{method}", headers, body))
    return slack.SlackAnswer(None, sent.trouble) if sent.trouble is not None else slack.answer_of(sent.body)


async def _noted(noting: Coroutine[Any, Any, None]) -> None:
    """Note what Slack has taken, also if this is broken off now: it would be posted once more."""
    task = asyncio.create_task(noting, name="channel:note")
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=GIVE_BACK_SECONDS)
        task.cancel()
        raise
