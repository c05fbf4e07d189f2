"""The rules of channels: who may send something by one, and that it starts one run, however often and wherever it arrives.

A delivery is a row of the transaction that admits its run: with the run it is there, without it is not. What is brought again, because
its sender has not heard of it, finds the row, or loses to whoever writes it at the same moment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import orjson
from pydantic import ValidationError

from slackwater.api.runs import service as runs
from slackwater.channels import queries, slack
from slackwater.channels.configured import Channel
from slackwater.channels.message import Incoming, said
from slackwater.channels.models import NAME_CHARACTERS, ChannelMessage
from slackwater.dialect import service as dialect
from slackwater.dialect.models import GatewayRun
from slackwater.errors import ApiError, Conflict, Draining, Invalid, Unauthorized
from slackwater.kit.ids import uuid7
from slackwater.project.gateway import ChannelKind
from slackwater.runtime.queue.admission import Overtaken
from slackwater.web.http import parse_json
from slackwater.webhooks import chat
from slackwater.webhooks import queries as outbox
from slackwater.webhooks.signature import is_signed

if TYPE_CHECKING:
    from starlette.datastructures import Headers

    from slackwater.services import Services

log = logging.getLogger(__name__)

NAMES = ("dingtalk", "discord", "feishu", "slack", "telegram", "wechat", "wecom")
"""Those that pages always show."""

ROUNDS = 5
"""How often a delivery is tried again when its conversation's thread is deleted at the same moment."""


class NotSigned(Unauthorized):
    """There is no such channel, or this is not signed with its secret, or it was signed more than five minutes ago."""


class ChannelsDown(ApiError):
    """Channel service is not running: there are no gateway.channels in langgraph.json."""

    status = 503


class ConversationChanging(Conflict):
    """The thread of this conversation is being deleted: send it again."""


class Taken(NamedTuple):
    """The run of a delivery."""

    thread_id: UUID
    run_id: UUID


async def receive(services: Services, name: str, headers: Headers, body: bytes) -> tuple[int, dict[str, Any]]:
    """Take what comes in by a channel; the status and what its sender is told. Raises NotSigned, Invalid, and what keeps a run from
    being admitted: then its sender has to send it again.
    """
    if services.runtime.closed:
        raise Draining  # as nobody is authenticated, nobody has asked yet
    channel = services.channels.get(name)
    if channel is None:
        raise NotSigned
    if channel.kind is ChannelKind.SLACK:
        return 200, await _from_slack(services, channel, headers, body)
    taken = await take(services, channel, _signed(channel, headers, body))
    assert taken is not None
    return 202, {"thread_id": taken.thread_id, "run_id": taken.run_id}


async def _from_slack(services: Services, channel: Channel, headers: Headers, body: bytes) -> dict[str, Any]:
    sent_at, signature = headers.get(slack.SENT_AT, ""), headers.get(slack.SIGNATURE, "")
    if not slack.is_signed(channel.key, sent_at, body, signature, time.time()):
        raise NotSigned
    payload = _parsed(body)
    if not isinstance(payload, dict):
        raise Invalid("body: must be an object")
    if (challenge := slack.challenge_in(payload)) is not None:
        return {"challenge": challenge}
    if (incoming := slack.incoming_in(payload)) is not None:
        await take(services, channel, incoming)
    return {}


def _signed(channel: Channel, headers: Headers, body: bytes) -> Incoming:
    delivery_id = headers.get("webhook-id", "")
    sent_at, signatures = headers.get("webhook-timestamp", ""), headers.get("webhook-signature", "")
    if not delivery_id or not is_signed(channel.key, delivery_id, sent_at, body, signatures, time.time()):
        raise NotSigned
    if len(delivery_id) > NAME_CHARACTERS or not delivery_id.isprintable():
        raise Invalid(f"webhook-id: must have 1 to {NAME_CHARACTERS} printable characters")
    try:
        message = ChannelMessage.model_validate(_parsed(body))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["body", *map(str, first["loc"])])
        raise Invalid(f"{field}: {first['msg'].removeprefix('Value error, ')}") from None
    whole = message.input if message.input is not None else said(message.text or "")
    return Incoming(delivery_id, message.conversation_id, whole, message.user)


def _parsed(body: bytes) -> Any:
    try:
        return parse_json(body)
    except orjson.JSONDecodeError:
        raise Invalid("Invalid JSON in request body") from None


async def take(services: Services, channel: Channel, incoming: Incoming) -> Taken | None:
    """Start the run of a delivery, or find the one that it has started before. None if it is for a conversation that there is not."""
    for _ in range(ROUNDS):
        known = await queries.thread_of(
            services.database,
            channel.name,
            channel.owner,
            incoming.delivery_id,
            incoming.conversation_id,
            thread=uuid7(),
            begins=incoming.begins,
        )
        if known is None:
            return None
        if known["run_id"] is not None:
            return Taken(known["thread_id"], known["run_id"])
        try:
            await services.requests.take(channel.owner)
            return await _start(services, channel, incoming, known["thread_id"])
        except Overtaken:
            continue
        except ApiError as problem:
            # Whoever speaks by it does not see what its sender is told.
            log.warning(
                "a channel could not start a run: %s",
                problem.message,
                extra={"event": "channel.refused", "channel": channel.name, "reason": problem.message},
            )
            raise
    raise ConversationChanging


async def _start(services: Services, channel: Channel, incoming: Incoming, thread_id: UUID) -> Taken:
    """Raises Overtaken if somebody else has taken the delivery, or the thread was deleted."""
    # As a client of the gateway asks for it: graphs find the same in their context.
    asked = GatewayRun(
        assistant_id=channel.assistant,
        input=incoming.input,
        context={} if incoming.user is None else {"channel_user_id": incoming.user},
        metadata={"channel": channel.name, "conversation_id": incoming.conversation_id},
        webhook=channel.reply,
        multitask_strategy="enqueue",
        on_disconnect="continue",
    )
    body = await dialect.with_agent(
        services, channel.principal, dialect.resolved(services.graphs, channel.principal, asked)
    )
    new = await runs.prepare(services, channel.principal, str(thread_id), body, None)
    notice = None
    if incoming.place is not None:
        # Not by the request: there nobody can ask for it.
        new = replace(new, kwargs={**new.kwargs, "webhook": url_of(channel)})
        notice = uuid7()
    condition = queries.take(
        new, channel.name, incoming.delivery_id, incoming.conversation_id, incoming.place, notice
    )
    # Not begun by this request: its sender waits for a few seconds only, and LangGraph may have to be imported first.
    await services.runtime.admit(replace(new, condition=condition), begin=False)
    if notice is not None:
        services.runtime.send_due()
    log.info(
        "a channel started a run",
        extra={
            "event": "channel.taken",
            "channel": channel.name,
            "run_id": str(new.run_id),
            "thread_id": str(new.thread_id),
        },
    )
    return Taken(new.thread_id, new.run_id)


def url_of(channel: Channel) -> str | None:
    """What the outbox knows the receiver of a channel's answers by."""
    return channel.reply if channel.kind is ChannelKind.WEBHOOK else f"{chat.SCHEME}{channel.name}"


def status(services: Services) -> dict[str, Any]:
    """Which channels there are. All of them run with the server, and none by itself."""
    there = services.channels
    return {
        "service_running": bool(there),
        "channels": {
            name: {"enabled": name in there, "running": name in there} for name in sorted({*NAMES, *there})
        },
    }


async def restart(services: Services, name: str) -> Mapping[str, Any]:
    """Tell a channel's answers once more that it could not be told. Raises ChannelsDown."""
    if not services.channels:
        raise ChannelsDown
    channel = services.channels.get(name)
    if channel is None:
        return {"success": False, "message": f"Failed to restart channel {name}"}
    if (url := url_of(channel)) is not None:
        await outbox.again(services.database, channel.owner, url)
        services.runtime.send_due()
    return {"success": True, "message": f"Channel {name} restarted successfully"}
