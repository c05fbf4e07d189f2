"""What comes back, searched for what is another's."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from tests.fuzz.tenants import Tenant

ANYBODY = frozenset({"anybody"})
"""Ids of nothing, and of what is everybody's."""


class Leak(AssertionError):
    """Something of another's came back, or was changed."""


@dataclass
class Watch:
    """Whose each mark, name and id is, and who has come to know which by sending it."""

    nonce: str
    seen_by: dict[str, frozenset[str]]
    """Who may see what carries a mark."""
    told: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """What somebody has sent to be stored, such as another's id in a `configurable`: it may come back to them."""

    first: dict[str, str] = field(default_factory=dict)
    """Where each id was seen for the first time."""

    def __post_init__(self) -> None:
        mark = rf"sm{self.nonce}w[0-9]+e"
        uuid = r"(?!0{8})[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"
        self._token = re.compile(rf"{mark}|(?<![0-9a-f]){uuid}(?![0-9a-f])".encode(), re.IGNORECASE)

    def tokens(self, text: bytes) -> set[str]:
        """The marks and ids in a text; names have a mark in them."""
        return {_plain(found) for found in self._token.findall(text)}

    def sent(self, tenant: Tenant, text: bytes) -> None:
        """It is stored as theirs, whoever it comes from."""
        self.told[tenant.name] |= self.tokens(text)

    def look(self, tenant: Tenant, text: bytes, sent: Collection[str] = (), where: str = "an answer") -> None:
        """Raises Leak. What is seen for the first time is theirs from now on.

        `sent` is what they have just said themselves, which may be said back.
        """
        told = self.told[tenant.name]
        for found in self._token.finditer(text):
            token = _plain(found[0])
            seen_by = self.seen_by.get(token)
            if seen_by is None:
                self.seen_by[token] = self._theirs(tenant)
                self.first[token] = (
                    f"{tenant.name} in {where}: {text[max(0, found.start() - 300) : found.end() + 100]!r}"
                )
            elif (
                tenant.name not in seen_by
                and seen_by is not ANYBODY
                and token not in sent
                and token not in told
            ):
                around = text[max(0, found.start() - 300) : found.end() + 100]
                raise Leak(
                    f"{tenant.name} sees in {where} {token}, which is of {sorted(seen_by) or 'nobody'}: {around!r}"
                    f"\n  first seen by {self.first.get(token)}"
                )

    def forget(self, ids: Iterable[str]) -> None:
        """Ids of nothing, or of what is everybody's."""
        for id_ in ids:
            self.seen_by[_plain(id_.encode())] = ANYBODY

    def _theirs(self, tenant: Tenant) -> frozenset[str]:
        """Of whom an id is that they are the first to see: of all who share their threads."""
        return self.seen_by[tenant.team] if tenant.team else frozenset({tenant.name})


def _plain(token: bytes) -> str:
    return token.decode().lower().replace("-", "")
