"""What a process knows of the keys, as of one answer of the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from slackwater.kit.moment import Moment


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One of them."""

    kid: str
    key: Any = field(repr=False)
    """joserfc's; None if this process cannot decrypt it."""
    signs_in: float
    """Seconds from the answer."""
    valid_for: float | None
    """Seconds from the answer; None: it is the newest one."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys, in the order in which they sign."""

    keys: Sequence[SigningKey]
    by_kid: Mapping[str, SigningKey]
    asked: Moment
    """Before the question: what is known is at most as old."""
    answered: float
    """The monotonic second of the answer: at least so much has gone by since."""

    @classmethod
    def of(cls, keys: Sequence[SigningKey], asked: Moment) -> Keyring:
        return cls(keys, {key.kid: key for key in keys}, asked, monotonic())

    def signing(self) -> tuple[SigningKey, float]:
        """The key that signs, and in how many seconds: at once, unless even the first one has not begun."""
        went = monotonic() - self.answered
        begun = [key for key in self.keys if key.signs_in <= went]
        return (begun[-1], 0.0) if begun else (self.keys[0], self.keys[0].signs_in - went)

    def verifying(self, kid: str) -> SigningKey | None:
        """The key of this id, if it is valid now."""
        key = self.by_kid.get(kid)
        if key is None or (key.valid_for is not None and self.asked.age >= key.valid_for):
            return None
        return key
