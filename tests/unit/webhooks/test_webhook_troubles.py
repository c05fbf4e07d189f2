"""Why something could not be sent is logged and kept, and holds no secret."""

from __future__ import annotations

from typing import Any, cast

from support.receiver import receiver

from slackwater.webhooks.chat import ChatCall
from slackwater.webhooks.delivery import Deliveries
from slackwater.webhooks.policy import Policy


async def test_a_header_that_cannot_be_sent_is_not_told() -> None:
    outbox = Deliveries(cast(Any, None), Policy())
    async with receiver() as hook:
        sent = await outbox._call(ChatCall(hook.url, {"authorization": "Bearer xoxb-1\n"}, b"{}"))
    assert (sent.trouble, hook.got) == ("LocalProtocolError", [])
