"""Runs without a thread: what becomes of theirs when they have ended, and options that are taken and do nothing."""

from __future__ import annotations

import httpx
import pytest
from support.api import Api

RUN = {"assistant_id": "echo", "input": {"text": "a"}}


@pytest.mark.parametrize("wish", [{}, {"on_completion": "delete"}, {"on_completion": "keep"}])
async def test_its_thread_is_nobodys_and_goes_or_stays_as_asked(
    api: Api, http: httpx.AsyncClient, wish: dict[str, str]
) -> None:
    answer = await http.post("/runs/wait", json={**RUN, **wish})
    assert answer.json()["echo"] == "a"
    thread, run = answer.headers["content-location"].split("/")[2::2]
    # It is in no list, but can be read for a while: whoever comes back takes a 404 for the end.
    assert (await http.post("/threads/search", json={})).json() == []
    assert (await http.get(f"/threads/{thread}/runs/{run}")).json()["status"] == "success"
    # WHEN that time is over
    await api.database.execute("update slackwater.runs set delete_at = now() where delete_at is not null")
    await api.services.runtime.sweep()
    # THEN
    kept = wish.get("on_completion") == "keep"
    assert (await http.get(f"/threads/{thread}/runs/{run}")).status_code == (200 if kept else 404)
    assert (await http.get(f"/threads/{thread}/state")).status_code == (200 if kept else 404)
    for table in ("slackwater.threads", "slackwater.runs", "slackwater.run_events", "checkpoints"):
        assert bool(await api.database.fetch(f"select 1 from {table}")) is kept


@pytest.mark.parametrize("path", ["/runs/stream", "/threads/{}/runs/stream"])
async def test_feedback_keys_change_nothing(http: httpx.AsyncClient, path: str) -> None:
    """Officially they ask LangSmith for presigned URLs, and an event `feedback` names them."""
    streams = []
    for more in ({}, {"feedback_keys": ["thumbs"]}):
        thread = (await http.post("/threads", json={})).json()["thread_id"]
        answer = await http.post(path.format(thread), json={**RUN, **more})
        assert answer.status_code == 200
        streams.append([line for line in answer.text.splitlines() if line.startswith("event:")])
    assert streams[0] == streams[1]
