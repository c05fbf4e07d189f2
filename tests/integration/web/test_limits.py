"""Memory and time are bounded by bytes, whatever one caller sends or asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.api import Api

from slackwater.api.runs import queries
from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database
from slackwater.web import http as app_http
from slackwater.web.bodies import MAX_VALUES


def held(api: Api) -> int:
    return api.services.bodies._taken.total()


async def test_a_body_that_unfolds_to_too_much_is_refused(api: Api, subtests: pytest.Subtests) -> None:
    http = api.client()
    thread = (await http.post("/threads", json={})).json()["thread_id"]
    empty = b"{}," * MAX_VALUES + b"{}"
    for method, path, content in (
        ("PATCH", f"/threads/{thread}", b'{"metadata":{"a":[' + empty + b"]}}"),
        ("POST", f"/threads/{thread}/runs", b'{"assistant_id":"echo","input":{"a":[' + empty + b"]}}"),
        ("PUT", "/store/items", b'{"namespace":["a"],"key":"b","value":{"a":[' + empty + b"]}}"),
        ("POST", f"/threads/{thread}/commands", b"[" + empty + b"]"),
        ("POST", "/mcp", b"[" + empty + b"]"),
    ):
        with subtests.test(path=path):
            answer = await http.request(method, path, content=content)
            assert answer.status_code in (400, 422), answer.text
            assert "send less at a time" in answer.text
    assert (await http.get(f"/threads/{thread}")).json()["metadata"] == {}
    assert (await http.get(f"/threads/{thread}/runs")).json() == []
    assert held(api) == 0


async def test_what_is_wrong_with_a_long_list_is_said_once(api: Api, subtests: pytest.Subtests) -> None:
    """A sentence for each item would take a second, and half a gigabyte."""
    wrong = [1] * 900
    run = {"assistant_id": "echo", "config": {"tags": wrong}}
    for path, body in (
        ("/threads/search", {"select": wrong}),
        ("/threads/search", {"ids": wrong}),
        ("/threads", {"metadata": {"graph_id": "echo"}, "supersteps": [{"updates": wrong}] * 900}),
        ("/runs/batch", [run] * 900),
        ("/runs", {**run, "interrupt_before": wrong, "command": {"goto": wrong, "update": wrong}}),
        ("/store/items/search", {"namespace_prefix": wrong}),
        ("/assistants/search", {"select": wrong}),
    ):
        with subtests.test(path=path):
            answer = await api.client().post(path, json=body)
            assert answer.status_code in (400, 422)
            assert len(answer.content) < 2000, answer.text[:3000]


async def test_a_body_that_is_declared_too_large_is_not_waited_for(api: Api) -> None:
    read = False

    async def never() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield b"{}"

    headers = {"content-length": "4000001"}
    assert (await api.client().post("/threads", content=never(), headers=headers)).status_code == 413
    assert not read


async def test_a_body_that_trickles_in_is_given_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_http, "BODY_SECONDS", 0.2)

    async def trickle() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" "
            await asyncio.sleep(0.02)

    async with asyncio.timeout(10):
        answer = await api.client().post("/threads", content=trickle())
    assert answer.status_code == 408
    assert held(api) == 0


async def test_a_caller_who_fills_the_room_for_bodies_leaves_some_to_others(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slackwater.web.bodies.WAIT_SECONDS", 0.1)
    monkeypatch.setattr("slackwater.web.bodies.MAX_VALUES", 100)
    async with serve(names=("maria", "lee"), max_body_bytes=10_000) as api:
        maria, lee = api.client("maria"), api.client("lee")
        more = asyncio.Event()

        async def stuck() -> AsyncIterator[bytes]:
            yield b" " * 9000
            await more.wait()
            yield b"{}"

        sending = [asyncio.create_task(maria.post("/threads", content=stuck())) for _ in range(10)]
        while held(api) < 10 * 9000:
            await asyncio.sleep(0.01)
        answer = await maria.post("/threads", content=b" " * 9000 + b"{}")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert (await lee.post("/threads", content=b" " * 9000 + b"{}")).status_code == 200
        assert (await maria.get("/ok")).status_code == 200
        more.set()
        assert {answer.status_code for answer in await asyncio.gather(*sending)} == {200}
        assert (await maria.post("/threads", content=b" " * 9000 + b"{}")).status_code == 200
        assert held(api) == 0


async def test_large_answers_that_nobody_reads_have_a_room_of_their_own(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slackwater.web.bodies.WAIT_SECONDS", 0.1)
    monkeypatch.setattr(app_http, "RESPONSE_SECONDS", 2)
    monkeypatch.setattr(app_http, "LARGE_BYTES", 10_000)
    monkeypatch.setattr(app_http, "PIECE_BYTES", 1000)
    async with serve(names=("maria", "lee")) as api:
        api.services.answers._total = 60_000
        for name in ("maria", "lee"):
            await api.client(name).post("/threads", json={"metadata": {"big": "x" * 12_000}})
        sent: list[int] = []

        async def search(name: str, *, reads: bool) -> int:
            """The status of the answer, of which at most two pieces are taken."""
            body = iter([{"type": "http.request", "body": b"{}"}])
            status = 0

            async def receive() -> Any:
                return next(body, None) or await asyncio.sleep(60)

            async def send(message: Any) -> None:
                nonlocal status
                status = message.get("status", status)
                sent.append(len(message.get("body", b"")))
                if not reads and message.get("more_body"):
                    await asyncio.sleep(60)

            scope = {
                "type": "http",
                "method": "POST",
                "path": "/threads/search",
                "query_string": b"",
                "headers": [(b"x-api-key", api.secrets[name].encode())],
                "state": dict(api.state),
            }
            await api.app(scope, receive, send)
            return status

        stuck = [asyncio.create_task(search("maria", reads=False)) for _ in range(2)]
        while api.services.answers._taken.total() < 24_000:
            await asyncio.sleep(0.01)
        assert await search("maria", reads=True) == 503
        assert await search("lee", reads=True) == 200
        assert max(sent) <= 1000
        assert await asyncio.gather(*stuck) == [200, 200]  # and broken off
        assert api.services.answers._taken.total() == 0
        # AND one that is larger than all of it goes out alone
        api.services.answers._total = 6_000
        assert await search("maria", reads=True) == 200


async def test_what_a_run_came_to_is_read_a_little_at_a_time(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state may have the name of a question in it, and look like one in every event."""
    http, database = api.client(), api.database
    thread = (await http.post("/threads", json={})).json()["thread_id"]
    run = uuid7()
    await database.execute(
        "insert into slackwater.runs (run_id, thread_id, owner, assistant_id, graph_id, status, kwargs) "
        "values (%s, %s, 'local', gen_random_uuid(), 'echo', 'success', '{}')",
        [run, thread],
    )
    await database.execute(
        "insert into slackwater.run_events (run_id, thread_id, fence, seq, event, data) select %s, %s, 1, n, 'values', "
        """jsonb_build_object('n', n, 'big', repeat('x', 1000), 'a', jsonb_build_object('__interrupt__', 1))::text """
        "from generate_series(1, 50) n",
        [run, thread],
    )
    monkeypatch.setattr(queries, "RESULT_BYTES", 10_000)
    read: list[int] = []
    fetch = Database.fetch

    async def measured(self: Database, *arguments: Any) -> list[dict[str, Any]]:
        rows = await fetch(self, *arguments)
        read.append(sum(len(row.get("data") or "") for row in rows))
        return rows

    monkeypatch.setattr(Database, "fetch", measured)

    for most in (10_000, 100):  # one event is read however large it is
        monkeypatch.setattr(queries, "RESULT_BYTES", most)
        read.clear()
        answer = (await http.get(f"/threads/{thread}/runs/{run}/join")).json()
        assert answer["n"] == 50
        assert sum(read) > 50_000
        assert max(read) < max(most, 1200)
