"""Versions of what pages edit, as `ETag` and `If-Match` say them: who comes second hears it, and nobody's edit is lost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from fastapi import Header

from slackwater.errors import Conflict

IfMatch = Annotated[
    str | None, Header(description="The `ETag` of what was read: 409 if it has changed since.")
]

_ETAG = re.compile(r'"(0|[1-9]\d{0,17})"')


class Versioned(NamedTuple):
    """What pages see, and which version of it that is."""

    shown: Mapping[str, Any]
    etag: str


def etag_of(version: int) -> str:
    return f'"{version}"'


def version_in(if_match: str | None, otherwise: type[Conflict]) -> int | None:
    """The version that is asked for; None if any is fine. Raises `otherwise` for what no version ever was."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = _ETAG.fullmatch(if_match.strip())
    if found is None:
        raise otherwise
    return int(found[1])
