"""The commands of protocol v2."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.api import Api

from slackwater.kit.ids import uuid7
from slackwater.protocols.events import service
from slackwater.runtime.process import stop

ANSWERS = {"type": "error", "id": 1}


@pytest.fixture
async def api(serve: Any) -> AsyncIterator[Api]:
    """An application for Alice and Bob."""
    async with serve(names=("alice", "bob"), max_body_bytes=20_000) as api:
        yield api


@pytest.fixture
def http(api: Api) -> httpx.AsyncClient:
    return api.client("alice")


async def command(
    http: httpx.AsyncClient, thread: str, method: str, key: str | None = None, **params: Any
) -> dict[str, Any]:
    body = {"id": 1, "method": method, "params": params}
    headers = {"Idempotency-Key": key} if key else {}
    answer = await http.post(f"/threads/{thread}/commands", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def start(http: httpx.AsyncClient, thread: str, graph: str, given: Any, **params: Any) -> str:
    told = await command(http, thread, "run.start", assistant_id=graph, input=given, **params)
    assert told["type"] == "success", told
    assert told["meta"] == {"applied_through_seq": 0}
    run_id: str = told["result"]["run_id"]
    return run_id


async def ended(http: httpx.AsyncClient, thread: str, run_id: str) -> dict[str, Any]:
    """The thread's values, when the run has ended."""
    await http.get(f"/threads/{thread}/runs/{run_id}/join")
    values: dict[str, Any] = (await http.get(f"/threads/{thread}/state")).json()["values"]
    return values


async def questions(http: httpx.AsyncClient, thread: str) -> list[str]:
    """The ids of the questions that the thread waits with."""
    waiting = (await http.get(f"/threads/{thread}")).json()["interrupts"]
    return [one["id"] for task in waiting.values() for one in task]


async def count(api: Api) -> list[int]:
    rows = await api.database.fetch(
        "select (select count(*) from slackwater.threads) as threads, (select count(*) from slackwater.runs) as runs"
    )
    return [rows[0]["threads"], rows[0]["runs"]]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "integer id and string method"),
        ({}, "integer id and string method"),
        ({"id": "1", "method": "run.start"}, "integer id and string method"),
        ({"id": True, "method": "run.start"}, "integer id and string method"),
        ({"id": 1.5, "method": "run.start"}, "integer id and string method"),
        ({"id": 1, "method": None}, "integer id and string method"),
    ],
)
async def test_what_is_no_command_is_refused(
    api: Api, http: httpx.AsyncClient, body: Any, message: str
) -> None:
    answer = await http.post(f"/threads/{uuid7()}/commands", json=body)
    assert answer.status_code == 400
    told = answer.json()
    sent = body.get("id") if isinstance(body, dict) else None
    # A text is said back, so that its sender knows what was refused.
    known = sent if type(sent) in (int, str) else None
    assert (told["type"], told["error"], told["id"]) == ("error", "invalid_argument", known)
    assert message in told["message"]


WRONG: list[tuple[str, Any, str, str]] = [
    ("run.start", {}, "invalid_argument", "run.start requires an assistant_id."),
    ("run.start", None, "invalid_argument", "run.start requires an assistant_id."),
    ("run.start", {"assistant_id": ""}, "invalid_argument", "run.start requires an assistant_id."),
    ("run.start", {"assistant_id": 7}, "invalid_argument", "run.start requires an assistant_id."),
    ("run.start", {"assistant_id": "nobody"}, "unknown_error", "422: Invalid assistant: 'nobody'"),
    ("run.start", {"assistant_id": str(uuid4())}, "unknown_error", "404: Thread or assistant not found."),
    ("run.start", {"assistant_id": "echo", "config": 7}, "invalid_argument", "config: "),
    ("run.start", {"assistant_id": "echo", "metadata": []}, "invalid_argument", "metadata: "),
    (
        "run.start",
        {"assistant_id": "echo", "config": {"configurable": {"checkpoint_id": " "}}},
        "invalid_argument",
        "checkpoint_id must be a non-empty string",
    ),
    (
        "run.start",
        {"assistant_id": "echo", "config": {"configurable": {"checkpoint_id": "x"}}},
        "invalid_argument",
        "Invalid config.configurable.checkpoint_id: 'x'.",
    ),
    (
        "run.start",
        {"assistant_id": "echo", "config": {"configurable": 7}},
        "invalid_argument",
        "must be an object",
    ),
    (
        "run.start",
        {"assistant_id": "echo", "config": {"recursion_limit": "x"}},
        "invalid_argument",
        "recursion_limit",
    ),
    (
        "run.start",
        {"assistant_id": "echo", "config": {"configurable": {"thread_id": "other"}}},
        "unknown_error",
        "422: config.configurable.thread_id",
    ),
    ("run.start", {"assistant_id": "echo", "langsmith_tracer": []}, "invalid_argument", "langsmith_tracer"),
    (
        "run.start",
        {"assistant_id": "echo", "langsmith_tracer": {"project_name": 1}},
        "invalid_argument",
        "project_name",
    ),
    ("input.respond", {}, "invalid_argument", "input.respond requires an interrupt_id."),
    ("input.respond", {"interrupt_id": 7}, "invalid_argument", "interrupt_id"),
    ("input.respond", {"interrupt_id": "x", "namespace": "y"}, "invalid_argument", "namespace"),
    ("input.respond", {"responses": []}, "invalid_argument", "responses"),
    ("input.respond", {"responses": [7]}, "invalid_argument", "responses"),
    ("input.respond", {"responses": [{"response": 1}]}, "invalid_argument", "interrupt_id"),
    ("input.respond", {"interrupt_id": "x"}, "no_such_interrupt", "Unknown or already-consumed interrupt: x"),
    ("agent.getTree", {}, "no_such_run", "No active run"),
    ("subscription.subscribe", {"channels": ["values"]}, "no_such_run", "subscription"),
    ("run.cancel", {}, "unknown_command", "Unknown protocol command: run.cancel"),
    ("state.get", {}, "unknown_command", "Unknown protocol command: state.get"),
]


async def test_what_is_wrong_with_a_command_is_said_and_nothing_is_left(
    api: Api, http: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    before = await count(api)
    for method, params, code, message in WRONG:
        with subtests.test(method=method, params=params):
            body = {"id": 1, "method": method, "params": params}
            answer = await http.post(f"/threads/{uuid7()}/commands", json=body)
            told = answer.json()
            assert answer.status_code == 200
            assert {key: told[key] for key in ANSWERS} == ANSWERS
            assert (told["error"], message in told["message"]) == (code, True), told
    assert await count(api) == before


async def test_what_cannot_be_read_or_stored_is_refused(api: Api, http: httpx.AsyncClient) -> None:
    path, before = f"/threads/{uuid7()}/commands", await count(api)
    start = {"id": 1, "method": "run.start", "params": {"assistant_id": "echo"}}
    for content, status in (
        (b"{", 400),
        (b"", 400),
        (json.dumps({**start, "fill": "x" * 30_000}).encode(), 413),
        (json.dumps({**start, "params": {"assistant_id": "echo", "input": {"a\0": 1}}}).encode(), 422),
        (b'{"id":1,"method":"run.start","params":' + b"[" * 201 + b"]" * 201 + b"}", 422),
    ):
        answer = await http.post(path, content=content)
        assert (answer.status_code, list(answer.json())) == (status, ["detail"])
    assert (await http.post("/threads/7/commands", json=start)).status_code == 422
    assert await count(api) == before


async def test_a_run_is_one_like_any_other_on_a_thread_that_is_made_for_it(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    run_id = await start(http, thread, "echo", {"text": "a\0b"}, metadata={"m": 1}, config={"tags": ["t"]})
    assert (await ended(http, thread, run_id))["echo"] == "a\N{REPLACEMENT CHARACTER}b"
    run = (await http.get(f"/threads/{thread}/runs/{run_id}")).json()
    assert run["metadata"]["m"] == 1
    assert run["kwargs"]["config"]["configurable"]["__event_streaming_v2"] is True
    assert run["kwargs"]["subgraphs"] is True
    # Later runs by the older API are not taken for the protocol's.
    shown = (await http.get(f"/threads/{thread}")).json()
    assert "__event_streaming_v2" not in shown["config"].get("configurable", {})
    answer = await http.post(
        f"/threads/{thread}/runs/wait", json={"assistant_id": "echo", "input": {"text": "c"}}
    )
    assert answer.json()["echo"] == "c"


async def test_it_forks_from_the_checkpoint_that_its_config_names(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    await ended(http, thread, await start(http, thread, "steps", {"n": 2}))
    history = (await http.post(f"/threads/{thread}/history", json={"limit": 10})).json()
    second = next(state for state in history if state["values"].get("i") == 1)
    config = {"configurable": {"checkpoint_id": second["checkpoint"]["checkpoint_id"]}}
    run_id = await start(http, thread, "steps", None, config=config)
    assert (await ended(http, thread, run_id))["log"] == ["step-1", "step-2"]


async def test_input_for_a_thread_that_waits_with_a_question_is_its_answer(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    await ended(http, thread, await start(http, thread, "hitl", {"text": "x"}))
    # `null` is no answer, and asks again
    assert await ended(http, thread, await start(http, thread, "hitl", None)) == {"text": "x", "answers": []}
    values = await ended(http, thread, await start(http, thread, "hitl", "yes"))
    assert values["result"] == "x:yes"
    # Without a question it is input again
    values = await ended(http, thread, await start(http, thread, "hitl", {"text": "y"}))
    assert (values["text"], len(await questions(http, thread))) == ("y", 1)


async def test_a_busy_thread_is_not_waited_for_unless_its_run_has_asked_something(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SETTLE_SECONDS", 60)
    thread = str(uuid4())
    # GIVEN a run that works for a minute, and commands that would wait as long
    first = await start(http, thread, "steps", {"n": 600, "sleep": 0.1})
    # WHEN others come with each strategy THEN it is decided at once
    async with asyncio.timeout(20):
        told = await command(
            http, thread, "run.start", assistant_id="steps", input={"n": 1}, multitaskStrategy="reject"
        )
        assert (told["error"], told["message"][:4]) == ("unknown_error", "409:")
        waiting = await start(http, thread, "steps", {"n": 1, "sleep": 0}, multitaskStrategy="whatever")
        assert (await http.get(f"/threads/{thread}/runs/{waiting}")).json()["status"] == "pending"
        await http.delete(f"/threads/{thread}/runs/{waiting}")
        last = await start(http, thread, "steps", {"n": 1, "sleep": 0}, multitaskStrategy="interrupt")
        await ended(http, thread, last)
    assert (await http.get(f"/threads/{thread}/runs/{first}")).json()["status"] == "interrupted"


async def test_a_run_that_has_asked_is_waited_for_until_it_has_stopped(
    api: Api, http: httpx.AsyncClient
) -> None:
    thread = str(uuid4())
    # GIVEN a run that has asked, while the nodes beside its questions go on
    run_id = await start(http, thread, "panel", {"sleep": 0.4})
    rows: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while not rows:
            await asyncio.sleep(0.02)
            rows = await api.database.fetch(
                "select data from slackwater.run_events where run_id = %s and data like '%%\"__interrupt__\":[{%%'",
                [run_id],
            )
    assert (await http.get(f"/threads/{thread}/runs/{run_id}")).json()["status"] == "running"
    asked = [i["id"] for row in rows for i in json.loads(row["data"])["__interrupt__"]]
    # WHEN the answer comes at once
    told = await command(http, thread, "input.respond", interrupt_id=asked[0], response="yes")
    # THEN it is one
    assert (told["type"], told["result"]) == ("success", {})
    run = (await http.get(f"/threads/{thread}/runs")).json()[0]
    assert any(":yes" in step for step in (await ended(http, thread, run["run_id"]))["trail"])


async def test_questions_are_answered_together_with_what_else_is_to_be_done(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    await ended(http, thread, await start(http, thread, "panel", {}))
    asked = await questions(http, thread)
    assert len(asked) == 2
    responses = [{"interrupt_id": text, "response": f"r{n}", "namespace": []} for n, text in enumerate(asked)]
    told = await command(http, thread, "input.respond", responses=responses, update={"trail": ["added"]})
    assert told["result"] == {}
    [run, _] = (await http.get(f"/threads/{thread}/runs")).json()
    trail = (await ended(http, thread, run["run_id"]))["trail"]
    assert {"added", "last"} <= set(trail)
    assert sorted(step.partition(":")[2] for step in trail if ":" in step) == ["r0", "r1"]
    # What was answered is no question any more
    told = await command(http, thread, "input.respond", interrupt_id=asked[0], response="again")
    assert told["error"] == "no_such_interrupt"


async def test_of_two_who_answer_at_once_one_does(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    await ended(http, thread, await start(http, thread, "hitl", {"text": "x"}))
    [asked] = await questions(http, thread)
    told = await asyncio.gather(
        *(command(http, thread, "input.respond", interrupt_id=asked, response=n) for n in range(4))
    )
    codes = sorted(answer.get("error", "") for answer in told)
    assert codes == ["", *["no_such_interrupt"] * 3]
    assert len((await http.get(f"/threads/{thread}/runs")).json()) == 2


async def test_a_second_delivery_finds_what_the_first_has_done(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    tries = [
        await command(http, thread, "run.start", key="one", assistant_id="hitl", input={"text": "x"})
        for _ in range(2)
    ]
    assert tries[0] == tries[1]
    await ended(http, thread, tries[0]["result"]["run_id"])
    [asked] = await questions(http, thread)
    for _ in range(2):
        told = await command(http, thread, "input.respond", key="two", interrupt_id=asked, response="yes")
        assert told["result"] == {}
    assert len((await http.get(f"/threads/{thread}/runs")).json()) == 2


async def test_anothers_thread_is_not_there(api: Api, http: httpx.AsyncClient) -> None:
    thread, bob = str(uuid4()), api.client("bob")
    await ended(http, thread, await start(http, thread, "hitl", {"text": "x"}))
    [asked] = await questions(http, thread)
    before = await count(api)
    for given in ({"text": "y"}, "yes", None):
        told = await command(bob, thread, "run.start", assistant_id="hitl", input=given)
        assert (told["error"], told["message"]) == ("unknown_error", "404: Thread or assistant not found.")
    for method, params in (
        ("input.respond", {"interrupt_id": asked, "response": "yes"}),
        ("agent.getTree", {}),
    ):
        answers = [await command(bob, where, method, **params) for where in (thread, str(uuid4()))]
        assert answers[0] == answers[1]
        assert answers[0]["type"] == "error"
    assert await count(api) == before
    assert await questions(http, thread) == [asked]


async def test_the_tree_says_where_the_newest_run_and_its_graphs_stand(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    await ended(http, thread, await start(http, thread, "asking", {}))
    tree = (await command(http, thread, "agent.getTree"))["result"]["tree"]
    assert (tree["graph_name"], tree["status"], tree["namespace"]) == ("asking", "interrupted", [])
    [child] = tree["children"]
    assert (child["graph_name"], child["status"]) == ("child", "interrupted")


async def test_a_process_that_stops_takes_runs_in_for_others_and_then_sends_them_there(
    api: Api, http: httpx.AsyncClient
) -> None:
    thread, runtime = str(uuid4()), api.services.runtime
    stop.stop_claiming(runtime, "test")
    run_id = await start(http, thread, "echo", {"text": "a"})
    # A claim that was on its way when the drain began may have met it. Then it is given back.
    async with asyncio.timeout(10):
        while (await http.get(f"/threads/{thread}/runs/{run_id}")).json()["status"] != "pending":
            await asyncio.sleep(0.01)
    stop.close(runtime)
    body = {"id": 1, "method": "run.start", "params": {"assistant_id": "echo"}}
    answer = await http.post(f"/threads/{thread}/commands", json=body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
