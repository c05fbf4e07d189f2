"""Who is calling. One `Principal` reaches every service; queries filter by its `owner`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

SYSTEM_OWNER = "system"
"""Owns what belongs to everybody: one assistant per graph, and runs started by a schedule."""

LOCAL_OWNER = "local"
"""The caller of a server without keys, which serves loopback only."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of one request. For the routes of a project's own application he is what Starlette calls a user."""

    owner: str
    headers: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Those of his request that graphs get to see in `configurable` (`http.configurable_headers`)."""

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def identity(self) -> str:
        return self.owner

    @property
    def display_name(self) -> str:
        return self.owner


async def current_principal(request: Request) -> Principal:
    """The principal that the authentication middleware put into the request's scope."""
    principal: Principal = request.scope["principal"]
    return principal


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
