"""How many runs each owner may have, in all processes together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString


@dataclass(frozen=True, slots=True)
class Limits:
    """Those of owners who have none of their own. None is no limit."""

    running: int | None = None
    """The others wait."""
    pending: int | None = None
    """One more that would wait is refused (TooManyRuns). Handed-over runs wait, too, and never are."""


UNLIMITED = Limits()


def limit_of(name: LiteralString, owner: LiteralString, default: LiteralString) -> LiteralString:
    """An owner's own limit, or the default; null is no limit. `name` is a column of the table."""
    own: LiteralString = f"(select l.{name} from slackwater.limits l where l.owner = {owner})"
    return f"nullif(coalesce({own}, {default}::int), 0)"


def has_own(owner: LiteralString) -> LiteralString:
    """The condition that an owner's runs are limited by limits of their own."""
    return f"exists (select 1 from slackwater.limits l where l.owner = {owner} and (l.running > 0 or l.pending > 0))"
