"""What a token is for."""

from __future__ import annotations

from enum import StrEnum


class Audience(StrEnum):
    """What a token is for: one for a purpose is none for another."""

    SESSION = "session"
    """A user who has logged in."""
    INTERNAL = "internal"
    """A script or channel that calls for one owner: see `slackwater.identity.internal`."""
    OIDC_STATE = "oidc-state"
    """A login with another provider that is under way."""

    @property
    def typ(self) -> str:
        """The `typ` of the header. It tells tokens apart before their signature is looked at."""
        return f"slackwater-{self.value}+jwt"
