"""Who is calling. One `Principal` reaches every service; queries filter by its `owner`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

SYSTEM_OWNER = "system"
"""Owns what belongs to everybody: one assistant per graph, and runs started by a schedule."""

LOCAL_OWNER = "local"
"""The caller of a server without keys, which serves loopback only."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of one request."""

    owner: str


def current_principal(request: Request) -> Principal:
    """The principal that the authentication middleware put into the request's scope."""
    principal: Principal = request.scope["principal"]
    return principal


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
