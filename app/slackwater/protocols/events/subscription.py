"""What a reader of protocol v2 wants to hear of a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slackwater.protocols.events.translation import Envelope, Namespace

CHANNELS = (
    "values",
    "updates",
    "messages",
    "tools",
    "custom",
    "lifecycle",
    "input",
    "tasks",
    "checkpoints",
)
SUBSCRIPTIONS_MAX = 100
"""On one connection. Each event is compared with every one of them."""
CHANNELS_MAX, NAMESPACES_MAX, SEGMENTS_MAX = 100, 100, 100
"""In one subscription, and in one of its namespaces."""

SEQ_MAX = 2**53 - 1
"""JavaScript counts no further."""

_NAMED = "custom:"


@dataclass(frozen=True, slots=True)
class Subscription:
    """Channels, the graphs by the beginnings of their namespaces, and how far below these; None: all of them."""

    channels: frozenset[str]
    namespaces: tuple[Namespace, ...] | None = None
    depth: int | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Subscription:
        """From a request whose channels have been looked at. What else makes no sense in it is no limit."""
        namespaces, depth = body.get("namespaces"), body.get("depth")
        prefixes = [
            tuple(prefix)
            for prefix in (namespaces if isinstance(namespaces, list) else ())
            if isinstance(prefix, list) and all(isinstance(segment, str) for segment in prefix)
        ]
        return cls(frozenset(body["channels"]), tuple(prefixes) or None, _count(depth))

    def wants(self, event: Envelope) -> bool:
        """Whether the event is for this reader."""
        name = event.extension
        if event.channel not in self.channels and (name is None or f"{_NAMED}{name}" not in self.channels):
            return False
        if self.namespaces is None:
            return True
        return any(
            _begins_with(event.namespace, prefix)
            and (self.depth is None or len(event.namespace) - len(prefix) <= self.depth)
            for prefix in self.namespaces
        )


def too_many(body: Mapping[str, Any]) -> str | None:
    """What a subscription has too many of, as a sentence with the number that may be; None: nothing."""
    channels, namespaces = body.get("channels"), body.get("namespaces")
    if isinstance(channels, list) and len(channels) > CHANNELS_MAX:
        return f"channels: at most {CHANNELS_MAX}, not {len(channels)}"
    if not isinstance(namespaces, list):
        return None
    if len(namespaces) > NAMESPACES_MAX:
        return f"namespaces: at most {NAMESPACES_MAX}, not {len(namespaces)}"
    longest = max((len(prefix) for prefix in namespaces if isinstance(prefix, list)), default=0)
    return (
        f"namespaces: at most {SEGMENTS_MAX} segments in one, not {longest}"
        if longest > SEGMENTS_MAX
        else None
    )


def unknown_channels(channels: Sequence[Any]) -> list[str]:
    """Those that there are not."""
    return [
        channel if isinstance(channel, str) else repr(channel)
        for channel in channels
        if not _is_channel(channel)
    ]


def since_of(body: Mapping[str, Any]) -> int | None:
    """The number of the last event that the reader has; None: it has none."""
    since = _count(body.get("since"))
    return None if since is None else min(since, SEQ_MAX)


def _is_channel(channel: Any) -> bool:
    return isinstance(channel, str) and (
        channel in CHANNELS or (channel.startswith(_NAMED) and channel != _NAMED)
    )


def _count(value: Any) -> int | None:
    # `true` is an int to Python.
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _begins_with(namespace: Namespace, prefix: Namespace) -> bool:
    """`child` stands for any run of it, `child:<id>` for that one."""
    return len(prefix) <= len(namespace) and all(
        part == segment or (":" not in segment and part.partition(":")[0] == segment)
        for part, segment in zip(namespace, prefix, strict=False)
    )
