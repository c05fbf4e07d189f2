"""Protocol v2 by WebSocket: commands and events on one connection, in containers.

A refusal is said after the handshake, by a close code of 4000 plus the status that HTTP would have: a browser cannot read
the status of a refused handshake, and both SDKs know these codes. When the process leaves, the code is 1012, upon which
they connect again and go on from the last event that they have.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from slackwater.errors import ApiError, DatabaseSilent
from slackwater.kit import json_format
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.protocols.events import service
from slackwater.protocols.events.feed import Feed
from slackwater.protocols.events.service import Caller, CommandError
from slackwater.protocols.events.subscription import (
    SUBSCRIPTIONS_MAX,
    Subscription,
    since_of,
    too_many,
    unknown_channels,
)
from slackwater.protocols.events.translation import Envelope
from slackwater.runtime.events.journal import BEGINNING
from slackwater.runtime.events.run_reader import StreamCut
from slackwater.runtime.events.thread_reader import ThreadLog
from slackwater.web.http import parse_json

log = logging.getLogger(__name__)

SERVICE_RESTART = 1012

REPLAY_SECONDS = 5.0
"""How long a replay waits for the log, whose end it has to reach."""


@asynccontextmanager
async def _patience(seconds: float) -> AsyncIterator[None]:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            yield


class Socket:
    """One connection. Its subscriptions end with it; there is no state beyond it."""

    def __init__(self, websocket: WebSocket, caller: Caller) -> None:
        self._websocket = websocket
        self._caller = caller
        self._subscriptions: dict[str, Subscription] = {}
        self._feed: Feed | None = None
        self._subscribed = asyncio.Event()
        # Whoever subscribes late is told the past first, and nothing of the present meanwhile.
        self._turn = asyncio.Lock()
        self._told_until = BEGINNING
        self._told = 0
        """The number of the last event that the subscriptions know."""

    async def serve(self) -> None:
        """Until either side closes, or this process leaves."""
        await self._websocket.accept()
        listening = asyncio.create_task(self._listen(), name="socket:listen")
        telling = asyncio.create_task(self._tell(), name="socket:tell")
        try:
            await asyncio.wait({listening, telling}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            listening.cancel()
            telling.cancel()
            heard, told = await asyncio.gather(listening, telling, return_exceptions=True)
        if isinstance(told, StreamCut) or isinstance(heard, StreamCut):
            with suppress(WebSocketDisconnect, RuntimeError):
                await self._websocket.close(SERVICE_RESTART, "this process is stopping: connect again")
            return
        for outcome in (heard, told):
            if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
                raise outcome

    async def _listen(self) -> None:
        """Carry out what comes, one after the other."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await self._send(await self._answer(message.get("text") or message.get("bytes") or ""))

    async def _answer(self, text: str | bytes) -> dict[str, Any]:
        try:
            command = parse_json(text.encode() if isinstance(text, str) else text)
        except orjson.JSONDecodeError:
            return service.failure(None, "invalid_argument", "Protocol commands must be valid JSON.")
        except ApiError as error:
            return service.failure(None, "invalid_argument", error.message)
        if (refusal := service.malformed(command)) is not None:
            return refusal
        try:
            if command["method"].startswith("subscription."):
                return await self._subscription(command)
            if command["method"] == "agent.getTree" and self._feed and (tree := self._feed.tree()):
                return service.success(command["id"], {"tree": tree}, self._told)
            return await service.answer(self._caller, command, self._told)
        except CommandError as error:
            return service.failure(command["id"], error.code, error.message)
        except ApiError as error:  # another process takes it
            return service.refused(command["id"], error)
        except DATABASE_UNAVAILABLE:
            return service.refused(command["id"], DatabaseSilent())

    # Subscriptions

    async def _subscription(self, command: Mapping[str, Any]) -> dict[str, Any]:
        method = command["method"]
        params: dict[str, Any] = command["params"] if isinstance(command.get("params"), dict) else {}
        if method == "subscription.unsubscribe":
            subscription_id = params.get("subscription_id")
            if not isinstance(subscription_id, str):
                raise CommandError("invalid_argument", f"{method} requires a subscription_id.")
            if self._subscriptions.pop(subscription_id, None) is None:
                raise CommandError("no_such_subscription", f"Unknown subscription: {subscription_id}")
            return service.success(command["id"], {}, self._told)
        if method not in ("subscription.subscribe", "subscription.reconnect"):
            raise CommandError("unknown_command", f"Unknown protocol command: {method}")
        channels, since = params.get("channels"), since_of(params)
        if not isinstance(channels, list) or not channels:
            raise CommandError("invalid_argument", f"{method} requires a non-empty channels array.")
        if too_much := too_many(params):
            raise CommandError("invalid_argument", f"{method}: {too_much}")
        if unknown := unknown_channels(channels):
            raise CommandError("invalid_argument", f"{method} received an unsupported channel: {unknown[0]}")
        if method == "subscription.reconnect" and since is None:
            raise CommandError("invalid_argument", f"{method} requires a non-negative integer since.")
        named = params.get("subscription_id") if method == "subscription.reconnect" else None
        subscription_id = named if isinstance(named, str) and named else str(uuid4())
        if subscription_id not in self._subscriptions and len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            raise CommandError(
                "invalid_argument",
                f"{method}: at most {SUBSCRIPTIONS_MAX} subscriptions on one connection: unsubscribe from one first",
            )
        return await self._subscribe(command["id"], subscription_id, Subscription.of(params), since)

    async def _subscribe(
        self, command_id: int, subscription_id: str, wanted: Subscription, since: int | None
    ) -> dict[str, Any]:
        async with self._turn:
            replayed = 0
            if self._feed is None:
                self._feed = self._new_feed(since)
                self._told = since or 0
                self._subscribed.set()
            else:
                past = self._new_feed(since)
                # Of a run that was deleted meanwhile nothing more comes.
                async with aclosing(past.batches()) as batches, _patience(REPLAY_SECONDS):
                    while past.cursor < self._told_until:
                        batch = await anext(batches)
                        events = [event for event in batch if event.seq <= self._told and wanted.wants(event)]
                        replayed += len(events)
                        await self._send_events(events)
                if past.missing is not None:
                    return past.missing.notice(command_id)
            self._subscriptions[subscription_id] = wanted
        result = {"subscription_id": subscription_id, "replayed_events": replayed}
        return service.success(command_id, result, self._told)

    def _new_feed(self, since: int | None) -> Feed:
        return Feed(self._log, self._caller.principal.owner, self._caller.thread_id, since)

    @property
    def _log(self) -> ThreadLog:
        return self._caller.services.runtime.thread_log

    async def _tell(self) -> None:
        """Send what happens to whom it concerns: each event once, however many subscriptions want it."""
        closing = asyncio.create_task(self._log.closing.wait(), name="socket:closing")
        subscribed = asyncio.create_task(self._subscribed.wait(), name="socket:subscribed")
        try:
            await asyncio.wait({closing, subscribed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
            subscribed.cancel()
        feed = self._feed
        if feed is None:
            raise StreamCut
        async with aclosing(feed.batches()) as batches:
            async for batch in batches:
                async with self._turn:
                    if feed.missing is not None:
                        await self._send(feed.missing.notice())
                        feed.missing = None
                    wanted = list(self._subscriptions.values())
                    await self._send_events(e for e in batch if any(w.wants(e) for w in wanted))
                    self._told_until, self._told = feed.cursor, feed.seq

    async def _send_events(self, events: Iterable[Envelope]) -> None:
        for event in events:
            await self._websocket.send_text(event.dumps().decode())

    async def _send(self, message: Mapping[str, Any]) -> None:
        await self._websocket.send_text(json_format.dumps(message).decode())
