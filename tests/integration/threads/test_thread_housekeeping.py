"""What is done to whole threads: pruned, measured, extracted from, expired, made with a state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database
from slackwater.project.ttl import TtlPolicy
from slackwater.runtime.queue import pruning
from slackwater.runtime.runtime import Runtime

Client = Callable[..., httpx.AsyncClient]
Run = Callable[..., Any]

CHECKPOINT_TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")


async def made(http: httpx.AsyncClient, **body: Any) -> str:
    answer = await http.post("/threads", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["thread_id"])


async def checkpoints(database: Database, thread: str) -> int:
    return len(await database.fetch("select 1 from checkpoints where thread_id = %s", [thread]))


async def rows_of(database: Database, thread: str) -> int:
    counts = [
        len(await database.fetch(f"select 1 from {table} where thread_id::text = %s", [thread]))
        for table in (
            *CHECKPOINT_TABLES,
            "slackwater.threads",
            "slackwater.runs",
            "slackwater.run_events",
            "slackwater.base_writes",
        )
    ]
    return sum(counts)


# ------------------------------------------------------------------------------------------------------- prune


async def test_threads_are_deleted_with_all_that_is_theirs_and_those_that_are_not_there_are_skipped(
    http: httpx.AsyncClient, run: Run, database: Database
) -> None:
    gone, kept = await made(http), await made(http)
    for thread in (gone, kept):
        await run(thread, "echo", {"text": "a"})
    left = await rows_of(database, kept)

    answer = await http.post("/threads/prune", json={"thread_ids": [gone, str(uuid7()), gone]})

    assert (answer.status_code, answer.json()) == (200, {"pruned_count": 1})
    assert await rows_of(database, gone) == 0
    assert await rows_of(database, kept) == left


async def test_only_the_newest_state_is_kept_and_the_thread_goes_on_from_it(
    http: httpx.AsyncClient, run: Run, database: Database
) -> None:
    thread = await made(http)
    await run(thread, "steps", {"n": 3})
    await run(thread, "steps", {"n": 2})
    before = (await http.get(f"/threads/{thread}/state")).json()
    assert await checkpoints(database, thread) > 4

    answer = await http.post(
        "/threads/prune", json={"thread_ids": [thread, str(uuid7())], "strategy": "keep_latest"}
    )

    assert answer.json() == {"pruned_count": 1}
    assert await checkpoints(database, thread) == 1
    after = (await http.get(f"/threads/{thread}/state")).json()
    assert after["parent_checkpoint"] is None
    assert (after["values"], after["checkpoint_id"]) == (before["values"], before["checkpoint_id"])
    assert len((await http.post(f"/threads/{thread}/history", json={"limit": 100})).json()) == 1
    assert (await run(thread, "steps", {"n": 1}))["status"] == "success"


@pytest.mark.parametrize("graph", ["hitl", "asking"])
async def test_what_waits_for_an_answer_still_takes_it_after_its_past_is_gone(
    http: httpx.AsyncClient, run: Run, graph: str, runtime: Runtime
) -> None:
    thread = await made(http)
    await run(thread, graph, {"text": "first"} if graph == "hitl" else {})
    asked = (await http.get(f"/threads/{thread}/state?subgraphs=true")).json()
    assert asked["interrupts"]

    answer = await http.post("/threads/prune", json={"thread_ids": [thread], "strategy": "keep_latest"})

    assert answer.json() == {"pruned_count": 1}
    assert (await http.get(f"/threads/{thread}/state?subgraphs=true")).json()["interrupts"] == asked[
        "interrupts"
    ]
    row = await run(thread, graph, command={"resume": "yes"})
    assert row["status"] == "success", row
    assert (await http.get(f"/threads/{thread}")).json()["status"] == "idle"


async def test_the_past_of_a_thread_that_a_run_needs_stays_and_so_does_that_of_all_others(
    http: httpx.AsyncClient, run: Run, database: Database
) -> None:
    busy, free = await made(http), await made(http)
    await run(free, "steps", {"n": 2})
    await run(busy, "steps", {"n": 20, "sleep": 0.5}, wait=False)
    before = await checkpoints(database, free)

    answer = await http.post("/threads/prune", json={"thread_ids": [free, busy], "strategy": "keep_latest"})

    assert answer.status_code == 409, answer.text
    assert busy in answer.json()["detail"]
    assert await checkpoints(database, free) == before
    assert (await http.post("/threads/prune", json={"thread_ids": [busy, free]})).json() == {
        "pruned_count": 2
    }
    assert await rows_of(database, busy) == await rows_of(database, free) == 0


async def test_what_another_owns_is_skipped_like_what_is_not_there(
    client: Client, run: Run, database: Database
) -> None:
    alice, bob = client("alice"), client("bob")
    hers = await made(alice, metadata={"graph_id": "echo"})
    await alice.post(f"/threads/{hers}/state", json={"values": {"text": "a"}, "as_node": "echo"})
    await alice.post(f"/threads/{hers}/state", json={"values": {"text": "b"}, "as_node": "echo"})
    before = await rows_of(database, hers)
    for strategy in ("delete", "keep_latest"):
        answer = await bob.post("/threads/prune", json={"thread_ids": [hers], "strategy": strategy})
        assert answer.json() == {"pruned_count": 0}
    assert await rows_of(database, hers) == before
    assert (await bob.get(f"/threads/{hers}/storage")).status_code == 404
    assert (await bob.get(f"/threads/{hers}?include=ttl")).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"thread_ids": ["x"]},
        {"thread_ids": "x"},
        {"thread_ids": [str(uuid4())], "strategy": "x"},
        {"thread_ids": [str(uuid4())] * 1001},
    ],
)
async def test_a_prune_that_makes_no_sense_is_refused(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await http.post("/threads/prune", json=body)).status_code == 422


# ----------------------------------------------------------------------------------------------------- storage


async def test_what_a_thread_takes_up_is_told_by_kind_and_channel(http: httpx.AsyncClient, run: Run) -> None:
    thread = await made(http)
    empty = (await http.get(f"/threads/{thread}/storage")).json()
    assert (empty["total_bytes"], empty["channel_values"]["by_channel"]) == (0, {})

    await run(thread, "steps", {"n": 2})

    found = (await http.get(f"/threads/{thread}/storage")).json()
    assert found["thread_id"] == thread
    parts = [found[name] for name in ("checkpoints", "channel_values", "pending_writes")]
    assert all(part["count"] > 0 and part["bytes"] > 0 for part in parts)
    assert found["total_bytes"] == sum(part["bytes"] for part in parts)
    channels = found["channel_values"]["by_channel"]
    assert sum(channel["bytes"] for channel in channels.values()) == found["channel_values"]["bytes"]


async def test_the_storage_of_what_is_not_there_is_not_found(http: httpx.AsyncClient) -> None:
    assert (await http.get(f"/threads/{uuid7()}/storage")).status_code == 404
    assert (await http.get("/threads/x/storage")).status_code == 422


# ----------------------------------------------------------------------------------------------------- extract


async def test_a_search_extracts_what_it_is_asked_for(http: httpx.AsyncClient, run: Run) -> None:
    thread = await made(http, metadata={"list": [{"a": 1}, {"a": 2}], "_secret": {"x": 1}})
    await run(thread, "echo", {"text": "hello"})
    paths = {
        "last": "metadata.list[-1].a",
        "first": "metadata.list[0]",
        "text": "values.text",
        "none": "values.nothing[3].x",
        "private": "metadata._secret.x",
        "whole": "interrupts",
    }
    body = {"ids": [thread], "select": ["thread_id"], "extract": paths}
    (found,) = (await http.post("/threads/search", json=body)).json()
    assert found == {
        "thread_id": thread,
        "extracted": {
            "last": 2,
            "first": {"a": 1},
            "text": "hello",
            "none": None,
            "private": None,
            "whole": {},
        },
    }


@pytest.mark.parametrize(
    "extract",
    [
        {"a": "foo.bar"},
        {"a": "values."},
        {"a": "values[x]"},
        {"a": ""},
        {"status": "values.a"},
        {"not an alias": "values.a"},
        {f"a{n}": "values.a" for n in range(11)},
    ],
)
async def test_an_extract_that_makes_no_sense_is_refused(
    http: httpx.AsyncClient, extract: dict[str, str]
) -> None:
    assert (await http.post("/threads/search", json={"extract": extract})).status_code == 422


async def test_the_sentence_names_where_a_path_may_begin(http: httpx.AsyncClient) -> None:
    answer = await http.post("/threads/search", json={"extract": {"a": "foo.bar"}})
    words = "Extract path 'foo.bar' must start with one of: config, interrupts, metadata, values"
    assert words in answer.json()["detail"]


async def test_values_filter_searches_and_counts(http: httpx.AsyncClient, run: Run) -> None:
    one, other = await made(http), await made(http)
    await run(one, "echo", {"text": "one"})
    await run(other, "echo", {"text": "other"})
    wanted = {"values": {"text": "one"}}
    assert [row["thread_id"] for row in (await http.post("/threads/search", json=wanted)).json()] == [one]
    assert (await http.post("/threads/count", json=wanted)).json() == 1


# --------------------------------------------------------------------------------------------------------- ttl


async def later(database: Database, thread: str, minutes: float) -> None:
    """Nothing has happened on the thread for so long."""
    await database.execute(
        "update slackwater.threads set updated_at = updated_at - %s * interval '1 minute' where thread_id = %s",
        [minutes, thread],
    )


async def sweep(database: Database) -> int:
    await database.execute("update slackwater.rounds set begun_at = '-infinity'")
    return await pruning.expire(database, TtlPolicy())


async def test_a_ttl_is_given_changed_shown_and_taken_back(http: httpx.AsyncClient) -> None:
    thread = await made(http, ttl=90)
    path = f"/threads/{thread}?include=ttl"
    assert "ttl" not in (await http.get(f"/threads/{thread}")).json()
    shown = (await http.get(path)).json()["ttl"]
    assert (shown["strategy"], shown["ttl_minutes"]) == ("delete", 90)
    assert shown["expires_at"] > (await http.get(path)).json()["updated_at"]
    await http.patch(f"/threads/{thread}", json={"metadata": {"a": 1}})
    assert (await http.get(path)).json()["ttl"]["ttl_minutes"] == 90
    await http.patch(f"/threads/{thread}", json={"ttl": {"ttl": 0.5, "strategy": "keep_latest"}})
    shown = (await http.get(path)).json()["ttl"]
    assert (shown["strategy"], shown["ttl_minutes"]) == ("keep_latest", 0.5)
    await http.patch(f"/threads/{thread}", json={"ttl": None})
    assert (await http.get(path)).json()["ttl"] is None


@pytest.mark.parametrize("ttl", ["x", 0, -1, {"ttl": 1, "strategy": "x"}, {"strategy": "delete"}, 1e300])
async def test_a_ttl_that_makes_no_sense_is_refused(http: httpx.AsyncClient, ttl: Any) -> None:
    assert (await http.post("/threads", json={"ttl": ttl})).status_code == 422


async def test_a_thread_whose_time_is_over_goes_and_one_where_something_has_happened_stays(
    http: httpx.AsyncClient, run: Run, database: Database
) -> None:
    over, touched, forever = await made(http, ttl=10), await made(http, ttl=10), await made(http)
    for thread in (over, touched, forever):
        await run(thread, "echo", {"text": "a"})
        await later(database, thread, 11)
    await http.patch(f"/threads/{touched}", json={"metadata": {"a": 1}})

    assert await sweep(database) == 1

    assert await rows_of(database, over) == 0
    for thread in (touched, forever):
        assert (await http.get(f"/threads/{thread}")).status_code == 200


async def test_keep_latest_takes_the_past_once(http: httpx.AsyncClient, run: Run, database: Database) -> None:
    thread = await made(http, ttl={"ttl": 10, "strategy": "keep_latest"})
    await run(thread, "steps", {"n": 3})
    await later(database, thread, 11)

    assert (await sweep(database), await sweep(database)) == (1, 0)

    assert await checkpoints(database, thread) == 1
    await run(thread, "steps", {"n": 3})
    await database.execute("update slackwater.threads set swept_at = swept_at - interval '20 minutes'")
    await later(database, thread, 11)
    assert await sweep(database) == 1
    assert await checkpoints(database, thread) == 1


@pytest.mark.parametrize("strategy", ["delete", "keep_latest"])
async def test_a_thread_with_a_run_is_not_swept_whether_it_runs_or_waits(
    http: httpx.AsyncClient, run: Run, database: Database, strategy: str
) -> None:
    thread = await made(http, ttl={"ttl": 1, "strategy": strategy})
    await run(thread, "echo", {"text": "a"})
    await run(thread, "steps", {"n": 20, "sleep": 0.5}, wait=False)
    await later(database, thread, 5)
    before = await checkpoints(database, thread)
    assert await sweep(database) == 0
    # nor if it was found before the run came
    params = {"threads": [UUID(thread)], "strategy": strategy}
    await database.pipeline(*((statement, params) for statement in pruning._EXPIRE[strategy]))
    assert await checkpoints(database, thread) >= before
    assert (await http.get(f"/threads/{thread}")).json()["status"] == "busy"


async def test_of_many_processes_that_sweep_at_once_one_does_and_each_thread_goes_once(
    http: httpx.AsyncClient, database: Database, database_uri: str
) -> None:
    threads = [await made(http, ttl=1) for _ in range(60)]
    for thread in threads:
        await later(database, thread, 2)
    pools = [Database(database_uri, max_size=2, statement_seconds=10, name=f"sweeper {n}") for n in range(4)]
    for pool in pools:
        await pool.open()
    try:
        first = await asyncio.gather(*(pruning.expire(pool, TtlPolicy(limit=50)) for pool in pools))
        assert sorted(first) == [0, 0, 0, 50]

        async def regardless(pool: Database) -> int:
            """A round that nothing keeps from running beside the others."""
            return await pruning.expire(pool, TtlPolicy(interval_minutes=-1))

        assert sum(await asyncio.gather(*(regardless(pool) for pool in pools))) == 10
    finally:
        for pool in pools:
            await pool.close(1)
    assert (await http.post("/threads/search", json={"limit": 100})).json() == []


async def test_new_threads_have_the_projects_ttl_also_those_that_a_run_makes(
    http: httpx.AsyncClient, runtime: Runtime, database: Database
) -> None:
    from slackwater.api.assistants.service import system_id
    from slackwater.runtime.queue.admission import NewRun

    runtime.graphs.thread_ttl = TtlPolicy(30, "keep_latest")
    made_so = [await made(http), str(uuid7())]
    new = NewRun(
        run_id=uuid7(),
        thread_id=UUID(made_so[1]),
        owner="local",
        assistant_id=system_id("echo"),
        graph_id="echo",
        kwargs={"input": {"text": "a"}, "config": {"configurable": {}}},
        metadata={},
        assistant_metadata={},
        assistant_configurable={},
        create_thread=True,
    )
    await runtime.admit(new)
    for thread in made_so:
        shown = (await http.get(f"/threads/{thread}?include=ttl")).json()["ttl"]
        assert (shown["strategy"], shown["ttl_minutes"]) == ("keep_latest", 30)
    copy = (await http.post(f"/threads/{made_so[0]}/copy")).json()["thread_id"]
    assert (await http.get(f"/threads/{copy}?include=ttl")).json()["ttl"]["ttl_minutes"] == 30


# -------------------------------------------------------------------------------------------------- supersteps


def superstep(**values: Any) -> dict[str, Any]:
    return {"updates": [{"values": values, "command": None, "as_node": "echo"}]}


async def test_a_thread_is_made_with_the_state_that_its_supersteps_have_written(
    http: httpx.AsyncClient, run: Run
) -> None:
    body = {
        "metadata": {"graph_id": "echo"},
        "supersteps": [
            {"updates": [{"values": {"text": "in"}, "as_node": "__input__"}]},
            {"updates": [{"values": {"text": "in"}, "as_node": "__start__"}]},
            superstep(echo="one"),
            {"updates": [{"command": {"update": {"text": "two"}}, "as_node": "echo"}]},
        ],
    }
    row = (await http.post("/threads", json=body)).json()

    assert (row["status"], row["values"]) == ("idle", {"text": "two", "echo": "one"})
    thread = row["thread_id"]
    assert (await http.get(f"/threads/{thread}")).json() == row
    history = (await http.post(f"/threads/{thread}/history", json={"limit": 10})).json()
    assert [state["values"].get("text") for state in history] == ["two", "in", "in", None]
    assert [state["metadata"]["source"] for state in history] == ["update", "update", "update", "input"]
    assert (await run(thread, "echo", {"text": "three"}))["status"] == "success"
    assert (await http.get(f"/threads/{thread}/state")).json()["values"]["echo"] == "three"


async def test_a_state_of_which_something_comes_next_is_shown_as_interrupted(http: httpx.AsyncClient) -> None:
    body = {
        "metadata": {"graph_id": "steps"},
        "supersteps": [{"updates": [{"values": {"n": 2}, "as_node": "__input__"}]}],
    }
    assert (await http.post("/threads", json=body)).json()["status"] == "interrupted"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"supersteps": [superstep(text="a")]}, 422),
        ({"metadata": {"graph_id": "nope"}, "supersteps": [superstep(text="a")]}, 404),
        (
            {
                "metadata": {"graph_id": "echo"},
                "supersteps": [superstep(text="a"), {"updates": [{"values": {}, "as_node": "nope"}]}],
            },
            400,
        ),
        ({"metadata": {"graph_id": "echo"}, "supersteps": [{"updates": []}]}, 422),
        ({"metadata": {"graph_id": "echo"}, "supersteps": [{}]}, 422),
        ({"metadata": {"graph_id": "echo"}, "supersteps": "x"}, 422),
    ],
)
async def test_supersteps_that_fail_leave_no_thread(
    http: httpx.AsyncClient, database: Database, body: dict[str, Any], status: int
) -> None:
    thread = str(uuid7())
    answer = await http.post("/threads", json={"thread_id": thread, **body})
    assert (answer.status_code, set(answer.json())) == (status, {"detail"})
    assert await rows_of(database, thread) == 0


async def test_supersteps_for_an_id_that_is_taken_write_nothing(client: Client, database: Database) -> None:
    alice, bob = client("alice"), client("bob")
    body = {"metadata": {"graph_id": "echo"}, "supersteps": [superstep(text="first")]}
    first = (await alice.post("/threads", json=body)).json()
    again = {**body, "thread_id": first["thread_id"], "supersteps": [superstep(text="again")]}
    before = await rows_of(database, first["thread_id"])
    assert (await alice.post("/threads", json=again)).status_code == 409
    assert (await alice.post("/threads", json={**again, "if_exists": "do_nothing"})).json() == first
    for if_exists in ("raise", "do_nothing"):
        assert (await bob.post("/threads", json={**again, "if_exists": if_exists})).status_code == 409
    answers = await asyncio.gather(
        *(
            client.post("/threads", json={**body, "thread_id": str(UUID(int=7, version=4))})
            for client in (alice, bob, alice, bob)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert await rows_of(database, first["thread_id"]) == before


# -------------------------------------------------------------------------------------------------------- copy


async def test_a_copy_whose_process_dies_before_it_has_read_its_state_is_put_right_by_the_sweep(
    http: httpx.AsyncClient, run: Run, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = await made(http)
    await run(thread, "hitl", {"text": "a"})

    async def dies(*_: Any, **__: Any) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(runtime, "refresh_thread", dies)
        with pytest.raises(BaseException):  # noqa: B017
            await http.post(f"/threads/{thread}/copy")
    (copy,) = (await http.post("/threads/search", json={"status": "busy"})).json()
    await runtime.sweep()
    shown = (await http.get(f"/threads/{copy['thread_id']}")).json()
    original = (await http.get(f"/threads/{thread}")).json()
    assert (shown["status"], shown["values"]) == ("interrupted", original["values"])
    assert shown["interrupts"] == original["interrupts"]
