"""Requests that make no sense: a 4xx with one sentence, nothing written, the thread free."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.api import Api, shape_of

from slackwater.kit.ids import uuid7

TABLES = (
    "slackwater.assistants",
    "slackwater.threads",
    "slackwater.runs",
    "slackwater.run_events",
    "slackwater.idempotency_keys",
    "checkpoints",
    "checkpoint_writes",
)
STARTS = ("/threads/{thread_id}/runs", "/threads/{thread_id}/runs/stream", "/threads/{thread_id}/runs/wait")
STATELESS = ("/runs", "/runs/stream", "/runs/wait")

NO_OBJECTS: tuple[Any, ...] = ([], "text", 7, None, True)
RUN = {"assistant_id": "echo", "input": {"text": "a"}}

BAD_FIELDS: tuple[dict[str, Any], ...] = (
    {"assistant_id": 1},
    {"assistant_id": None},
    {"assistant_id": "nope"},
    {"assistant_id": "ec\0ho"},
    {"metadata": None},
    {"metadata": []},
    {"config": None},
    {"config": []},
    {"config": {"tags": "one"}},
    {"config": {"tags": [1]}},
    {"config": {"recursion_limit": "5"}},
    {"config": {"recursion_limit": True}},
    {"config": {"recursion_limit": 2.5}},
    {"config": {"max_concurrency": 0}},
    {"config": {"configurable": []}},
    {"config": {"configurable": {"checkpoint_id": "x"}}},
    {"config": {"configurable": {"checkpoint_ns": 3}}},
    {"config": {"configurable": {"checkpoint_map": "x"}}},
    {"config": {"metadata": []}},
    {"context": None},
    {"context": 3},
    {"command": 3},
    {"command": []},
    {"command": {"goto": 3}},
    {"command": {"goto": {"nowhere": 1}}},
    {"command": {"goto": ["a", 3]}},
    {"command": {"update": 3}},
    {"command": {"update": [3]}},
    {"command": {"update": [["only a key"]]}},
    {"checkpoint": "x"},
    {"checkpoint": {"checkpoint_id": "x"}},
    {"checkpoint": {"checkpoint_ns": 3}},
    {"checkpoint_id": "x"},
    {"stream_mode": "bogus"},
    {"stream_mode": ["values", "bogus"]},
    {"stream_mode": 1},
    {"stream_mode": None},
    {"stream_subgraphs": "maybe"},
    {"stream_resumable": 3},
    {"stream_resumable": 1},
    {"checkpoint_during": "true"},
    {"interrupt_before": "echo"},
    {"interrupt_before": [1]},
    {"interrupt_after": {}},
    {"multitask_strategy": "x"},
    {"if_not_exists": "x"},
    {"on_disconnect": "x"},
    {"on_completion": "x"},
    {"after_seconds": "soon"},
    {"after_seconds": "1"},
    {"after_seconds": 1e300},
    {"durability": "x"},
    {"checkpoint_during": "perhaps"},
    {"webhook": ""},
    {"webhook": "https://10.0.0.1/hook"},
    {"feedback_keys": "x"},
)


@pytest.fixture
async def thread(http: httpx.AsyncClient) -> str:
    """A thread of the caller."""
    return str((await http.post("/threads", json={})).json()["thread_id"])


@pytest.fixture
async def unchanged(api: Api, thread: str) -> AsyncIterator[None]:
    """Checks that the test has left every table as it was, and the thread free."""

    async def rows() -> dict[str, int]:
        counts = await asyncio.gather(
            *(api.database.fetch_one(f"select count(*) as n from {table}") for table in TABLES)
        )
        return {table: count["n"] for table, count in zip(TABLES, counts, strict=True) if count}

    before = await rows()
    yield
    assert await rows() == before
    at_once = await api.client().post(
        f"/threads/{thread}/runs/wait", json={**RUN, "multitask_strategy": "reject"}
    )
    assert at_once.json()["echo"] == "a"


def assert_refused(answer: httpx.Response, *statuses: int) -> str:
    """It is a refusal with one of these statuses and a sentence; the sentence."""
    assert answer.status_code in statuses, (answer.request.url, answer.status_code, answer.text)
    body = answer.json()
    assert set(body) == {"detail"}
    assert isinstance(body["detail"], str)
    assert len(body["detail"]) > 5
    return str(body["detail"])


PROTOCOL = ("/commands", "/stream/events")
"""Routes of protocol v2, which says it in its own way; tests/integration/protocols/test_protocol_*.py look further."""


def takes_a_body(api: Api) -> Iterator[tuple[str, str]]:
    """Method and path of every route that reads JSON, with ids of nothing in the path.

    Not those of JSON-RPC, which has words of its own for what is wrong: tests/integration/protocols looks.
    """
    for path, operations in api.app.openapi()["paths"].items():
        for method, operation in operations.items():
            if "requestBody" in operation and not path.startswith(("/mcp", "/a2a/")):
                yield method.upper(), shape_of(path)


@pytest.mark.usefixtures("unchanged")
async def test_what_is_no_json_is_refused_everywhere(
    api: Api, http: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    for method, path in takes_a_body(api):
        for body in (
            b"",
            b"{",
            b"nonsense",
            b'{"a": NaN}',
            b'{"a": "\xff"}',
            b"[" * 100_000 + b"]" * 100_000,
        ):
            with subtests.test(method=method, path=path, body=body[:10]):
                answer = await http.request(method, path, content=body)
                if path.endswith(PROTOCOL):
                    assert assert_refused(answer, 400) == "Invalid JSON body"
                else:
                    assert assert_refused(answer, 422) == "Invalid JSON in request body"


@pytest.mark.usefixtures("unchanged")
async def test_json_that_is_no_object_is_refused_everywhere(
    api: Api, http: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    for method, path in takes_a_body(api):
        for body in NO_OBJECTS:
            with subtests.test(method=method, path=path, body=body):
                answer = await http.request(method, path, content=json.dumps(body))
                if path.endswith(PROTOCOL):
                    assert answer.status_code == 400
                else:
                    assert_refused(answer, 422)


@pytest.mark.usefixtures("unchanged")
async def test_a_body_that_is_nested_too_deeply_is_refused_everywhere(
    api: Api, http: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    deep = b'{"input": ' + b"[" * 201 + b"]" * 201 + b"}"
    for method, path in takes_a_body(api):
        with subtests.test(method=method, path=path):
            assert "nested deeper than 200" in assert_refused(
                await http.request(method, path, content=deep), 422
            )


async def test_a_body_that_is_too_large_is_refused_everywhere(serve: Any, subtests: pytest.Subtests) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    async with serve(max_body_bytes=10_000) as api:
        http = api.client()
        for method, path in takes_a_body(api):
            with subtests.test(method=method, path=path):
                known = await http.request(method, path, content=b" " * 10_001)
                unknown = await http.request(method, path, content=parts())
                for answer in (known, unknown):
                    assert "SLACKWATER_MAX_BODY_BYTES" in assert_refused(answer, 413)
        assert (await http.post("/threads", content=b"{}" + b" " * 9_998)).status_code == 200


@pytest.mark.usefixtures("unchanged")
async def test_names_with_nul_are_refused_everywhere(
    api: Api, http: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    for method, path in takes_a_body(api):
        with subtests.test(method=method, path=path):
            answer = await http.request(method, path, json={"metadata": {"a": {"b\0c": 1}}})
            assert assert_refused(answer, 422) == "Property names must not contain NUL characters"


async def test_nul_in_a_value_is_replaced(http: httpx.AsyncClient, thread: str) -> None:
    body = {**RUN, "input": {"text": "a\0b"}, "metadata": {"note": "c\0d"}}

    values = (await http.post(f"/threads/{thread}/runs/wait", json=body)).json()

    assert values["echo"] == "a\N{REPLACEMENT CHARACTER}b"
    (run,) = (await http.get(f"/threads/{thread}/runs")).json()
    assert run["metadata"]["note"] == "c\N{REPLACEMENT CHARACTER}d"


@pytest.mark.usefixtures("unchanged")
async def test_a_wrong_field_of_a_run_is_refused_however_it_is_started(
    http: httpx.AsyncClient, thread: str, subtests: pytest.Subtests
) -> None:
    for field in BAD_FIELDS:
        for path in (*STARTS, *STATELESS):
            with subtests.test(field=field, path=path):
                answer = await http.post(path.format(thread_id=thread), json={**RUN, **field})
                assert_refused(answer, 422)


@pytest.mark.usefixtures("unchanged")
async def test_a_rejected_run_does_not_make_its_thread(
    http: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    for field in BAD_FIELDS:
        with subtests.test(field=field):
            thread_id = uuid7()
            answer = await http.post(
                f"/threads/{thread_id}/runs", json={**RUN, "if_not_exists": "create", **field}
            )
            assert_refused(answer, 422)
            assert (await http.get(f"/threads/{thread_id}")).status_code == 404


@pytest.mark.usefixtures("unchanged")
async def test_who_the_refusal_is_about_is_said(http: httpx.AsyncClient, thread: str) -> None:
    async def detail(**fields: Any) -> str:
        return assert_refused(await http.post(f"/threads/{thread}/runs", json={**RUN, **fields}), 422)

    assert (await detail(config={"tags": [1]})).startswith("config.tags.0: ")
    assert (await detail(stream_mode="bogus")).startswith("stream_mode: Input should be 'values', 'updates'")
    assert (await detail(assistant_id="nope")).startswith(
        "Invalid assistant: 'nope'. Must be either:\n- A valid"
    )
    assert (await detail(webhook="https://10.0.0.1")).startswith(
        "Webhook host blocked: '10.0.0.1' is private"
    )


@pytest.mark.usefixtures("unchanged")
async def test_a_thread_id_cannot_be_smuggled_in(
    http: httpx.AsyncClient, thread: str, subtests: pytest.Subtests
) -> None:
    other = (await http.post("/threads", json={})).json()["thread_id"]
    smuggled = {**RUN, "config": {"configurable": {"thread_id": other}}}
    for path in (*STARTS, *STATELESS):
        with subtests.test(path=path):
            answer = await http.post(path.format(thread_id=thread), json=smuggled)
            assert "names a different thread" in assert_refused(answer, 422)
    assert (await http.delete(f"/threads/{other}")).status_code == 204


@pytest.mark.parametrize(
    ("path", "body", "most"),
    [
        ("/runs/cancel", {"thread_id": "{thread}", "run_ids": [str(uuid7())] * 1001}, 1000),
        ("/runs/batch", [RUN] * 1001, 1000),
        ("/threads/search", {"ids": [str(uuid7())] * 1001}, 1000),
        ("/threads/prune", {"thread_ids": [str(uuid7())] * 1001}, 1000),
        ("/runs", {**RUN, "stream_mode": ["values"] * 101}, 100),
        ("/threads/{thread}/stream/events", {"channels": ["values"] * 101}, 100),
        ("/threads/{thread}/stream/events", {"channels": ["values"], "namespaces": [["a"]] * 101}, 100),
        ("/threads/{thread}/stream/events", {"channels": ["values"], "namespaces": [["a"] * 101]}, 100),
    ],
)
@pytest.mark.usefixtures("unchanged")
async def test_lists_have_a_maximum_that_the_refusal_names(
    http: httpx.AsyncClient, thread: str, path: str, body: Any, most: int
) -> None:
    sent = json.loads(json.dumps(body).replace("{thread}", thread))

    answer = await http.post(path.format(thread=thread), json=sent)

    assert f"at most {most}" in assert_refused(answer, 422)


async def test_the_threads_own_id_may_be_repeated(http: httpx.AsyncClient, thread: str) -> None:
    body = {**RUN, "config": {"configurable": {"thread_id": thread}}}

    assert (await http.post(f"/threads/{thread}/runs/wait", json=body)).json()["echo"] == "a"


async def test_keys_that_only_the_server_sets_are_dropped(
    api: Api, http: httpx.AsyncClient, thread: str
) -> None:
    reserved = {
        "langgraph_auth_user": {"identity": "root"},
        "langgraph_auth_user_id": "root",
        "user_id": "root",
    }
    asked = {
        "metadata": {"note": "kept", "run_id": "mine", "assistant_id": "mine", "thread_id": "mine"},
        "config": {
            "configurable": {"marker": "kept", **reserved, "__pregel_send": 1, "graph_id": "mine"},
            "metadata": {"other": "kept", "cron_id": "mine"},
            "callbacks": ["mine"],
        },
    }

    values = (await http.post(f"/threads/{thread}/runs/wait", json={**RUN, **asked})).json()

    (run,) = (await http.get(f"/threads/{thread}/runs")).json()
    stored = await api.database.fetch_one("select kwargs from slackwater.runs")
    assert stored is not None
    assert stored["kwargs"]["config"] == {"configurable": {"marker": "kept"}}
    assert (run["metadata"]["note"], run["metadata"]["other"]) == ("kept", "kept")
    assert run["metadata"]["assistant_id"] == run["assistant_id"]
    assert {"run_id", "thread_id", "cron_id"}.isdisjoint(run["metadata"])
    assert values["configurable_seen"] == {"marker": "kept", "thread_id": thread, "graph_id": "echo"}


async def test_keys_that_only_the_server_sets_are_dropped_from_a_context(
    api: Api, http: httpx.AsyncClient, thread: str
) -> None:
    context = {"prefix": "> ", "user_id": "for the graph", "langgraph_auth_user": "root", "__pregel_send": 1}

    values = (await http.post(f"/threads/{thread}/runs/wait", json={**RUN, "context": context})).json()

    stored = await api.database.fetch_one("select kwargs from slackwater.runs")
    assert stored is not None
    assert stored["kwargs"]["context"] == {"prefix": "> ", "user_id": "for the graph"}
    assert stored["kwargs"]["config"] == {"configurable": {"prefix": "> "}}
    assert values["echo"] == "> a"


@pytest.mark.usefixtures("unchanged")
async def test_a_method_that_a_path_does_not_have_is_refused_with_those_it_has(
    api: Api, http: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    for path, operations in api.app.openapi()["paths"].items():
        allowed = sorted(method.upper() for method in operations)
        for method in {"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"} - set(allowed):
            with subtests.test(method=method, path=path):
                answer = await http.request(method, shape_of(path))
                # Also where another route takes the end of the path for an id.
                assert_refused(answer, 405)
                assert answer.headers["allow"] == ", ".join(allowed)


@pytest.mark.usefixtures("unchanged")
async def test_ids_that_are_none_are_refused_on_every_route(
    api: Api, http: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    needed = {"assistant_id": "echo", "schedule": "* * * * *", "checkpoint": {}, "values": {}}
    bodies = {"POST": needed, "PATCH": {}}
    for path, operations in api.app.openapi()["paths"].items():
        for method in (method.upper() for method in operations):
            for name in ("thread_id", "run_id", "assistant_id", "checkpoint_id"):
                if f"{{{name}}}" not in path:
                    continue
                for wrong in ("7", "not-a-uuid", "%00", "a" * 3000):
                    with subtests.test(method=method, path=path, name=name, wrong=wrong[:20]):
                        url = shape_of(path.replace(f"{{{name}}}", wrong))
                        answer = await http.request(method, url, json=bodies.get(method))
                        assert "must be a UUID" in assert_refused(answer, 422)


@pytest.mark.usefixtures("unchanged")
async def test_what_is_not_there_is_not_found(
    api: Api, http: httpx.AsyncClient, thread: str, subtests: pytest.Subtests
) -> None:
    for method, path, body in (
        ("POST", f"/threads/{uuid7()}/runs", RUN),
        ("POST", f"/threads/{thread}/runs", {"assistant_id": str(uuid4())}),
        ("POST", "/runs", {"assistant_id": str(uuid4())}),
        ("GET", f"/threads/{uuid7()}/runs", None),
        ("GET", f"/threads/{thread}/runs/{uuid7()}", None),
        ("DELETE", f"/threads/{thread}/runs/{uuid7()}", None),
        ("POST", f"/threads/{thread}/runs/{uuid7()}/cancel", None),
        ("POST", "/runs/cancel", {"thread_id": thread, "run_ids": [str(uuid7())]}),
        ("GET", f"/threads/{uuid7()}", None),
        ("GET", f"/threads/{uuid7()}/state", None),
        ("GET", f"/assistants/{uuid4()}", None),
        ("POST", "/assistants", {"graph_id": "nope"}),
        ("GET", "/nothing/here", None),
    ):
        with subtests.test(method=method, path=path):
            assert_refused(await http.request(method, path, json=body), 404)


@pytest.mark.usefixtures("unchanged")
async def test_wrong_queries_are_refused(
    http: httpx.AsyncClient, thread: str, subtests: pytest.Subtests
) -> None:
    run = (await http.post(f"/threads/{thread}/runs", json=RUN)).json()["run_id"]
    await http.get(f"/threads/{thread}/runs/{run}/join")
    for path in (
        *(f"/threads/{thread}/runs?{query}" for query in ("limit=0", "limit=1001", "limit=x", "offset=-1")),
        *(
            f"/threads/{thread}/runs?{query}"
            for query in ("offset=99999999999999999999", "status=x", "select=x")
        ),
        *(
            f"/threads/{thread}/runs/{run}/stream?stream_mode={mode}"
            for mode in ("bogus", "[", "[1]", '["bogus"]')
        ),
        *(f"/threads/{thread}/history?{query}" for query in ("limit=0", "limit=x", "before=x")),
        f"/threads/{thread}/state?subgraphs=perhaps",
        f"/threads/{thread}/state?select=secrets",
        "/assistants/echo/graph?xray=0",
    ):
        with subtests.test(path=path):
            assert_refused(await http.get(path), 422)
    assert (await http.delete(f"/threads/{thread}/runs/{run}")).status_code == 204


@pytest.mark.usefixtures("unchanged")
async def test_wrong_cancels_are_refused(
    http: httpx.AsyncClient, thread: str, subtests: pytest.Subtests
) -> None:
    for query, body in (
        ("", {}),
        ("", {"status": "success"}),
        ("", {"thread_id": thread, "run_ids": []}),
        ("", {"thread_id": thread, "run_ids": ["x"]}),
        ("", {"thread_id": "x", "run_ids": [str(uuid7())]}),
        ("?action=x", {"thread_id": thread, "run_ids": [str(uuid7())]}),
    ):
        with subtests.test(query=query, body=body):
            assert_refused(await http.post(f"/runs/cancel{query}", json=body), 422)


async def test_a_refused_run_leaves_a_working_one_alone(http: httpx.AsyncClient, thread: str) -> None:
    slow = {"assistant_id": "steps", "input": {"n": 20, "sleep": 0.05}}
    working = (await http.post(f"/threads/{thread}/runs", json=slow)).json()["run_id"]

    busy = await http.post(f"/threads/{thread}/runs", json={**RUN, "multitask_strategy": "reject"})
    wrong = await http.post(
        f"/threads/{thread}/runs", json={**RUN, "durability": "x", "multitask_strategy": "rollback"}
    )

    assert_refused(busy, 409)
    assert_refused(wrong, 422)
    values = (await http.get(f"/threads/{thread}/runs/{working}/join")).json()
    assert (values["i"], values["done"]) == (20, True)
    assert (await http.get(f"/threads/{thread}")).json()["status"] == "idle"


@pytest.mark.usefixtures("unchanged")
async def test_a_method_that_a_path_does_not_have(http: httpx.AsyncClient, thread: str) -> None:
    answer = await http.put(f"/threads/{thread}/runs", json={})

    assert assert_refused(answer, 405) == "Method Not Allowed"
    assert answer.headers["allow"]


async def test_the_content_type_of_a_body_does_not_matter(http: httpx.AsyncClient) -> None:
    for content_type in (
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/json; charset=utf-8",
    ):
        answer = await http.post("/threads", content=b"{}", headers={"content-type": content_type})
        assert answer.status_code == 200
    assert (await http.post("/threads", content=b"{}")).status_code == 200


async def test_a_failure_of_our_own_is_a_sentence_too(serve: Any, tmp_path: Any) -> None:
    (tmp_path / "agent.py").write_text("def graph():\n    raise RuntimeError('a secret of the graph')\n")
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"agent": "./agent.py:graph"}}))
    async with serve(project=tmp_path) as api:
        transport = api.client()._transport
        transport.raise_app_exceptions = False
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            answer = await http.get("/assistants/agent/graph")

    assert answer.status_code == 500
    assert "log says what went wrong" in answer.json()["detail"]
    assert "secret" not in answer.text
