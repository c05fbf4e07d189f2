"""The example of docs/auth.md is one that works."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[3] / "docs" / "auth.md"


async def test_the_example_of_the_page_works(serve: Callable[..., Any], project: Callable[..., Path]) -> None:
    [example] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    async with serve(project=project(source=example)) as api:
        alice, bob = (api.client(authorization=f"Bearer {name}-token") for name in ("alice", "bob"))
        stranger = await api.client(authorization="Bearer x").post("/threads", json={})
        thread = (await alice.post("/threads", json={})).json()
        read = [(await c.get(f"/threads/{thread['thread_id']}")).status_code for c in (alice, bob)]
        item = {"namespace": ["notes"], "key": "k", "value": {"n": 1}}
        put = await alice.put("/store/items", json=item)
        got = [(await c.get("/store/items?namespace=notes&key=k")).json() for c in (alice, bob)]

    assert (stranger.status_code, stranger.json()) == (401, {"detail": "Invalid token"})
    assert thread["metadata"] == {"owner": "alice"}
    assert read == [200, 404]
    assert put.status_code == 204
    assert (got[0]["namespace"], got[1]) == (["alice", "notes"], None)
