"""The channels of this process: what `gateway.channels` says, with the secrets of the environment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from slackwater.errors import Invalid, SettingsError
from slackwater.identity.principal import NOBODY, SYSTEM_OWNER, Principal
from slackwater.identity.scopes import KeyScope, granted
from slackwater.project.gateway import ChannelKind, ChannelSpec
from slackwater.project.http import RouteGroup
from slackwater.webhooks.policy import Policy
from slackwater.webhooks.signature import key_of

KEY_BYTES = 16
"""A shorter secret could be found by trying."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One of them."""

    name: str
    kind: ChannelKind
    assistant: str
    principal: Principal
    """As whom its runs are started: its owner, with what a key for runs allows."""
    key: bytes = field(repr=False)
    reply: str | None = None
    token: str | None = field(default=None, repr=False)
    api: str = "https://slack.com/api"

    @property
    def owner(self) -> str:
        return self.principal.owner

    @classmethod
    def of(
        cls, spec: ChannelSpec, policy: Policy, graphs: Sequence[str], disabled: Collection[RouteGroup]
    ) -> Channel:
        """Raises SettingsError, which says what to change."""
        where = f"gateway.channels: {spec.name}"
        if spec.owner in (NOBODY, SYSTEM_OWNER) or "\0" in spec.owner:
            raise SettingsError(f"{where}: {spec.owner!r} is nobody who could own a thread.")
        if spec.assistant not in graphs and not _is_id(spec.assistant):
            raise SettingsError(
                f"{where}: assistant: {spec.assistant!r} is neither the id of an assistant nor one of the graphs: {', '.join(graphs)}."
            )
        secret = spec.resolved(spec.secret)
        key = secret.encode() if spec.kind is ChannelKind.SLACK else key_of(secret, spec.secret)
        if len(key) < KEY_BYTES:
            raise SettingsError(f"{where}: {spec.secret} must have at least {KEY_BYTES} bytes.")
        if spec.reply is not None:
            if RouteGroup.WEBHOOKS in disabled:
                raise SettingsError(
                    f"{where}: reply: http.disable_webhooks is set, and it would not be told."
                )
            try:
                policy.check(spec.reply)
            except Invalid as problem:
                raise SettingsError(f"{where}: reply: {problem.message}.") from None
        return cls(
            spec.name,
            spec.kind,
            spec.assistant,
            Principal(spec.owner, scopes=granted([KeyScope.RUN])),
            key,
            spec.reply,
            None if spec.token is None else spec.resolved(spec.token),
            *([] if spec.api is None else [spec.api.rstrip("/")]),
        )


def channels_of(
    specs: Sequence[ChannelSpec], policy: Policy, graphs: Sequence[str], disabled: Collection[RouteGroup]
) -> Mapping[str, Channel]:
    """By name. Raises SettingsError."""
    return {spec.name: Channel.of(spec, policy, graphs, disabled) for spec in specs}


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
