"""`Idempotency-Key`: a second delivery of the same request is not a second run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from support.api import Api

KEY = {"Idempotency-Key": "order-7"}
RUN = {"assistant_id": "echo", "input": {"text": "a"}}


@pytest.fixture
async def api(serve: Any) -> AsyncIterator[Api]:
    """An application for Alice and Bob."""
    async with serve(names=("alice", "bob")) as api:
        yield api


@pytest.fixture
def alice(api: Api) -> httpx.AsyncClient:
    return api.client("alice")


@pytest.fixture
async def thread(alice: httpx.AsyncClient) -> str:
    return str((await alice.post("/threads", json={})).json()["thread_id"])


async def started(client: httpx.AsyncClient, path: str, **headers: str) -> str:
    """The id of the run that a request has started, or found."""
    answer = await client.post(path, json=RUN, headers={**KEY, **headers})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["run_id"])


async def runs(api: Api) -> int:
    return len(await api.database.fetch("select 1 from slackwater.runs"))


async def test_the_same_key_twice_is_one_run(api: Api, alice: httpx.AsyncClient, thread: str) -> None:
    path = f"/threads/{thread}/runs"

    first = await started(alice, path)
    again = await started(alice, path)
    await alice.get(f"{path}/{first}/join")
    after_its_end = await started(alice, path)

    assert first == again == after_its_end
    assert await runs(api) == 1


async def test_the_same_key_at_the_same_time_is_one_run(
    api: Api, alice: httpx.AsyncClient, thread: str
) -> None:
    for path in (f"/threads/{thread}/runs", "/runs"):
        headers = {"Idempotency-Key": path}
        ids = await asyncio.gather(*(started(alice, path, **headers) for _ in range(12)))
        assert len(set(ids)) == 1
    assert await runs(api) == 2
    # The ones that came too late have not left their hidden threads behind.
    assert len(await api.database.fetch("select 1 from slackwater.threads")) == 2


async def test_a_repeated_wait_gets_the_answer_of_the_first(
    api: Api, alice: httpx.AsyncClient, thread: str
) -> None:
    first = await alice.post(f"/threads/{thread}/runs/wait", json=RUN, headers=KEY)
    again = await alice.post(
        f"/threads/{thread}/runs/wait", json={**RUN, "input": {"text": "b"}}, headers=KEY
    )

    assert first.json()["echo"] == again.json()["echo"] == "a"
    assert first.headers["content-location"] == again.headers["content-location"]
    assert await runs(api) == 1


async def test_a_repeated_stream_gets_the_events_of_the_first(
    api: Api, alice: httpx.AsyncClient, thread: str
) -> None:
    def events(answer: httpx.Response) -> list[str]:
        return [line for line in answer.text.splitlines() if line.startswith(("event:", "data:", "id: 1-"))]

    first = await alice.post(f"/threads/{thread}/runs/stream", json=RUN, headers=KEY)
    again = await alice.post(f"/threads/{thread}/runs/stream", json=RUN, headers=KEY)

    assert events(first) == events(again)
    assert len(events(first)) > 4
    assert await runs(api) == 1


async def test_other_keys_and_other_principals_have_runs_of_their_own(
    api: Api, alice: httpx.AsyncClient
) -> None:
    ids = {
        await started(alice, "/runs"),
        await started(alice, "/runs", **{"Idempotency-Key": "order-8"}),
        await started(api.client("bob"), "/runs"),
    }

    assert len(ids) == 3


async def test_a_key_is_kept_for_24_hours(api: Api, alice: httpx.AsyncClient, thread: str) -> None:
    path = f"/threads/{thread}/runs"
    first = await started(alice, path)

    await _age(api, "23 hours 59 minutes")
    assert await started(alice, path) == first

    await _age(api, "2 minutes")
    assert await started(alice, path) != first


async def test_a_key_whose_run_was_deleted_does_not_start_another(
    api: Api, alice: httpx.AsyncClient, thread: str
) -> None:
    path = f"/threads/{thread}/runs"
    await alice.delete(f"{path}/{await started(alice, path)}")

    answer = await alice.post(path, json=RUN, headers=KEY)

    assert (answer.status_code, "was deleted since" in answer.json()["detail"]) == (409, True)
    assert await runs(api) == 0


async def test_a_refused_request_does_not_use_its_key_up(alice: httpx.AsyncClient, thread: str) -> None:
    path = f"/threads/{thread}/runs"
    refused = await alice.post(path, json={**RUN, "durability": "x"}, headers=KEY)
    not_there = await alice.post(path, json={**RUN, "assistant_id": thread}, headers=KEY)

    assert (refused.status_code, not_there.status_code) == (422, 404)
    assert await started(alice, path)


async def test_a_key_is_a_short_text(alice: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for key in (b"", b"k" * 256, b"a\x00b", b"a\tb"):
        with subtests.test(key=key[:5]):
            answer = await alice.post("/runs", json=RUN, headers=[(b"Idempotency-Key", key)])
            assert answer.status_code == 422
            assert "Idempotency-Key must have 1 to 255" in answer.json()["detail"]


async def _age(api: Api, interval: str) -> None:
    await api.database.execute(
        "update slackwater.idempotency_keys set created_at = created_at - %s::interval", [interval]
    )
