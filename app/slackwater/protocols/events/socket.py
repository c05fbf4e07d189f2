"""Protocol v2 by WebSocket: commands and events on one connection, in containers.

Connections are refused after the handshake, by a close code of 4000 plus the HTTP status: a browser cannot read the status
of a refused handshake, and both SDKs know these codes. When the process leaves, the code is 1012, upon which the SDKs
reconnect and continue from their last event.
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
from slackwater.identity.principal import Principal
from slackwater.kit import json_format
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.protocols.events import service
from slackwater.protocols.events.feed import Feed
from slackwater.protocols.events.models import CommandMethod
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
"""How long a replay may take to reach the end of the log."""


@asynccontextmanager
async def _patience(seconds: float) -> AsyncIterator[None]:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            yield


class Socket:
    """One connection. Its subscriptions end with it."""

    def __init__(self, websocket: WebSocket, caller: Caller, reader: Principal) -> None:
        """`reader`: as whom the caller reads the thread."""
        self._websocket = websocket
        self._caller = caller
        self._reader = reader
        self._subscriptions: dict[str, Subscription] = {}
        self._feed: Feed | None = None
        self._subscribed = asyncio.Event()
        # A late subscription gets the past first; live events wait meanwhile.
        self._turn = asyncio.Lock()
        self._cursor = BEGINNING
        self._seq = 0
        """The number of the last event that was sent to the subscriptions."""

    async def serve(self) -> None:
        """Serve until either side closes, or this process leaves."""
        await self._websocket.accept()
        receiving = asyncio.create_task(self._receive(), name="socket:receive")
        sending = asyncio.create_task(self._forward(), name="socket:forward")
        try:
            await asyncio.wait({receiving, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            receiving.cancel()
            sending.cancel()
            received, sent = await asyncio.gather(receiving, sending, return_exceptions=True)
        if isinstance(sent, StreamCut) or isinstance(received, StreamCut):
            with suppress(WebSocketDisconnect, RuntimeError):
                await self._websocket.close(SERVICE_RESTART, "this process is stopping: connect again")
            return
        for outcome in (received, sent):
            if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
                raise outcome

    async def _receive(self) -> None:
        """Carry out commands, one after the other."""
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
            # As if each had come by a request of its own.
            await self._caller.services.requests.take(self._caller.principal.owner)
            if command["method"].startswith("subscription."):
                return await self._subscription(command)
            if command["method"] == CommandMethod.TREE and self._feed and (tree := self._feed.tree()):
                return service.success(command["id"], {"tree": tree}, self._seq)
            return await service.answer(self._caller, command, self._seq)
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
        if method == CommandMethod.UNSUBSCRIBE:
            subscription_id = params.get("subscription_id")
            if not isinstance(subscription_id, str):
                raise CommandError("invalid_argument", f"{method} requires a subscription_id.")
            if self._subscriptions.pop(subscription_id, None) is None:
                raise CommandError("no_such_subscription", f"Unknown subscription: {subscription_id}")
            return service.success(command["id"], {}, self._seq)
        if method not in (CommandMethod.SUBSCRIBE, CommandMethod.RECONNECT):
            raise CommandError("unknown_command", f"Unknown protocol command: {method}")
        channels, since = params.get("channels"), since_of(params)
        if not isinstance(channels, list) or not channels:
            raise CommandError("invalid_argument", f"{method} requires a non-empty channels array.")
        if too_much := too_many(params):
            raise CommandError("invalid_argument", f"{method}: {too_much}")
        if unknown := unknown_channels(channels):
            raise CommandError("invalid_argument", f"{method} received an unsupported channel: {unknown[0]}")
        if method == CommandMethod.RECONNECT and since is None:
            raise CommandError("invalid_argument", f"{method} requires a non-negative integer since.")
        named = params.get("subscription_id") if method == CommandMethod.RECONNECT else None
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
                self._seq = since or 0
                self._subscribed.set()
            else:
                past = self._new_feed(since)
                # Bounded, since nothing more comes of a run that was deleted meanwhile.
                async with aclosing(past.batches()) as batches, _patience(REPLAY_SECONDS):
                    while past.cursor < self._cursor:
                        batch = await anext(batches)
                        events = [event for event in batch if event.seq <= self._seq and wanted.wants(event)]
                        replayed += len(events)
                        await self._send_events(events)
                if past.missing is not None:
                    return past.missing.notice(command_id)
            self._subscriptions[subscription_id] = wanted
        result = {"subscription_id": subscription_id, "replayed_events": replayed}
        return service.success(command_id, result, self._seq)

    def _new_feed(self, since: int | None) -> Feed:
        return Feed(self._log, self._reader.owner, self._caller.thread_id, since)

    @property
    def _log(self) -> ThreadLog:
        return self._caller.services.runtime.thread_log

    async def _forward(self) -> None:
        """Send each event that any subscription wants, once."""
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
                    self._cursor, self._seq = feed.cursor, feed.seq

    async def _send_events(self, events: Iterable[Envelope]) -> None:
        for event in events:
            await self._websocket.send_text(event.dumps().decode())

    async def _send(self, message: Mapping[str, Any]) -> None:
        await self._websocket.send_text(json_format.dumps(message).decode())
