"""The whole application in the test's own process."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi import FastAPI

from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database
from slackwater.services import Services


@dataclass
class Api:
    """A running application, and clients for it."""

    app: FastAPI
    services: Services
    state: dict[str, Any]
    stack: AsyncExitStack
    secrets: dict[str, str] = field(default_factory=dict)

    def client(
        self, name: str | None = None, *, peer: str = "127.0.0.1", **headers: str
    ) -> httpx.AsyncClient:
        """A client with the key of `name`, from the address `peer`."""

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await self.app({**scope, "state": dict(self.state)}, receive, send)

        if name is not None:
            headers["x-api-key"] = self.secrets[name]
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(with_state, client=(peer, 50_000)),
            base_url="http://127.0.0.1:2024",
            headers=headers,
            timeout=15,
        )
        self.stack.push_async_callback(client.aclose)
        return client

    @property
    def database(self) -> Database:
        return self.services.database


def shape_of(path: str) -> str:
    """A path of the OpenAPI document with ids of nothing in place of its parameters."""
    return re.sub(r"{[^}]+}", lambda _: str(uuid7()), path)
