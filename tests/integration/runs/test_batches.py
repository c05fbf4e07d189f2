"""Several runs at once: started all or not at all, and cancelled by status."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import psycopg
import pytest
from support.api import Api

RUN = {"assistant_id": "echo", "input": {"text": "a"}, "on_completion": "keep"}
LATER = {**RUN, "after_seconds": 3600}


async def statuses(http: httpx.AsyncClient, runs: list[dict[str, Any]]) -> list[str]:
    paths = [f"/threads/{run['thread_id']}/runs/{run['run_id']}" for run in runs]
    return [(await http.get(path)).json()["status"] for path in paths]


async def until_all(http: httpx.AsyncClient, runs: list[dict[str, Any]], status: str) -> None:
    async with asyncio.timeout(20):
        while set(await statuses(http, runs)) != {status}:
            await asyncio.sleep(0.05)


async def test_a_batch_runs_each_on_a_thread_of_its_own(serve: Any) -> None:
    async with serve(max_concurrent_runs=3) as api:  # more than there is room for at once
        http = api.client()
        bodies = [{**RUN, "input": {"text": str(n)}} for n in range(8)]
        answer = await http.post("/runs/batch", json=bodies)
        assert answer.status_code == 200
        runs = answer.json()
        assert [run["kwargs"]["input"]["text"] for run in runs] == [str(n) for n in range(8)]
        assert len({run["thread_id"] for run in runs}) == 8
        await until_all(http, runs, "success")
        for n, run in enumerate(runs):
            state = (await http.get(f"/threads/{run['thread_id']}/state")).json()
            assert state["values"]["echo"] == str(n)


async def test_one_bad_entry_and_none_is_written(
    api: Api, http: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    for bad, status, sentence in (
        ({**RUN, "assistant_id": "nope"}, 422, "1: Invalid assistant"),
        (
            {**RUN, "assistant_id": "6ba7b821-9dad-11d1-80b4-00c04fd43000"},
            404,
            "1: Thread or assistant not found.",
        ),
        ({**RUN, "metadata": None}, 422, "1.metadata"),
        ({**RUN, "webhook": "http://10.0.0.1/"}, 422, "1: Webhook host blocked"),
        ({**RUN, "command": {"resume": 1}}, 400, "1: You must provide a thread_id"),
        (3, 422, "1: "),
    ):
        with subtests.test(sentence=sentence):
            answer = await http.post("/runs/batch", json=[RUN, bad, RUN])
            assert answer.status_code == status, answer.text
            assert sentence in answer.json()["detail"]
    for body in ([], {}, None, "x", [RUN] * 1001):
        assert (await http.post("/runs/batch", json=body)).status_code == 422
    assert not await api.database.fetch("select 1 from slackwater.runs")
    assert not await api.database.fetch("select 1 from slackwater.threads")


async def test_a_batch_of_which_one_cannot_be_written_is_not_written(
    api: Api, http: httpx.AsyncClient
) -> None:
    await api.database.execute(
        """create function public.refuse() returns trigger language plpgsql as
           $$ begin if new.kwargs #>> '{input,text}' = 'bad' then raise exception 'no'; end if; return new; end $$"""
    )
    await api.database.execute(
        "create trigger refuse before insert on slackwater.runs for each row execute function public.refuse()"
    )
    with pytest.raises(psycopg.errors.RaiseException):
        await http.post("/runs/batch", json=[RUN, {**RUN, "input": {"text": "bad"}}])
    assert not await api.database.fetch("select 1 from slackwater.runs")
    assert not await api.database.fetch("select 1 from slackwater.threads")


async def test_bulk_cancel_by_status_takes_only_those(serve: Any) -> None:
    async with serve(names=("alice", "bob"), max_concurrent_runs=4) as api:
        alice, bob = api.client("alice"), api.client("bob")
        slow = {"assistant_id": "steps", "input": {"n": 200, "sleep": 0.1}, "on_completion": "keep"}
        running = (await alice.post("/runs/batch", json=[slow, slow])).json()
        pending = (await alice.post("/runs/batch", json=[LATER] * 3)).json()
        others = (await bob.post("/runs/batch", json=[LATER])).json()
        await until_all(alice, running, "running")
        # WHEN those that wait are cancelled
        assert (await alice.post("/runs/cancel", json={"status": "pending"})).status_code == 204
        assert set(await statuses(alice, pending)) == {"interrupted"}
        assert set(await statuses(alice, running)) == {"running"}
        # AND then all that are left
        assert (await alice.post("/runs/cancel", json={"status": "all"})).status_code == 204
        await until_all(alice, running, "interrupted")
        # THEN nothing is left, and nobody else's has been touched
        answer = await alice.post("/runs/cancel", json={"status": "running"})
        assert (answer.status_code, answer.json()["detail"]) == (404, "No runs found to cancel.")
        assert await statuses(bob, others) == ["pending"]


async def test_bulk_cancel_with_rollback_deletes(http: httpx.AsyncClient) -> None:
    (run,) = (await http.post("/runs/batch", json=[LATER])).json()
    assert (await http.post("/runs/cancel?action=rollback", json={"status": "all"})).status_code == 204
    assert (await http.get(f"/threads/{run['thread_id']}/runs/{run['run_id']}")).status_code == 404


async def test_bulk_cancel_takes_a_status_or_ids_and_not_both(
    http: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    run = "01890a5d-ac96-774b-bcce-b302099a8057"
    for body in (
        {},
        {"status": "bogus"},
        {"status": "success"},
        {"thread_id": run},
        {"run_ids": [run]},
        {"thread_id": run, "run_ids": []},
        {"status": "all", "thread_id": run, "run_ids": [run]},
        {"status": "all", "thread_id": run},
    ):
        with subtests.test(body=body):
            assert (await http.post("/runs/cancel", json=body)).status_code == 422
