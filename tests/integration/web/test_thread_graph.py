"""A thread is read through the graph of the last run that ran on it, whichever others have run before or wait behind it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from psycopg.types.json import Jsonb
from support.api import Api

from slackwater.runtime.queue.cancel import CancelAction

ECHO = {"assistant_id": "echo", "input": {"text": "a"}}
FACTORY = {"assistant_id": "factory", "input": {"text": "b"}, "config": {"configurable": {"flavor": "sour"}}}
LONG = {"assistant_id": "steps", "input": {"n": 200, "sleep": 0.02}}


class Thread:
    def __init__(self, http: httpx.AsyncClient, thread_id: str) -> None:
        self.http, self.id = http, thread_id

    async def run(self, body: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Start a run, in the background."""
        answer = await self.http.post(f"/threads/{self.id}/runs", json={**body, **more})
        assert answer.status_code == 200, answer.text
        run: dict[str, Any] = answer.json()
        return run

    async def ends(self, run: dict[str, Any]) -> None:
        await self.http.get(f"/threads/{self.id}/runs/{run['run_id']}/join")

    async def begins(self, run: dict[str, Any]) -> None:
        """Wait until it works, and has stored its input."""
        async with asyncio.timeout(10):
            while True:
                shown = (await self.http.get(f"/threads/{self.id}/runs/{run['run_id']}")).json()
                state = (await self.http.get(f"/threads/{self.id}/state")).json()
                of_run = (state["metadata"] or {}).get("run_id") == run["run_id"]
                if shown["status"] == "running" and of_run and state["values"]:
                    return
                await asyncio.sleep(0.02)

    async def cancel(self, run: dict[str, Any], action: str = "interrupt") -> None:
        answer = await self.http.post(
            f"/threads/{self.id}/runs/{run['run_id']}/cancel?wait=true&action={action}"
        )
        assert answer.status_code == 200, answer.text

    async def graph(self) -> str | None:
        """What it says itself, and what it is found by."""
        metadata = (await self.http.get(f"/threads/{self.id}")).json()["metadata"]
        graph_id: str | None = metadata.get("graph_id")
        found = (await self.http.post("/threads/search", json={"metadata": {"graph_id": graph_id}})).json()
        assert self.id in [thread["thread_id"] for thread in found]
        (assistant,) = (await self.http.post("/assistants/search", json={"graph_id": graph_id})).json()
        assert metadata["assistant_id"] == assistant["assistant_id"]
        return graph_id

    async def values(self) -> dict[str, Any]:
        """The same from its state and from its history."""
        values: dict[str, Any] = (await self.http.get(f"/threads/{self.id}/state")).json()["values"]
        (newest,) = (await self.http.post(f"/threads/{self.id}/history", json={"limit": 1})).json()
        assert newest["values"] == values
        return values


@pytest.fixture
async def thread(http: httpx.AsyncClient) -> Thread:
    return Thread(http, (await http.post("/threads", json={})).json()["thread_id"])


async def test_it_follows_the_runs(thread: Thread) -> None:
    await thread.ends(await thread.run(ECHO))
    assert (await thread.graph(), (await thread.values())["echo"]) == ("echo", "a")

    await thread.ends(await thread.run(FACTORY))
    assert (await thread.graph(), (await thread.values())["out"]) == ("factory", "sour:b")

    await thread.ends(await thread.run(ECHO))
    assert (await thread.graph(), (await thread.values())["echo"]) == ("echo", "a")


async def test_a_run_that_waits_behind_another_changes_nothing_before_it_begins(
    api: Api, thread: Thread
) -> None:
    first = await thread.run(LONG)
    await thread.begins(first)
    config = (await thread.http.get(f"/threads/{thread.id}")).json()["config"]

    second = await thread.run(FACTORY)

    assert await thread.graph() == "steps"
    assert (await thread.http.get(f"/threads/{thread.id}/state")).json()["values"]["n"] == 200
    assert (await thread.http.get(f"/threads/{thread.id}")).json()["config"] == config
    # WHEN the second one has had its turn, THEN it is its graph, built as it was for the run
    await thread.cancel(first)
    await thread.ends(second)
    assert (await thread.graph(), (await thread.values())["out"]) == ("factory", "sour:b")
    assert (await thread.http.get(f"/threads/{thread.id}")).json()["config"] == {
        "configurable": {"flavor": "sour"}
    }


async def test_a_run_that_never_begins_changes_nothing(thread: Thread) -> None:
    await thread.ends(await thread.run(ECHO))

    delayed = await thread.run(FACTORY, after_seconds=3600)

    assert (await thread.graph(), (await thread.values())["echo"]) == ("echo", "a")
    await thread.cancel(delayed)
    assert (await thread.graph(), (await thread.values())["echo"]) == ("echo", "a")


async def test_a_run_that_waits_is_shown_where_there_was_none(thread: Thread) -> None:
    await thread.run(FACTORY, after_seconds=3600)

    assert await thread.graph() == "factory"


async def test_a_run_that_is_undone_gives_its_thread_back(thread: Thread) -> None:
    await thread.ends(await thread.run(FACTORY))
    long = await thread.run(LONG)
    await thread.begins(long)
    assert await thread.graph() == "steps"

    await thread.cancel(long, CancelAction.ROLLBACK.value)

    assert (await thread.graph(), (await thread.values())["out"]) == ("factory", "sour:b")


async def test_a_run_that_is_deleted_gives_its_thread_back(thread: Thread) -> None:
    await thread.ends(await thread.run(FACTORY))
    run = await thread.run(ECHO)
    await thread.ends(run)

    await thread.http.delete(f"/threads/{thread.id}/runs/{run['run_id']}")

    assert (await thread.graph(), (await thread.values())["out"]) == ("factory", "sour:b")


async def test_what_was_said_for_one_run_only_is_not_kept(api: Api, thread: Thread) -> None:
    """Also where the run that it was said for had to wait."""
    first = await thread.run(LONG)
    await thread.begins(first)
    second = await thread.run(FACTORY, checkpoint_id=None)
    await api.database.execute(
        "update slackwater.runs set kwargs = kwargs || %s where run_id = %s",
        [
            Jsonb(
                {
                    "of_the_request": ["x-header"],
                    "config": {
                        "configurable": {
                            "flavor": "sour",
                            "x-header": "of the request",
                            "cron_id": "c",
                            "checkpoint_ns": "",
                            "__event_streaming_v2": False,
                        }
                    },
                }
            ),
            second["run_id"],
        ],
    )

    await thread.cancel(first)
    await thread.ends(second)

    shown = (await thread.http.get(f"/threads/{thread.id}")).json()
    assert shown["config"] == {"configurable": {"flavor": "sour"}}
