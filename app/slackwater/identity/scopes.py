"""What a key may be used for."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class KeyScope(StrEnum):
    """What a key may be used for."""

    READ = "read"
    """Whatever changes nothing: reads, searches, and streams of what others have started."""
    RUN = "run"
    """All of the API that clients use. Includes `read`."""
    METRICS = "metrics"
    """`/metrics`, which is about all owners."""
    ADMIN = "admin"
    """Everything."""


EVERYTHING = frozenset(KeyScope)

_INCLUDES = {KeyScope.RUN: {KeyScope.READ}, KeyScope.ADMIN: EVERYTHING}


def granted(scopes: Iterable[KeyScope]) -> frozenset[KeyScope]:
    """These, and those that they include."""
    return frozenset(more for scope in scopes for more in (scope, *_INCLUDES.get(scope, ())))
