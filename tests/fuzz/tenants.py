"""Who calls: people with keys of the settings, with stored keys, and of the project's own `auth`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import count

from slackwater.identity.custom.user import USER_OWNER
from slackwater.kit.labels import label_of


class Kind(Enum):
    """How somebody says who they are."""

    SETTING = "setting"
    """A key of the settings."""
    STORED = "stored"
    """A key in the database."""
    ADMIN = "admin"
    """One of those, of the scope `admin`: not even its owner sees what is another's."""
    USER = "user"
    """A user of the project's own `auth`."""


@dataclass(frozen=True)
class Mark:
    """A word that stands in everything that somebody writes, and in nothing else."""

    nonce: str
    number: int

    def __str__(self) -> str:
        return f"sm{self.nonce}w{self.number}e"


@dataclass(frozen=True, eq=False)
class Tenant:
    """One of those who call."""

    name: str
    """With a mark of its own in it: whose names are known is known, too."""
    kind: Kind
    secret: str
    """With a mark in it that nobody may ever see."""
    mark: str
    team: str | None = None
    """The mark of what the team shares."""

    @property
    def owner(self) -> str:
        """As the rows have it."""
        return f"{USER_OWNER}{self.name}" if self.kind is Kind.USER else self.name

    @property
    def label(self) -> str:
        """What their namespaces begin with in the store's table."""
        return label_of(self.owner)

    @property
    def headers(self) -> Mapping[str, str]:
        if self.kind is Kind.USER:
            return {"authorization": f"Bearer {self.name}"}
        return {"x-api-key": self.secret}

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.secret.encode()).hexdigest()


@dataclass(frozen=True)
class Cast:
    """Those who call in one example: `ann`, `bob` and `root` share nothing, `cat` and `dan` the threads of their team."""

    tenants: tuple[Tenant, ...]

    @property
    def stored(self) -> list[Tenant]:
        return [tenant for tenant in self.tenants if tenant.kind in (Kind.STORED, Kind.ADMIN)]


class Casting:
    """New people for each example: what went before is nothing of theirs."""

    def __init__(self, nonce: str, settings_keys: int) -> None:
        self.nonce = nonce
        self.seen_by: dict[str, frozenset[str]] = {}
        """Who may see what carries a mark, by their names."""
        self._numbers = count()
        self._known = [self._tenant("ann", Kind.SETTING) for _ in range(settings_keys)]
        self._examples = count()

    @property
    def api_keys(self) -> str:
        """SLACKWATER_API_KEYS."""
        return ",".join(f"{tenant.name}:{tenant.sha256}" for tenant in self._known)

    def next(self) -> Cast:
        """Whoever has a key of the settings comes again after a while, with what is theirs."""
        team = self._mark()
        cast = (
            self._known[next(self._examples) % len(self._known)],
            self._tenant("bob", Kind.STORED),
            self._tenant("root", Kind.ADMIN),
            self._tenant("cat", Kind.USER, team),
            self._tenant("dan", Kind.USER, team),
        )
        both = frozenset(tenant.name for tenant in cast if tenant.team)
        self.seen_by[team] = both
        for tenant in cast[3:]:
            self.seen_by[self.mark_of_name(tenant)] = both
        return Cast(cast)

    def mark_of_name(self, tenant: Tenant) -> str:
        return tenant.name.partition(".")[2]

    def _tenant(self, name: str, kind: Kind, team: str | None = None) -> Tenant:
        named, secret, mark = self._mark(), self._mark(), self._mark()
        tenant = Tenant(f"{name}.{named}", kind, f"sw_{secret}", mark, team)
        self.seen_by |= {named: frozenset({tenant.name}), secret: frozenset(), mark: frozenset({tenant.name})}
        return tenant

    def _mark(self) -> str:
        return str(Mark(self.nonce, next(self._numbers)))


def pairs(cast: Cast) -> Iterator[tuple[Tenant, Tenant]]:
    """Everybody with everybody else."""
    for one in cast.tenants:
        for other in cast.tenants:
            if one is not other:
                yield one, other
