"""Crons over HTTP: what is shown, found, changed and refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from support.api import Api

from slackwater.api.assistants.service import system_id
from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database
from slackwater.project.ttl import TtlPolicy
from slackwater.runtime.queue import pruning

YEARLY = {"assistant_id": "echo", "schedule": "0 5 1 1 *", "input": {"text": "c"}}


async def make(http: httpx.AsyncClient, path: str = "/runs/crons", **body: Any) -> dict[str, Any]:
    answer = await http.post(path, json={**YEARLY, **body})
    assert answer.status_code == 200, answer.text
    cron: dict[str, Any] = answer.json()
    return cron


async def thread_of(http: httpx.AsyncClient) -> str:
    return str((await http.post("/threads", json={})).json()["thread_id"])


async def test_a_cron_is_shown_as_it_was_made(http: httpx.AsyncClient) -> None:
    cron = await make(
        http,
        metadata={"tag": "x", "cron_id": "mine"},
        config={"configurable": {"marker": "m", "cron_id": "mine", "langgraph_auth_user": "me"}},
        timezone="Europe/Berlin",
        end_time="2100-01-01T00:00:00",
        after_seconds=5,
    )

    year = datetime.now(UTC).year + 1
    assert UUID(cron["cron_id"]).version == 7
    assert list(cron) == [
        *("cron_id", "assistant_id", "thread_id", "user_id", "end_time", "schedule", "timezone", "payload"),
        *("next_run_date", "metadata", "on_run_completed", "enabled", "created_at", "updated_at"),
    ]
    assert cron | {"payload": None, "created_at": None, "updated_at": None} == {
        "cron_id": cron["cron_id"],
        "assistant_id": str(system_id("echo")),
        "thread_id": None,
        "user_id": None,
        "end_time": "2100-01-01T00:00:00.000000+00:00",
        "schedule": "0 5 1 1 *",
        "timezone": "Europe/Berlin",
        "payload": None,
        "next_run_date": f"{year}-01-01T04:00:00.000000+00:00",
        "metadata": {"tag": "x"},
        "on_run_completed": "delete",
        "enabled": True,
        "created_at": None,
        "updated_at": None,
    }
    assert cron["payload"]["input"] == {"text": "c"}
    assert cron["payload"]["config"] == {"configurable": {"marker": "m", "cron_id": cron["cron_id"]}}
    assert "after_seconds" not in cron["payload"]
    assert (await http.get(f"/runs/crons/{cron['cron_id']}")).json() == cron


async def test_a_cron_of_a_thread_names_it(http: httpx.AsyncClient) -> None:
    thread = await thread_of(http)

    cron = await make(http, f"/threads/{thread}/runs/crons", multitask_strategy="reject")

    assert (cron["thread_id"], cron["on_run_completed"]) == (thread, None)
    assert cron["payload"]["multitask_strategy"] == "reject"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"schedule": "nonsense"}, 422, "Invalid cron schedule: 'nonsense'. Reason: "),
        ({"timezone": "Mars/X"}, 422, "Invalid timezone: 'Mars/X'. Use IANA"),
        ({"assistant_id": "nope"}, 404, "Assistant 'nope' not found"),
        ({"assistant_id": "00000000-0000-4000-8000-000000000000"}, 404, "not found"),
        ({"end_time": "zz"}, 422, "end_time: "),
        ({"end_time": "0001-01-01T00:00:00+14:00"}, 422, "between the years"),
        ({"end_time": "9999-12-31T23:59:59-14:00"}, 422, "between the years"),
        ({"schedule": None}, 422, "schedule: "),
        ({"on_run_completed": "burn"}, 422, "on_run_completed: "),
        ({"stream_mode": "telepathy"}, 422, "stream_mode"),
        ({"multitask_strategy": "hope"}, 422, "multitask_strategy: "),
        ({"durability": "never"}, 422, "durability: "),
        ({"config": {"configurable": 1}}, 422, "config.configurable: "),
        ({"config": {"recursion_limit": "x"}}, 422, "config.recursion_limit: "),
        ({"config": {"configurable": {"a": 1}}, "context": {"b": 1}}, 400, "both configurable and context"),
    ],
)
async def test_what_no_run_could_be_started_with_is_refused_at_once(
    api: Api, http: httpx.AsyncClient, body: dict[str, Any], status: int, words: str
) -> None:
    answer = await http.post("/runs/crons", json={**YEARLY, **body})

    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text
    assert await api.database.fetch("select 1 from slackwater.crons") == []


async def test_ids_that_lead_nowhere(http: httpx.AsyncClient) -> None:
    unknown = str(uuid7())
    for answer, status, detail in (
        (await http.get(f"/runs/crons/{unknown}"), 404, "Not Found"),
        (await http.delete(f"/runs/crons/{unknown}"), 404, "Not Found"),
        (
            await http.patch(f"/runs/crons/{unknown}", json={"enabled": False}),
            404,
            f"Cron '{unknown}' not found",
        ),
        (await http.get("/runs/crons/x"), 422, "Invalid cron ID: must be a UUID"),
        (await http.post("/threads/x/runs/crons", json=YEARLY), 422, "Invalid thread ID: must be a UUID"),
        (
            await http.post(f"/threads/{unknown}/runs/crons", json=YEARLY),
            404,
            f"Thread with ID '{unknown}' not found. Please verify the ID is correct and the thread hasn't been "
            "deleted or expired.",
        ),
    ):
        assert (answer.status_code, answer.json()) == (status, {"detail": detail})


async def test_a_change_keeps_what_it_does_not_name(http: httpx.AsyncClient) -> None:
    cron = await make(http, metadata={"a": 1}, end_time="2100-01-01T00:00:00Z", context={"prefix": "p"})
    path = f"/runs/crons/{cron['cron_id']}"

    changed = (
        await http.patch(path, json={"schedule": "0 6 1 1 *", "enabled": False, "metadata": {"b": 2}})
    ).json()

    assert (changed["schedule"], changed["enabled"], changed["metadata"]) == (
        "0 6 1 1 *",
        False,
        {"a": 1, "b": 2},
    )
    assert changed["end_time"] == cron["end_time"]
    assert changed["next_run_date"] == cron["next_run_date"].replace("T05", "T06")
    assert changed["payload"]["input"] == {"text": "c"}
    assert changed["payload"]["context"] == {"prefix": "p"}
    assert changed["payload"]["assistant_id"] == str(system_id("echo"))
    assert changed["payload"]["config"] == {"configurable": {"cron_id": cron["cron_id"]}}
    assert changed["updated_at"] > cron["updated_at"]
    assert (await http.get(path)).json() == changed
    # AND null takes the end away, which nothing else does
    assert (await http.patch(path, json={"end_time": None})).json()["end_time"] is None
    # AND what is empty or wrong changes nothing
    for body, status in (
        ({}, 400),
        ({"schedule": "x"}, 422),
        ({"timezone": "x"}, 422),
        ({"stream_mode": 1}, 422),
    ):
        assert (await http.patch(path, json=body)).status_code == status
    assert (await http.patch(path, json={})).json() == {"detail": "Request body cannot be empty"}
    assert (await http.get(path)).json()["schedule"] == "0 6 1 1 *"


async def test_an_end_that_has_passed_leaves_no_next_date(http: httpx.AsyncClient) -> None:
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()

    cron = await make(http, schedule="* * * * *", end_time=past)

    assert cron["next_run_date"] is None
    later = (await http.patch(f"/runs/crons/{cron['cron_id']}", json={"end_time": None})).json()
    assert later["next_run_date"] is not None
    ended = (await http.patch(f"/runs/crons/{cron['cron_id']}", json={"end_time": past})).json()
    assert ended["next_run_date"] is None


async def test_what_was_missed_while_a_cron_was_off_is_not_owed(api: Api, http: httpx.AsyncClient) -> None:
    cron = await make(http, schedule="* * * * *", enabled=False)
    await api.database.execute("update slackwater.crons set next_run_date = now() - interval '1 day'")

    on = (await http.patch(f"/runs/crons/{cron['cron_id']}", json={"enabled": True})).json()

    assert datetime.fromisoformat(on["next_run_date"]) > datetime.now(UTC)


async def test_search_filters_sorts_and_pages(http: httpx.AsyncClient) -> None:
    assistant = (await http.post("/assistants", json={"graph_id": "echo"})).json()["assistant_id"]
    thread = await thread_of(http)
    crons = [await make(http, assistant_id=assistant, metadata={"n": n}) for n in range(3)]
    await make(http)
    other = await make(http, f"/threads/{thread}/runs/crons", enabled=False)

    async def search(**query: Any) -> httpx.Response:
        return await http.post("/runs/crons/search", json=query)

    ids = [cron["cron_id"] for cron in crons]
    found = (await search(assistant_id=assistant)).json()
    assert found == crons[::-1]
    page = await search(assistant_id=assistant, sort_by="created_at", sort_order="asc", limit=1, offset=1)
    assert [cron["cron_id"] for cron in page.json()] == ids[1:2]
    assert (page.headers["x-pagination-next"], page.headers["x-pagination-total"]) == ("2", "3")
    last = await search(assistant_id=assistant, limit=2, offset=2)
    assert "x-pagination-next" not in last.headers
    assert last.headers["x-pagination-total"] == "3"
    assert [c["cron_id"] for c in (await search(thread_id=thread)).json()] == [other["cron_id"]]
    assert [c["cron_id"] for c in (await search(enabled=False)).json()] == [other["cron_id"]]
    assert [c["cron_id"] for c in (await search(metadata={"n": 1})).json()] == ids[1:2]
    assert (await search(metadata={"n": 1}, select=["cron_id", "user_id"])).json() == [
        {"cron_id": ids[1], "user_id": None}
    ]
    for sort_by in ("cron_id", "assistant_id", "thread_id", "updated_at", "next_run_date", "end_time"):
        assert len((await search(sort_by=sort_by)).json()) == 5
    for wrong in ({"assistant_id": "echo"}, {"sort_by": "x"}, {"select": ["owner"]}, {"limit": 0}):
        assert (await search(**wrong)).status_code == 422
    assert (await http.post("/runs/crons/count", json={})).json() == 5
    assert (await http.post("/runs/crons/count", json={"assistant_id": assistant})).json() == 3
    assert (await http.post("/runs/crons/count", json={"thread_id": thread})).json() == 1


async def test_crons_go_with_their_assistant_and_their_thread(http: httpx.AsyncClient) -> None:
    assistant = (await http.post("/assistants", json={"graph_id": "echo"})).json()["assistant_id"]
    thread = await thread_of(http)
    await make(http, assistant_id=assistant)
    await make(http, f"/threads/{thread}/runs/crons")
    kept = await make(http)

    assert (await http.delete(f"/assistants/{assistant}")).status_code == 204
    assert (await http.delete(f"/threads/{thread}")).status_code == 204

    assert (await http.post("/runs/crons/search", json={})).json() == [kept]
    assert (await http.delete(f"/runs/crons/{kept['cron_id']}")).status_code == 204
    assert (await http.delete(f"/runs/crons/{kept['cron_id']}")).status_code == 404


async def test_what_another_principal_has_is_not_there(serve: Any) -> None:
    async with serve(names=("alice", "bob")) as api:
        alice, bob = api.client("alice"), api.client("bob")
        assistant = (await alice.post("/assistants", json={"graph_id": "echo"})).json()["assistant_id"]
        thread = await thread_of(alice)
        hers = await make(alice, f"/threads/{thread}/runs/crons", assistant_id=assistant)
        path = f"/runs/crons/{hers['cron_id']}"

        assert hers["user_id"] == "alice"
        for answer in (
            await bob.get(path),
            await bob.patch(path, json={"enabled": False}),
            await bob.delete(path),
            await bob.post(f"/threads/{thread}/runs/crons", json=YEARLY),
            await bob.post("/runs/crons", json={**YEARLY, "assistant_id": assistant}),
        ):
            assert answer.status_code == 404
        for query in ({}, {"thread_id": thread}, {"assistant_id": assistant}):
            assert (await bob.post("/runs/crons/search", json=query)).json() == []
            assert (await bob.post("/runs/crons/count", json=query)).json() == 0
        assert (await alice.get(path)).json() == hers


async def test_a_thread_that_a_cron_waits_for_is_not_deleted_before_its_last_date(
    http: httpx.AsyncClient, database: Database
) -> None:
    made = [(await http.post("/threads", json={"ttl": 1})).json()["thread_id"] for _ in range(4)]
    waits, disabled, over, trimmed = made
    body = {"assistant_id": "echo", "schedule": "0 * * * *", "input": {"text": "c"}}
    crons = {}
    for thread in made:
        answer = await http.post(f"/threads/{thread}/runs/crons", json=body)
        assert answer.status_code == 200, answer.text
        crons[thread] = answer.json()["cron_id"]
    assert (await http.patch(f"/runs/crons/{crons[disabled]}", json={"enabled": False})).status_code == 200
    ended = "update slackwater.crons set next_run_date = null where cron_id = %s"
    await database.execute(ended, [crons[over]])
    await http.patch(f"/threads/{trimmed}", json={"ttl": {"ttl": 1, "strategy": "keep_latest"}})
    await database.execute("update slackwater.threads set updated_at = now() - interval '2 minutes'")
    assert await pruning.expire(database, TtlPolicy(interval_minutes=-1)) == 3
    left = {row["thread_id"] for row in (await http.post("/threads/search", json={})).json()}
    assert left == {waits, trimmed}
    found = {row["cron_id"] for row in (await http.post("/runs/crons/search", json={})).json()}
    assert found == {crons[waits], crons[trimmed]}
    # Its time is over as soon as nothing comes any more.
    await database.execute(ended, [crons[waits]])
    assert await pruning.expire(database, TtlPolicy(interval_minutes=-1)) == 1
