"""People whom a project's own authentication lets in, by the name in their token."""

from __future__ import annotations

from typing import Any

import httpx

from support.api import Api


def user(api: Api, name: str) -> httpx.AsyncClient:
    return api.client(authorization=f"Bearer {name}")


async def thread_of(client: httpx.AsyncClient, **metadata: Any) -> str:
    """The id of a new thread."""
    made = await client.post("/threads", json={"metadata": metadata})
    assert made.status_code == 200, made.text
    thread_id: str = made.json()["thread_id"]
    return thread_id
