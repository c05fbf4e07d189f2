"""What the routes of channels answer."""

from __future__ import annotations

from collections.abc import Mapping

from slackwater.channels.models import ChannelMessage
from slackwater.channels.service import ChannelsDown, ConversationChanging, NotSigned
from slackwater.errors import NotFound, TooManyRuns
from slackwater.web.openapi.parameters import RUN, THREAD
from slackwater.web.openapi.pieces import Operation, Response, Shape

TAG = "Channels, by which others begin and continue threads without a key."


class ChannelState(Shape):
    """Whether the project has such a channel."""

    enabled: bool
    running: bool


class ChannelList(Shape):
    """By name."""

    service_running: bool
    channels: dict[str, ChannelState]


class DeliveryTaken(Shape):
    """The run of a delivery. One that comes again has the same."""

    thread_id: str
    run_id: str


class ChannelRestarted(Shape):
    """Whether there is such a channel."""

    success: bool
    message: str


_NAME = {"name": {"description": "The name of a channel.", "example": "alerts"}}
_HEADERS = {
    "webhook-id": "The id of the delivery: one that was taken starts nothing more.",
    "webhook-timestamp": "Unix seconds, at most five minutes ago.",
    "webhook-signature": "`v1,` and the base64 of HMAC-SHA256 over `<id>.<timestamp>.<body>`.",
}


def _signed(shown: dict[str, object]) -> None:
    parameters = shown.setdefault("parameters", [])
    assert isinstance(parameters, list)
    parameters += [
        {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
        for name, text in _HEADERS.items()
    ]


OPERATIONS: Mapping[str, Operation] = {
    "GET /api/channels/": Operation(
        id="get_channels",
        responses={
            200: Response(
                "The channels.",
                ChannelList,
                {"service_running": True, "channels": {"slack": {"enabled": True, "running": True}}},
            )
        },
        stored=False,
    ),
    "POST /api/channels/{name}/webhook": Operation(
        id="deliver_to_channel",
        public=True,
        body=ChannelMessage,
        bodies={"a message": {"conversation_id": "room-7", "text": "What is the tide?"}},
        parameters=_NAME,
        responses={
            202: Response("It is taken.", DeliveryTaken, {"thread_id": THREAD, "run_id": RUN}),
        },
        errors=(
            NotSigned,
            NotFound("Thread or assistant not found."),
            ConversationChanging,
            TooManyRuns,
        ),
        edit=_signed,
    ),
    "POST /api/channels/{name}/restart": Operation(
        id="restart_channel",
        parameters=_NAME,
        responses={
            200: Response(
                "Whether there is such a channel.",
                ChannelRestarted,
                {"success": True, "message": "Channel slack restarted successfully"},
            )
        },
        errors=(ChannelsDown,),
    ),
}
