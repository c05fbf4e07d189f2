"""What an owner may have waiting has a limit, whichever way a run comes; and webhooks are shared out between owners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from support.api import Api
from support.receiver import HANG, Receiver, receiver

from slackwater.api.crons.fire import fire_due
from slackwater.runtime.execution.outbox import NoOutbox
from slackwater.webhooks.delivery import AT_A_TIME, OF_ONE_OWNER, Deliveries
from slackwater.webhooks.policy import Policy

RUN = {"assistant_id": "echo", "input": {"text": "a"}}
CALL = {"jsonrpc": "2.0", "id": 1}
MESSAGE = {"message": {"messageId": "m", "role": "user", "parts": [{"kind": "data", "data": {"text": "a"}}]}}

WAYS: dict[str, Any] = {
    "/runs": RUN,
    "/runs/wait": RUN,
    "/runs/stream": RUN,
    "/runs/batch": [RUN],
    "/threads/{thread}/runs": RUN,
    "/threads/{thread}/runs/wait": RUN,
    "/threads/{thread}/runs/stream": {**RUN, "multitask_strategy": "enqueue"},
    "/mcp": {**CALL, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "a"}}},
    "/a2a/echo": {**CALL, "method": "message/send", "params": MESSAGE},
}


@pytest.fixture
async def api(serve: Any) -> AsyncIterator[Api]:
    """An application that works on nothing, for Alice, who has as many runs waiting as may, and Bob."""
    async with serve(names=("alice", "bob"), max_pending_per_owner=2, max_concurrent_runs=0) as api:
        for _ in range(2):
            assert (await api.client("alice").post("/runs", json=RUN)).status_code == 200
        yield api


@pytest.fixture
def alice(api: Api) -> httpx.AsyncClient:
    return api.client("alice", accept="application/json, text/event-stream")


async def everything(api: Api) -> list[list[dict[str, Any]]]:
    tables = ("threads", "runs", "idempotency_keys")
    return [await api.database.fetch(f"select * from slackwater.{t} order by 1, 2") for t in tables]  # type: ignore[arg-type]


@pytest.mark.parametrize("path", WAYS)
async def test_one_more_is_refused_and_leaves_nothing(api: Api, alice: httpx.AsyncClient, path: str) -> None:
    thread = (await alice.post("/threads", json={})).json()["thread_id"]
    before = await everything(api)

    answer = await alice.post(path.format(thread=thread), json=WAYS[path], headers={"idempotency-key": "k"})

    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert "SLACKWATER_MAX_PENDING_PER_OWNER" in answer.json()["detail"]
    assert await everything(api) == before
    # AND another owner's is taken
    assert (await api.client("bob").post("/runs", json=RUN)).status_code == 200


async def test_a_command_says_it_in_its_own_way(api: Api, alice: httpx.AsyncClient) -> None:
    thread = (await alice.post("/threads", json={})).json()["thread_id"]
    before = await everything(api)

    command = {"id": 1, "method": "run.start", "params": RUN}
    answer = (await alice.post(f"/threads/{thread}/commands", json=command)).json()

    assert (answer["type"], answer["message"][:4]) == ("error", "429:")
    assert await everything(api) == before


async def test_a_cron_waits_for_its_next_date_and_says_so(
    api: Api, alice: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    cron = (await alice.post("/runs/crons", json={**RUN, "schedule": "0 5 1 1 *"})).json()
    await api.database.execute("update slackwater.crons set next_run_date = clock_timestamp()")
    before = await everything(api)

    assert await fire_due(api.services) == 0

    assert await everything(api) == before
    assert (await alice.get(f"/runs/crons/{cron['cron_id']}")).json()["next_run_date"] == cron[
        "next_run_date"
    ]
    (said,) = [r for r in caplog.records if getattr(r, "event", "") == "cron.skipped"]
    assert "SLACKWATER_MAX_PENDING_PER_OWNER" in said.reason  # type: ignore[attr-defined]


async def test_a_run_that_was_taken_is_found_again_by_its_key(serve: Any) -> None:
    """The limit is for new ones."""
    async with serve(names=("alice",), max_pending_per_owner=1, max_concurrent_runs=0) as api:
        alice = api.client("alice")
        first, again = [
            await alice.post("/runs", json=RUN, headers={"idempotency-key": "k"}) for _ in range(2)
        ]
        assert first.json()["run_id"] == again.json()["run_id"]


# Webhooks


async def owed(api: Api, owner: str, count: int, url: str, *, minutes: int) -> None:
    """So many deliveries of an owner, due for so long."""
    await api.database.execute(
        """
        insert into slackwater.webhooks (run_id, thread_id, owner, url, due_at, run)
        select gen_random_uuid(), gen_random_uuid(), %s, %s, now() - %s * interval '1 minute', %s::jsonb
        from generate_series(1, %s)
        """,
        [owner, url, minutes, RAN, count],
    )


RAN = """{"run_id": "r", "thread_id": "t", "assistant_id": "a", "metadata": {}, "kwargs": {}, "status": "success",
 "multitask_strategy": "enqueue", "cancel_action": null, "error": null, "created_at": "2026-01-01T00:00:00+00:00",
 "updated_at": "2026-01-01T00:00:00+00:00", "started_at": null, "ended_at": null}"""


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    async with receiver() as one:
        yield one


async def test_receivers_that_hang_keep_half_of_the_places_from_others(api: Api, hook: Receiver) -> None:
    api.services.runtime.outbox = NoOutbox()
    async with receiver() as slow:
        slow.answers += [HANG] * 100
        await owed(api, "alice", 50, slow.url, minutes=60)
        await owed(api, "bob", 3, hook.url, minutes=1)
        outbox = Deliveries(api.database, Policy(loopback=True))
        outbox.nudge()

        assert {got.json["owner"] for got in await hook.until(3)} == {"bob"}
        await slow.until(OF_ONE_OWNER)
        # AND who comes later finds the other half
        await owed(api, "carol", AT_A_TIME, hook.url, minutes=1)
        outbox.nudge()
        await hook.until(3 + AT_A_TIME)
        assert len(slow.got) == OF_ONE_OWNER
        await outbox.stop(0.2)


async def test_all_deliveries_of_one_owner_go_out_one_after_the_other(api: Api, hook: Receiver) -> None:
    api.services.runtime.outbox = NoOutbox()
    await owed(api, "alice", 3 * AT_A_TIME, hook.url, minutes=1)
    outbox = Deliveries(api.database, Policy(loopback=True))

    outbox.nudge()

    await hook.until(3 * AT_A_TIME)
    async with asyncio.timeout(10):
        while await api.database.fetch("select run_id from slackwater.webhooks"):
            await asyncio.sleep(0.02)
    await outbox.stop(1)
    assert len({got.id for got in hook.got}) == 3 * AT_A_TIME
