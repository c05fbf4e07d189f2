from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import httpx

from slackwater.identity.principal import LOCAL_OWNER
from slackwater.postgres.pool import Database
from slackwater.runtime.runtime import Runtime

Client = Callable[..., httpx.AsyncClient]
Run = Callable[..., Any]

UNKNOWN = "00000000-0000-4000-8000-000000000000"
KEYS = [
    "thread_id",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "status",
    "config",
    "values",
    "interrupts",
    "error",
]


async def make(http: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await http.post("/threads", json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def found(http: httpx.AsyncClient, **body: Any) -> list[str]:
    """The ids that a search finds, in its order."""
    answer = await http.post("/threads/search", json=body)
    assert answer.status_code == 200, answer.text
    return [thread["thread_id"] for thread in answer.json()]


async def counted(http: httpx.AsyncClient, **body: Any) -> int:
    answer = await http.post("/threads/count", json=body)
    assert answer.status_code == 200, answer.text
    return int(answer.text)


def detail(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["detail"]
    return str(answer.json()["detail"])


# Create


async def test_a_new_thread_is_idle_and_empty(http: httpx.AsyncClient) -> None:
    thread = await make(http, metadata={"tag": "x"})
    assert list(thread) == KEYS
    assert UUID(thread["thread_id"]).version == 7
    assert thread["status"] == "idle"
    assert thread["metadata"] == {"tag": "x"}
    assert (thread["config"], thread["values"], thread["interrupts"]) == ({}, None, {})
    assert thread["created_at"] == thread["updated_at"] == thread["state_updated_at"]
    assert datetime.fromisoformat(thread["created_at"]).utcoffset() is not None
    assert (await http.get(f"/threads/{thread['thread_id']}")).json() == thread


async def test_a_taken_id_is_a_conflict_unless_nothing_is_to_be_done(http: httpx.AsyncClient) -> None:
    thread = await make(http, thread_id=str(uuid4()), metadata={"a": 1})
    again = {"thread_id": thread["thread_id"], "metadata": {"b": 2}}
    for more in ({}, {"if_exists": "raise"}):
        answer = await http.post("/threads", json={**again, **more})
        assert detail(answer, 409) == f"Thread with ID {thread['thread_id']} already exists"
    assert await make(http, **again, if_exists="do_nothing") == thread


async def test_an_id_that_another_owner_has_taken_is_a_conflict_whatever_is_asked(client: Client) -> None:
    theirs = await make(client("them"), metadata={"secret": 1})
    for if_exists in ("raise", "do_nothing"):
        answer = await client("me").post(
            "/threads", json={"thread_id": theirs["thread_id"], "if_exists": if_exists}
        )
        assert "already exists" in detail(answer, 409)


async def test_a_time_to_live_is_accepted(http: httpx.AsyncClient) -> None:
    for ttl in (5, 0.5, {"ttl": 5}, {"ttl": 5, "strategy": "keep_latest"}, None):
        await make(http, ttl=ttl)


async def test_keys_that_only_the_server_sets_are_dropped_from_metadata(http: httpx.AsyncClient) -> None:
    reserved = {"thread_id": "x", "assistant_id": "x", "run_id": "x", "cron_id": "x"}
    thread = await make(http, metadata={"graph_id": "echo", **reserved})
    assert thread["metadata"] == {"graph_id": "echo"}
    patched = await http.patch(f"/threads/{thread['thread_id']}", json={"metadata": {"a": 1, **reserved}})
    assert patched.json()["metadata"] == {"graph_id": "echo", "a": 1}


async def test_a_body_that_makes_no_sense_creates_nothing(http: httpx.AsyncClient) -> None:
    for body in (
        {"thread_id": "nope"},
        {"thread_id": 5},
        {"metadata": None},
        {"metadata": []},
        {"if_exists": "maybe"},
        {"ttl": "long"},
        {"ttl": {"ttl": 5, "strategy": "burn"}},
    ):
        detail(await http.post("/threads", json=body), 422)
    assert await counted(http) == 0


async def test_a_body_that_is_no_json_is_refused(http: httpx.AsyncClient) -> None:
    for content in (b"", b"{", b"\xff"):
        answer = await http.post("/threads", content=content, headers={"Content-Type": "application/json"})
        assert detail(answer, 422) == "Invalid JSON in request body"


async def test_nul_characters_are_replaced(http: httpx.AsyncClient) -> None:
    thread = await make(http, metadata={"a": "x\x00y"})
    assert thread["metadata"] == {"a": "x\ufffdy"}
    assert await found(http, metadata={"a": "x\x00y"}) == [thread["thread_id"]]


# Read, patch, delete


async def test_ids_that_are_unknown_or_none(http: httpx.AsyncClient) -> None:
    assert detail(await http.get(f"/threads/{UNKNOWN}"), 404) == f"Thread with ID {UNKNOWN} not found"
    assert detail(await http.delete(f"/threads/{UNKNOWN}"), 404) == f"Thread with ID {UNKNOWN} not found"
    assert detail(await http.patch(f"/threads/{UNKNOWN}", json={}), 404) == "Not Found"
    for method, path in (
        ("GET", "/threads/nope"),
        ("DELETE", "/threads/nope"),
        ("PATCH", "/threads/nope"),
        ("GET", "/threads/nope/state"),
        ("POST", "/threads/nope/state"),
        ("GET", "/threads/nope/history"),
        ("POST", "/threads/nope/copy"),
    ):
        answer = await http.request(method, path, json={} if method in ("PATCH", "POST") else None)
        assert detail(answer, 422) == "Invalid thread ID: must be a UUID"


async def test_a_patch_merges_metadata_and_moves_updated_at_only(http: httpx.AsyncClient) -> None:
    before = await make(http, metadata={"a": 1, "b": {"c": 1}})
    answer = await http.patch(f"/threads/{before['thread_id']}", json={"metadata": {"b": {"d": 2}}, "ttl": 5})
    after = answer.json()
    assert after["metadata"] == {"a": 1, "b": {"d": 2}}
    assert after["updated_at"] > before["updated_at"]
    same = {name: before[name] for name in KEYS if name not in ("metadata", "updated_at")}
    assert {name: after[name] for name in same} == same


async def test_a_patch_can_do_without_an_answer(http: httpx.AsyncClient, thread: str) -> None:
    answer = await http.patch(
        f"/threads/{thread}", json={"metadata": {"a": 1}}, headers={"Prefer": "return=minimal"}
    )
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await http.get(f"/threads/{thread}")).json()["metadata"] == {"a": 1}


async def left_of(database: Database, thread_id: str) -> dict[str, int]:
    """How many rows each table has of a thread."""
    tables = {
        "slackwater.threads": "uuid",
        "slackwater.runs": "uuid",
        "slackwater.run_events": "uuid",
        "slackwater.base_writes": "text",
        "checkpoints": "text",
        "checkpoint_blobs": "text",
        "checkpoint_writes": "text",
    }
    counts = {}
    for table, kind in tables.items():
        sql = f"select count(*)::int as n from {table} where thread_id = %s::uuid::{kind}"  # a literal
        (row,) = await database.fetch(sql, [thread_id])  # type: ignore[arg-type]
        counts[table] = row["n"]
    (row,) = await database.fetch(
        "select count(*)::int as n from slackwater.idempotency_keys left join slackwater.runs using (run_id) "
        "where thread_id is null"
    )
    return {**counts, "keys of runs that are gone": row["n"]}


async def test_deleting_a_thread_leaves_nothing_of_it_and_everything_of_others(
    http: httpx.AsyncClient, run: Run, database: Database
) -> None:
    # GIVEN two threads with a question each, the writes that it waits on, and a request that may be repeated
    threads = [(await make(http))["thread_id"] for _ in range(2)]
    for thread_id in threads:
        row = await run(thread_id, "hitl", {"text": "x"})
        await run(thread_id, "hitl", command={"resume": "yes"})
        await database.execute(
            "insert into slackwater.idempotency_keys (owner, key, run_id) values ('local', %s, %s)",
            [thread_id, row["run_id"]],
        )
        # which a run has until it ends
        await database.execute(
            "insert into slackwater.base_writes values (%s, %s, '', 'some', '[]')", [row["run_id"], thread_id]
        )
    before = [await left_of(database, thread_id) for thread_id in threads]
    assert all(count for name, count in before[0].items() if "gone" not in name), before
    # WHEN one is deleted
    answer = await http.delete(f"/threads/{threads[0]}")
    assert (answer.status_code, answer.content) == (204, b"")
    # THEN
    assert set((await left_of(database, threads[0])).values()) == {0}
    assert await left_of(database, threads[1]) == before[1]
    detail(await http.get(f"/threads/{threads[0]}"), 404)
    detail(await http.delete(f"/threads/{threads[0]}"), 404)


async def test_whoever_works_on_a_deleted_thread_writes_nothing_more(
    http: httpx.AsyncClient, run: Run, database: Database, runtime: Runtime, thread: str
) -> None:
    # GIVEN a run in the middle of many short supersteps
    row = await run(thread, "steps", {"n": 1000, "sleep": 0.005}, wait=False)
    await step_reached(database, thread, 3)
    task = runtime.worker.live[row["run_id"]].task
    assert task is not None
    # WHEN its thread is deleted
    assert (await http.delete(f"/threads/{thread}")).status_code == 204
    # THEN its process gives up with its next write, long before its lease ends, and none comes after the deletion
    await asyncio.wait_for(task, 5)
    assert set((await left_of(database, thread)).values()) == {0}


async def step_reached(database: Database, thread_id: str, step: int) -> None:
    async with asyncio.timeout(5):
        while True:
            row = await database.fetch_one(
                "select max((metadata ->> 'step')::int) as step from checkpoints where thread_id = %s",
                [thread_id],
            )
            if row and (row["step"] or 0) >= step:
                return
            await asyncio.sleep(0.01)


# Search and count


async def test_search_by_metadata_ids_and_status(http: httpx.AsyncClient, database: Database) -> None:
    one = (await make(http, metadata={"n": 1, "deep": {"a": 1, "b": 2}}))["thread_id"]
    two = (await make(http, metadata={"n": 2}))["thread_id"]
    assert await found(http) == [two, one]
    assert await found(http, metadata={"n": 1}) == [one]
    assert await found(http, metadata={"deep": {"b": 2}}) == [one]
    assert await found(http, metadata={"n": "1"}) == []
    assert await found(http, ids=[two, UNKNOWN]) == [two]
    await database.execute("update slackwater.threads set status = 'error' where thread_id = %s", [two])
    assert await found(http, status="error") == [two]
    assert await found(http, status="idle", metadata={"n": 2}) == []
    assert await counted(http) == 2
    assert await counted(http, metadata={"n": 1}) == 1
    assert await counted(http, status="busy") == 0


async def test_search_by_values(http: httpx.AsyncClient, run: Run) -> None:
    threads = {text: (await make(http))["thread_id"] for text in ("alpha", "beta")}
    await make(http)
    for text, thread_id in threads.items():
        await run(thread_id, "echo", {"text": text})
    assert await found(http, values={"text": "beta"}) == [threads["beta"]]
    assert await found(http, values={"echo": "alpha", "text": "alpha"}) == [threads["alpha"]]
    assert await counted(http, values={"text": "alpha"}) == 1
    assert await counted(http, values={"text": "gamma"}) == 0


async def test_search_sorts(http: httpx.AsyncClient, database: Database) -> None:
    made = [(await make(http, thread_id=str(uuid4())))["thread_id"] for _ in range(3)]
    assert await found(http, sort_by="created_at", sort_order="asc") == made
    assert await found(http, sort_by="created_at", sort_order="desc") == made[::-1]
    assert await found(http, sort_by="thread_id", sort_order="asc") == sorted(made)
    await http.patch(f"/threads/{made[0]}", json={"metadata": {"touched": 1}})
    assert await found(http) == [made[0], made[2], made[1]]
    assert await found(http, sort_order="asc") == [made[1], made[2], made[0]]
    await database.execute(
        "update slackwater.threads set status = 'busy', state_updated_at = null where thread_id = %s",
        [made[1]],
    )
    assert (await found(http, sort_by="status"))[-1] == made[1]
    assert (await found(http, sort_by="state_updated_at"))[-1] == made[1]


async def test_search_can_be_paged_through(http: httpx.AsyncClient) -> None:
    made = [(await make(http))["thread_id"] for _ in range(5)]
    seen: list[str] = []
    offset: str | None = "0"
    while offset:
        answer = await http.post("/threads/search", json={"limit": 2, "offset": int(offset)})
        seen += [thread["thread_id"] for thread in answer.json()]
        offset = answer.headers.get("X-Pagination-Next")
        assert int(answer.headers["X-Pagination-Total"]) == (int(offset) + 1 if offset else 5)
    assert seen == made[::-1]
    beyond = await http.post("/threads/search", json={"offset": 100})
    assert (beyond.json(), beyond.headers["X-Pagination-Total"]) == ([], "100")


async def test_search_selects_fields(http: httpx.AsyncClient) -> None:
    thread = await make(http, metadata={"a": 1})
    for fields in (["thread_id", "status"], ["values"], ["updated_at", "metadata", "interrupts", "config"]):
        answer = await http.post("/threads/search", json={"select": fields})
        assert answer.json() == [{name: thread[name] for name in fields}]


async def test_a_search_that_makes_no_sense(http: httpx.AsyncClient) -> None:
    for body in (
        {"status": "weird"},
        {"limit": 0},
        {"limit": 1001},
        {"limit": "ten"},
        {"offset": -1},
        {"offset": 2**63},
        {"sort_by": "values"},
        {"sort_order": "up"},
        {"select": ["error"]},
        {"metadata": None},
        {"values": []},
        {"ids": "all"},
    ):
        detail(await http.post("/threads/search", json=body), 422)


async def test_a_search_names_the_id_that_is_none(http: httpx.AsyncClient) -> None:
    answer = await http.post("/threads/search", json={"ids": [UNKNOWN, "nope"]})
    assert detail(answer, 422) == "Invalid thread ID nope"


async def test_the_thread_of_a_stateless_run_is_never_listed_but_can_be_read(
    http: httpx.AsyncClient, thread: str, database: Database
) -> None:
    await database.execute("update slackwater.threads set hidden = true where thread_id = %s", [thread])
    assert await found(http) == await found(http, ids=[thread]) == []
    assert await counted(http) == 0
    assert (await http.get(f"/threads/{thread}")).status_code == 200
    assert (await http.get(f"/threads/{thread}/state")).status_code == 200


# Copy


async def states(http: httpx.AsyncClient, thread_id: str) -> list[tuple[Any, ...]]:
    answer = await http.post(f"/threads/{thread_id}/history", json={"limit": 100})
    assert answer.status_code == 200, answer.text
    return [(s["checkpoint_id"], s["values"], s["next"], s["metadata"]["step"]) for s in answer.json()]


async def test_a_copy_has_the_history_and_what_was_left_to_do(
    http: httpx.AsyncClient, run: Run, thread: str
) -> None:
    # GIVEN a thread that waits for an answer
    await http.patch(f"/threads/{thread}", json={"metadata": {"tag": "x"}})
    await run(thread, "hitl", {"text": "c"})
    source = (await http.get(f"/threads/{thread}")).json()
    # WHEN
    copied = (await http.post(f"/threads/{thread}/copy")).json()
    # THEN it is the same, and another
    assert copied["thread_id"] != thread
    for name in ("metadata", "config", "status", "values", "interrupts"):
        assert copied[name] == source[name], name
    assert await states(http, copied["thread_id"]) == await states(http, thread)
    state = (await http.get(f"/threads/{copied['thread_id']}/state")).json()
    assert state["metadata"]["thread_id"] == state["checkpoint"]["thread_id"] == copied["thread_id"]
    # and goes its own way
    await run(copied["thread_id"], "hitl", command={"resume": "ok"})
    assert (await http.get(f"/threads/{copied['thread_id']}")).json()["values"]["result"] == "c:ok"
    assert (await http.get(f"/threads/{thread}")).json()["status"] == "interrupted"


async def test_a_thread_can_be_copied_in_the_middle_of_a_run(
    http: httpx.AsyncClient, run: Run, thread: str, database: Database
) -> None:
    await run(thread, "steps", {"n": 200, "sleep": 0.005}, wait=False)
    await step_reached(database, thread, 3)
    for _ in range(5):
        copied = (await http.post(f"/threads/{thread}/copy")).json()
        assert copied["status"] == "interrupted"
        values = copied["values"]
        assert values["log"] == [f"step-{n + 1}" for n in range(values["i"])]
        assert (await http.get(f"/threads/{copied['thread_id']}/state")).json()["values"] == values
    await http.delete(f"/threads/{thread}")


async def test_a_superstep_whose_end_was_not_stored_is_something_left_to_do(
    http: httpx.AsyncClient, run: Run, thread: str, database: Database
) -> None:
    # GIVEN a thread whose last superstep has all its writes, but not the checkpoint that they led to
    await run(thread, "steps", {"n": 2})
    await database.execute(
        "delete from checkpoints where checkpoint_id = (select max(checkpoint_id) from checkpoints)"
    )
    # WHEN
    copied = (await http.post(f"/threads/{thread}/copy")).json()
    # THEN
    assert (await http.get(f"/threads/{copied['thread_id']}/state")).json()["next"] == []
    assert (copied["status"], copied["values"]["done"]) == ("interrupted", True)
    await run(copied["thread_id"], "steps")
    assert (await http.get(f"/threads/{copied['thread_id']}")).json()["status"] == "idle"


async def test_an_empty_thread_can_be_copied(http: httpx.AsyncClient, thread: str) -> None:
    copied = (await http.post(f"/threads/{thread}/copy")).json()
    assert (copied["status"], copied["values"]) == ("idle", None)


async def test_a_thread_that_is_not_there_cannot_be_copied(http: httpx.AsyncClient) -> None:
    assert detail(await http.post(f"/threads/{UNKNOWN}/copy"), 409) == "Conflict"


# Owners


ROUTES: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/threads/{}", None),
    ("PATCH", "/threads/{}", {"metadata": {"stolen": 1}}),
    ("DELETE", "/threads/{}", None),
    ("POST", "/threads/{}/copy", {}),
    ("GET", "/threads/{}/state", None),
    ("GET", "/threads/{}/state?subgraphs=true", None),
    ("GET", "/threads/{}/state/1ef4a9b8-e6fb-67b1-8001-abd5184439d1", None),
    ("POST", "/threads/{}/state/checkpoint", {"checkpoint": {}}),
    ("POST", "/threads/{}/state", {"values": {"text": "stolen"}}),
    ("GET", "/threads/{}/history", None),
    ("POST", "/threads/{}/history", {}),
)


async def test_anothers_thread_answers_like_an_absent_one(
    client: Client, run: Run, database: Database
) -> None:
    # GIVEN
    mine = (await make(client(LOCAL_OWNER)))["thread_id"]
    await run(mine, "echo", {"text": "secret"})
    before = await left_of(database, mine), (await client(LOCAL_OWNER).get(f"/threads/{mine}")).json()
    thief = client("thief")
    for method, path, body in ROUTES:
        # WHEN
        theirs = await thief.request(method, path.format(mine), json=body)
        absent = await thief.request(method, path.format(UNKNOWN), json=body)
        # THEN
        assert theirs.status_code == absent.status_code == (409 if path.endswith("/copy") else 404), path
        assert theirs.text.replace(mine, "ID") == absent.text.replace(UNKNOWN, "ID")
    after = await left_of(database, mine), (await client(LOCAL_OWNER).get(f"/threads/{mine}")).json()
    assert after == before


async def test_search_and_count_see_ones_own_threads_only(client: Client) -> None:
    mine = (await make(client("me"), metadata={"tag": "x"}))["thread_id"]
    theirs = (await make(client("them"), metadata={"tag": "x"}))["thread_id"]
    assert await found(client("me"), metadata={"tag": "x"}) == [mine]
    assert await found(client("me"), ids=[theirs]) == []
    assert await counted(client("me")) == 1
    assert await counted(client("nobody")) == 0
