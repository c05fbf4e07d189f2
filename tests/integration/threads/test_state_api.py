from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from slackwater.postgres.pool import Database
from slackwater.runtime.runtime import Runtime

Run = Callable[..., Any]

FIELDS = [
    "values",
    "next",
    "tasks",
    "metadata",
    "created_at",
    "checkpoint",
    "parent_checkpoint",
    "interrupts",
    "checkpoint_id",
    "parent_checkpoint_id",
]
NOWHERE = "1ef4a9b8-e6fb-67b1-8001-abd5184439d1"


def detail(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["detail"]
    return str(answer.json()["detail"])


async def make(http: httpx.AsyncClient, **metadata: Any) -> str:
    return str((await http.post("/threads", json={"metadata": metadata})).json()["thread_id"])


async def state(http: httpx.AsyncClient, thread_id: str, at: str = "", **params: Any) -> dict[str, Any]:
    answer = await http.get(f"/threads/{thread_id}/state{at}", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def state_at(http: httpx.AsyncClient, thread_id: str, checkpoint: Any, **more: Any) -> dict[str, Any]:
    answer = await http.post(
        f"/threads/{thread_id}/state/checkpoint", json={"checkpoint": checkpoint, **more}
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def history(http: httpx.AsyncClient, thread_id: str, **body: Any) -> list[dict[str, Any]]:
    answer = await http.post(f"/threads/{thread_id}/history", json={"limit": 100, **body})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def update(http: httpx.AsyncClient, thread_id: str, **body: Any) -> dict[str, Any]:
    answer = await http.post(f"/threads/{thread_id}/state", json=body)
    assert answer.status_code == 200, answer.text
    written: dict[str, Any] = answer.json()
    assert written["checkpoint"] == written["configurable"]
    assert written["checkpoint"]["checkpoint_id"] == written["checkpoint_id"]
    return written


async def get_thread(http: httpx.AsyncClient, thread_id: str) -> dict[str, Any]:
    thread: dict[str, Any] = (await http.get(f"/threads/{thread_id}")).json()
    return thread


# Read


async def test_a_thread_that_never_ran_has_an_empty_state(http: httpx.AsyncClient) -> None:
    for thread_id in (await make(http), await make(http, graph_id="echo"), await make(http, graph_id=5)):
        found = await state(http, thread_id)
        assert list(found) == FIELDS
        assert (found["values"], found["next"], found["tasks"], found["interrupts"]) == ({}, [], [], [])
        assert {
            found[name] for name in FIELDS if "checkpoint" in name or name in ("metadata", "created_at")
        } == {None}
        assert await history(http, thread_id) == []


async def test_the_graph_of_a_thread_may_not_be_served_any_more(http: httpx.AsyncClient) -> None:
    thread_id = await make(http, graph_id="gone")
    assert "Graph 'gone' not found" in detail(await http.get(f"/threads/{thread_id}/state"), 404)
    assert "Graph 'gone' not found" in detail(await http.get(f"/threads/{thread_id}/history"), 404)
    answer = await http.post(f"/threads/{thread_id}/state", json={"values": {}})
    assert "Graph 'gone' not found" in detail(answer, 404)


async def test_the_state_after_a_run(http: httpx.AsyncClient, run: Run, thread: str) -> None:
    row = await run(thread, "steps", {"n": 2})
    found = await state(http, thread)
    assert list(found) == FIELDS
    assert found["values"] == {"n": 2, "i": 2, "log": ["step-1", "step-2"], "done": True}
    assert (found["next"], found["tasks"], found["interrupts"]) == ([], [], [])
    metadata = found["metadata"]
    assert (metadata["source"], metadata["step"], metadata["graph_id"]) == ("loop", 3, "steps")
    assert (metadata["run_id"], metadata["thread_id"]) == (str(row["run_id"]), thread)
    assert found["checkpoint"] == {
        "checkpoint_id": found["checkpoint_id"],
        "thread_id": thread,
        "checkpoint_ns": "",
    }
    assert found["parent_checkpoint"]["checkpoint_id"] == found["parent_checkpoint_id"]


async def test_an_interrupted_thread_shows_its_task_and_question(
    http: httpx.AsyncClient, run: Run, thread: str
) -> None:
    await run(thread, "hitl", {"text": "x"})
    found = await state(http, thread)
    (task,) = found["tasks"]
    question = {"question": "approve x?", "n": 0}
    assert found["next"] == [task["name"]] == ["ask"]
    assert list(task) == ["id", "name", "path", "error", "interrupts", "checkpoint", "state", "result"]
    assert task["path"] == ["__pregel_pull", "ask"]
    assert found["interrupts"] == task["interrupts"]
    assert [i["value"] for i in task["interrupts"]] == [question]
    assert sorted(task["interrupts"][0]) == ["id", "value"]
    shown = await get_thread(http, thread)
    assert (shown["status"], shown["interrupts"]) == ("interrupted", {task["id"]: task["interrupts"]})


async def test_a_failed_task_shows_its_error(http: httpx.AsyncClient, run: Run, thread: str) -> None:
    await run(thread, "fail", {"text": "x"})
    found = await state(http, thread)
    assert (found["values"], found["next"]) == ({"text": "x", "before": "ran"}, ["boom"])
    assert found["tasks"][0]["error"] == "ValueError('boom: x')"


async def test_messages_come_as_objects(http: httpx.AsyncClient, run: Run, thread: str) -> None:
    await run(thread, "chat", {"messages": [{"role": "user", "content": "hi"}]})
    messages = (await state(http, thread))["values"]["messages"]
    assert [(m["type"], m["content"]) for m in messages] == [("human", "hi"), ("ai", "You said: hi")]
    assert all(m["id"] for m in messages)


async def test_the_state_at_a_checkpoint(http: httpx.AsyncClient, run: Run, thread: str) -> None:
    await run(thread, "steps", {"n": 3})
    for earlier in await history(http, thread):
        by_id = await state(http, thread, f"/{earlier['checkpoint_id']}")
        by_checkpoint = await state_at(http, thread, earlier["checkpoint"])
        assert by_id == by_checkpoint == earlier


async def test_a_checkpoint_that_is_not_there_is_empty(
    http: httpx.AsyncClient, run: Run, thread: str
) -> None:
    await run(thread, "echo", {"text": "x"})
    for found in (
        await state(http, thread, f"/{NOWHERE}"),
        await state_at(http, thread, {"checkpoint_id": NOWHERE}),
    ):
        assert (found["values"], found["next"], found["created_at"]) == ({}, [], None)
        assert found["checkpoint"] == {
            "checkpoint_id": NOWHERE,
            "thread_id": thread,
            "checkpoint_ns": "",
        }


async def test_a_checkpoint_of_another_thread_is_not_reached_through_ones_own(
    http: httpx.AsyncClient, run: Run, thread: str
) -> None:
    await run(thread, "echo", {"text": "secret"})
    secret = (await state(http, thread))["checkpoint"]
    other = await make(http, graph_id="echo")
    assert secret["thread_id"] == thread
    assert (await state_at(http, other, secret))["values"] == {}
    assert await history(http, other, checkpoint=secret) == []
    await update(http, other, values={"text": "y"}, checkpoint={"thread_id": thread}, as_node="echo")
    assert (await state(http, thread))["values"]["text"] == "secret"
    assert (await state(http, other))["values"]["text"] == "y"


async def test_a_subgraphs_state_is_named_or_included(http: httpx.AsyncClient, run: Run, thread: str) -> None:
    await run(thread, "subgraph", {"text": "x", "ask": True})
    # WHEN it is not asked for THEN it is named
    (task,) = (await state(http, thread))["tasks"]
    assert (task["name"], task["state"]) == ("child", None)
    where = task["checkpoint"]
    assert sorted(where) == ["checkpoint_ns", "thread_id"]
    assert where["checkpoint_ns"] == f"child:{task['id']}"
    # WHEN it is asked for THEN it is inside
    (task,) = (await state(http, thread, subgraphs="true"))["tasks"]
    assert task["checkpoint"] is None
    inner = task["state"]
    assert (inner["next"], inner["values"]["trail"]) == (["inner_two"], ["outer_start", "inner_one"])
    assert inner["checkpoint"]["checkpoint_ns"] == where["checkpoint_ns"]
    assert (await state_at(http, thread, {}, subgraphs=True))["tasks"] == [task]
    # AND its name leads to it, and to its history
    by_name = await state_at(http, thread, where)
    assert by_name["values"] == inner["values"]
    earlier = await history(http, thread, checkpoint=where)
    assert [s["next"] for s in earlier] == [["inner_two"], ["inner_one"], ["__start__"]]
    assert {s["checkpoint"]["checkpoint_ns"] for s in earlier} == {where["checkpoint_ns"]}


async def test_a_factory_builds_the_graph_that_ran(http: httpx.AsyncClient, run: Run, thread: str) -> None:
    await run(thread, "factory", {"text": "x"}, configurable={"flavor": "mint"})
    await update(http, thread, values={"text": "y"}, as_node="__start__")
    assert (await state(http, thread))["next"] == ["work_mint"]
    assert (await history(http, thread))[0]["next"] == ["work_mint"]


async def test_only_the_selected_fields_are_sent(http: httpx.AsyncClient, run: Run, thread: str) -> None:
    await run(thread, "echo", {"text": "x"})
    whole = await state(http, thread)
    assert await state(http, thread, select=["next", "checkpoint"]) == {
        "next": [],
        "checkpoint": whole["checkpoint"],
    }
    picked = {"values": {"text": "x"}}
    assert await state(http, thread, select=["values.text", "values.absent"]) == picked
    assert await state(http, thread, f"/{whole['checkpoint_id']}", select="values.text") == picked
    assert await state_at(http, thread, whole["checkpoint"], select=["values.text"]) == picked
    assert (await history(http, thread, select=["values.text"]))[0] == picked
    for path in ("state", "history"):
        detail(await http.get(f"/threads/{thread}/{path}", params={"select": "bogus"}), 422)


# History


async def test_history_is_newest_first_and_says_where_it_goes_on(
    http: httpx.AsyncClient, run: Run, thread: str
) -> None:
    await run(thread, "steps", {"n": 3})
    found = await history(http, thread)
    assert [s["metadata"]["step"] for s in found] == [4, 3, 2, 1, 0, -1]
    assert [s["next"] for s in found] == [[], ["finish"], ["step"], ["step"], ["step"], ["__start__"]]
    assert [s["parent_checkpoint_id"] for s in found] == [*(s["checkpoint_id"] for s in found[1:]), None]
    assert found[-1]["metadata"]["source"] == "input"


async def test_history_is_limited_and_filtered(http: httpx.AsyncClient, run: Run, thread: str) -> None:
    await run(thread, "steps", {"n": 3})
    ids = [s["checkpoint_id"] for s in await history(http, thread)]
    path = f"/threads/{thread}/history"

    async def by_get(**params: Any) -> list[str]:
        return [s["checkpoint_id"] for s in (await http.get(path, params=params)).json()]

    async def by_post(**body: Any) -> list[str]:
        return [s["checkpoint_id"] for s in (await http.post(path, json=body)).json()]

    assert await by_get() == await by_post() == ids[:1]
    assert await by_get(limit=3) == await by_post(limit=3) == ids[:3]
    assert await by_get(limit=9, before=ids[3]) == ids[4:]
    for before in (ids[3], {"checkpoint_id": ids[3]}, {"configurable": {"checkpoint_id": ids[3]}}):
        assert await by_post(limit=9, before=before) == ids[4:]
    assert await by_post(limit=9, metadata={"step": 1}) == [ids[3]]
    assert await by_post(limit=9, metadata={"source": "input"}) == [ids[-1]]
    assert await by_post(limit=9, metadata={"step": 1, "source": "input"}) == []


async def test_history_refuses_other_limits(http: httpx.AsyncClient, thread: str) -> None:
    for limit in (0, -1, 1001, "x", 1.5):
        detail(await http.get(f"/threads/{thread}/history", params={"limit": limit}), 422)
        detail(await http.post(f"/threads/{thread}/history", json={"limit": limit}), 422)


async def test_ids_of_checkpoints_are_checked(http: httpx.AsyncClient, thread: str) -> None:
    path = f"/threads/{thread}"
    for answer in (
        await http.get(f"{path}/state/nope"),
        await http.get(f"{path}/state/%00"),
        await http.get(f"{path}/history", params={"before": "nope"}),
        await http.post(f"{path}/history", json={"before": "nope"}),
        await http.post(f"{path}/history", json={"before": {"checkpoint_id": "nope"}}),
        await http.post(f"{path}/state/checkpoint", json={"checkpoint": {"checkpoint_id": "nope"}}),
        await http.post(f"{path}/state", json={"checkpoint_id": "nope"}),
        await http.post(f"{path}/state", json={"checkpoint": {"checkpoint_id": "nope"}}),
    ):
        assert detail(answer, 422) == "Invalid checkpoint ID: must be a UUID"


async def test_a_body_that_makes_no_sense(http: httpx.AsyncClient, thread: str) -> None:
    bodies: tuple[tuple[str, Any], ...] = (
        ("state", {"values": "x"}),
        ("state", {"values": {}, "as_node": 5}),
        ("state", {"checkpoint": "x"}),
        ("state/checkpoint", {}),
        ("state/checkpoint", {"checkpoint": {"checkpoint_ns": 5}}),
        ("state/checkpoint", {"checkpoint": {"checkpoint_map": {"": 5}}}),
        ("state/checkpoint", {"checkpoint": {}, "subgraphs": "maybe"}),
        ("history", {"metadata": []}),
        ("history", {"before": 5}),
    )
    for path, body in bodies:
        detail(await http.post(f"/threads/{thread}/{path}", json=body), 422)


# Update


async def test_an_update_goes_on_from_the_node_it_stands_for(
    http: httpx.AsyncClient, run: Run, thread: str
) -> None:
    row = await run(thread, "steps", {"n": 1})
    written = await update(http, thread, values={"i": 0, "log": ["edit"]}, as_node="step")
    found = await state(http, thread)
    assert found["checkpoint"] == written["checkpoint"]
    assert (found["values"]["log"], found["values"]["i"], found["next"]) == (["step-1", "edit"], 0, ["step"])
    metadata = found["metadata"]
    assert (metadata["source"], metadata["graph_id"], metadata["thread_id"]) == ("update", "steps", thread)
    # It belongs to no run: a rollback of one must not take it away.
    assert "run_id" not in metadata
    shown = await get_thread(http, thread)
    assert (shown["status"], shown["values"]) == ("interrupted", found["values"])
    # and a run goes on from there
    await run(thread, "steps")
    assert (await state(http, thread))["values"]["log"] == ["step-1", "edit", "step-1"]
    assert (await state(http, thread))["metadata"]["run_id"] != str(row["run_id"])


async def test_an_update_without_a_node_stands_for_the_last_one(
    http: httpx.AsyncClient, run: Run, thread: str
) -> None:
    await run(thread, "echo", {"text": "x"})
    await update(http, thread, values={"text": "edited"})
    assert (await get_thread(http, thread))["values"] | {"text": "edited", "echo": "x"} == (
        await state(http, thread)
    )["values"]


async def test_an_update_can_be_the_first_thing_on_a_thread(http: httpx.AsyncClient) -> None:
    thread_id = await make(http, graph_id="steps")
    await update(http, thread_id, values={"n": 1, "i": 1, "log": ["a"]}, as_node="step")
    found = await state(http, thread_id)
    assert (found["values"]["log"], found["next"]) == (["a"], ["finish"])
    assert (await get_thread(http, thread_id))["status"] == "interrupted"


async def test_an_update_answers_for_a_person(http: httpx.AsyncClient, run: Run, thread: str) -> None:
    await run(thread, "hitl", {"text": "u"})
    await update(http, thread, values={"answers": ["manual"]}, as_node="ask")
    assert (await get_thread(http, thread))["interrupts"] == {}
    await run(thread, "hitl")
    assert (await state(http, thread))["values"]["result"] == "u:manual"
    assert (await get_thread(http, thread))["status"] == "idle"


async def test_no_values_step_over_a_node(http: httpx.AsyncClient, run: Run, thread: str) -> None:
    await run(thread, "fail", {"text": "x"})
    await update(http, thread, values=None, as_node="boom")
    assert (await state(http, thread))["next"] == []


async def test_an_update_forks_from_an_earlier_checkpoint(
    http: httpx.AsyncClient, run: Run, thread: str
) -> None:
    await run(thread, "steps", {"n": 2})
    first_step = (await history(http, thread, metadata={"step": 1}))[0]
    for where in (
        {"checkpoint": first_step["checkpoint"]},
        {"checkpoint_id": first_step["checkpoint_id"]},
    ):
        written = await update(http, thread, values={"log": ["fork"]}, as_node="step", **where)
        found = await state(http, thread)
        assert found["checkpoint_id"] == written["checkpoint_id"]
        assert found["parent_checkpoint_id"] == first_step["checkpoint_id"]
        assert found["values"]["log"] == ["step-1", "fork"]


async def test_a_message_can_be_removed(http: httpx.AsyncClient, run: Run, thread: str) -> None:
    await run(thread, "chat", {"messages": [{"role": "user", "content": "hi"}]})
    first = (await state(http, thread))["values"]["messages"][0]
    gone = {"type": "remove", "content": "", "id": first["id"]}
    await update(http, thread, values={"messages": [gone]}, as_node="model")
    assert [m["content"] for m in (await state(http, thread))["values"]["messages"]] == ["You said: hi"]


async def test_a_subgraphs_state_can_be_updated(http: httpx.AsyncClient, run: Run, thread: str) -> None:
    await run(thread, "subgraph", {"text": "x", "ask": True})
    where = (await state(http, thread))["tasks"][0]["checkpoint"]
    written = await update(http, thread, values={"trail": ["edit"]}, as_node="inner_one", checkpoint=where)
    assert written["checkpoint"]["checkpoint_ns"] == where["checkpoint_ns"]
    assert (await state_at(http, thread, where))["values"]["trail"] == ["outer_start", "inner_one", "edit"]
    assert (await state(http, thread))["values"]["trail"] == ["outer_start"]


async def test_an_update_that_the_graph_cannot_take_changes_nothing(
    http: httpx.AsyncClient, database: Database
) -> None:
    remove = {"type": "remove", "id": "no", "content": ""}
    updates: tuple[tuple[str, Any, str], ...] = (
        ("hitl", {"values": {"text": "x"}, "as_node": "nope"}, "Node nope does not exist"),
        ("hitl", {"values": {"answers": 5}, "as_node": "ask"}, "TypeError"),
        ("hitl", {"values": [1], "as_node": "ask"}, "Expected dict"),
        ("hitl", {"values": {"text": "x"}, "checkpoint": {"checkpoint_ns": "nope:1"}}, "nope"),
        ("chat", {"values": {"messages": [{"type": "nope"}]}, "as_node": "model"}, "nope"),
        ("chat", {"values": {"messages": [remove]}, "as_node": "model"}, "delete a message"),
    )
    for graph_id, body, says in updates:
        thread_id = await make(http, graph_id=graph_id)
        assert says in detail(await http.post(f"/threads/{thread_id}/state", json=body), 400)
        assert await history(http, thread_id) == []
        # and the thread is free again
        assert await database.fetch("select run_id from slackwater.runs") == []
        await update(http, thread_id, values={}, as_node={"hitl": "ask", "chat": "model"}[graph_id])


async def test_an_update_after_two_nodes_at_once_must_say_for_which(
    http: httpx.AsyncClient, run: Run, thread: str
) -> None:
    await run(thread, "fan", {"trail": []})
    both = (await history(http, thread, metadata={"step": 2}))[0]
    body = {"values": {"trail": ["x"]}, "checkpoint": both["checkpoint"]}
    answer = await http.post(f"/threads/{thread}/state", json=body)
    assert detail(answer, 400) == "Ambiguous update, specify as_node"


async def test_a_thread_without_a_graph_cannot_be_updated(http: httpx.AsyncClient, thread: str) -> None:
    answer = await http.post(f"/threads/{thread}/state", json={"values": {}})
    assert detail(answer, 400).startswith(f"Thread '{thread}' has no assigned graph ID.")


async def test_a_thread_with_a_run_cannot_be_updated(
    http: httpx.AsyncClient, run: Run, thread: str, database: Database
) -> None:
    await run(thread, "steps", {"n": 500, "sleep": 0.01}, wait=False)
    before = await database.fetch("select run_id, status from slackwater.runs")
    answer = await http.post(f"/threads/{thread}/state", json={"values": {"i": 0}, "as_node": "step"})
    assert "busy" in detail(answer, 409)
    assert await database.fetch("select run_id, status from slackwater.runs") == before
    await http.delete(f"/threads/{thread}")


async def test_nothing_of_an_update_stays_but_its_checkpoint(
    http: httpx.AsyncClient, run: Run, thread: str, database: Database
) -> None:
    row = await run(thread, "hitl", {"text": "x"})
    await update(http, thread, values={"answers": ["a"]}, as_node="ask")
    assert await database.fetch("select run_id from slackwater.runs") == [{"run_id": row["run_id"]}]
    ours = "select run_id from slackwater.base_writes where run_id <> %s"
    assert await database.fetch(ours, [row["run_id"]]) == []


async def test_an_update_of_a_failed_thread_says_where_it_stands_now(
    http: httpx.AsyncClient, run: Run, thread: str
) -> None:
    await run(thread, "fail", {"text": "x"})
    assert (await get_thread(http, thread))["status"] == "error"
    await update(http, thread, values={"ok": True})
    shown = await get_thread(http, thread)
    assert (shown["status"], shown["error"]) == ("interrupted", None)


async def test_values_lose_their_nul_characters(http: httpx.AsyncClient) -> None:
    thread_id = await make(http, graph_id="echo")
    await update(http, thread_id, values={"text": "a\x00b"}, as_node="echo")
    assert (await state(http, thread_id))["values"]["text"] == "a\ufffdb"
    assert (await get_thread(http, thread_id))["values"]["text"] == "a\ufffdb"


# Stopping


async def test_who_reads_while_the_process_lets_go_is_told_to_try_again(
    http: httpx.AsyncClient, run: Run, thread: str, runtime: Runtime
) -> None:
    await run(thread, "echo", {"text": "x"})
    runtime.database.gate.shut()
    for path in ("state", f"state/{NOWHERE}", "history"):
        answer = await http.get(f"/threads/{thread}/{path}")
        assert "try again" in detail(answer, 503)
        assert answer.headers["Retry-After"]
