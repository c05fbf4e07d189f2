"""What one caller sends or asks for does not take a process's memory: measured from outside, at a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from support.server import ServerProcess, fleet_of

GRAPHS = """
from typing import Any, TypedDict
from langgraph.graph import END, START, StateGraph

class State(TypedDict, total=False):
    n: int
    big: Any

async def step(state):
    return {"n": (state.get("n") or 0) + 1}

loop = StateGraph(State).add_node("step", step).add_edge(START, "step").add_conditional_edges(
    "step", lambda state: "step" if state["n"] < 60 else END).compile()
"""

SIZE = 3_000_000
COUNT = 150
BOUND = 120_000_000
"""A page has 20 MB, and is there a few times over while it is made. What was asked for has 450 MB, once."""

# Compressed once, and copied so: all of it takes a few megabytes.
FILL = """
create temp table large as
  select jsonb_build_object('big', repeat('x', %(size)s)) as object, to_json(repeat('x', %(size)s))::text as string;
create temp table copies as select n, large.* from large, generate_series(1, %(count)s) n;
insert into slackwater.threads (thread_id, owner, "values") select gen_random_uuid(), 'local', object from copies;
insert into slackwater.runs (run_id, thread_id, owner, assistant_id, graph_id, status, kwargs)
  select gen_random_uuid(), %(thread)s, 'local', gen_random_uuid(), 'loop', 'success', object from copies;
insert into slackwater.run_events (run_id, thread_id, fence, seq, event, data)
  select %(run)s, %(thread)s, 0, n, 'values', string from copies;
insert into slackwater.assistants (assistant_id, owner, graph_id, name, context)
  select gen_random_uuid(), 'local', 'loop', 'n' || n, object from copies;
insert into store (prefix, key, value) select %(prefix)s, n::text, object from copies;
"""


@dataclass
class Served:
    """A server whose database is full of what is large."""

    server: ServerProcess
    http: httpx.AsyncClient
    thread: str
    run: str

    async def growth(self, action: Callable[[], Awaitable[Any]]) -> int:
        """By how many bytes the memory of the process grows meanwhile, at most."""
        Path(f"/proc/{self.server.pid}/clear_refs").write_text("5")  # the peak is what it is now
        before = self._peak()
        await action()
        return self._peak() - before

    def _peak(self) -> int:
        lines = Path(f"/proc/{self.server.pid}/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


@pytest.fixture
async def served(database_uri: str, tmp_path: Path) -> AsyncIterator[Served]:
    project = tmp_path / "project"
    project.mkdir()
    (project / "graphs.py").write_text(GRAPHS)
    (project / "langgraph.json").write_text(json.dumps({"graphs": {"loop": "./graphs.py:loop"}}))
    async with fleet_of(database_uri, tmp_path, project) as fleet:
        (server,) = await fleet.start()
        async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as http:
            thread = (await http.post("/threads", json={})).json()["thread_id"]
            run = {
                "assistant_id": "loop",
                "input": {"big": "x" * SIZE},
                "config": {"recursion_limit": 100},
                "stream_mode": "updates",
            }
            await http.post(f"/threads/{thread}/runs/wait", json=run)
            (shown,) = (await http.get(f"/threads/{thread}/runs?limit=1")).json()
            await http.put("/store/items", json={"namespace": ["a"], "key": "b", "value": {}})
            with psycopg.connect(database_uri, autocommit=True) as connection:
                (prefix,) = connection.execute("select prefix from store").fetchone() or ("",)
                values = {
                    "size": SIZE,
                    "count": COUNT,
                    "thread": thread,
                    "run": shown["run_id"],
                    "prefix": prefix,
                }
                for statement in FILL.split(";\n"):
                    if statement.strip():
                        connection.execute(statement, values)
            yield Served(server, http, thread, shown["run_id"])


async def test_memory_is_bounded_by_bytes_and_not_by_counts(
    served: Served, subtests: pytest.Subtests, record_property: Callable[[str, object], None]
) -> None:
    http, thread = served.http, served.thread

    def page(method: str, path: str, body: Any = None) -> Callable[[], Awaitable[None]]:
        async def ask() -> None:
            answer = await http.request(method, path, json=body)
            assert answer.status_code == 422, answer.text[:200]
            assert "ask for less" in answer.json()["detail"]

        return ask

    def stream(path: str, **headers: str) -> Callable[[], Awaitable[None]]:
        async def read() -> None:
            """As much as makes the server send, and then nothing for a while."""
            async with http.stream("GET", path, headers=headers) as answer:
                async for _ in answer.aiter_raw(100_000):
                    await asyncio.sleep(1)
                    break

        async def several() -> None:
            await asyncio.gather(*(read() for _ in range(5)))

        return several

    async def unfolding() -> None:
        body = b'{"metadata":{"a":[' + b"{}," * 1_300_000 + b"{}]}}"
        answer = await http.patch(f"/threads/{thread}", content=body)
        assert answer.status_code == 422

    async def endless_header() -> None:
        host, _, port = served.server.url.removeprefix("http://").rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nx-a: ")
        with suppress(ConnectionError):
            for _ in range(200):
                writer.write(b"a" * 1_000_000)
                await writer.drain()
        writer.close()

    for name, action in {
        "threads": page("POST", "/threads/search", {"limit": 1000}),
        "runs": page("GET", f"/threads/{thread}/runs?limit=1000"),
        "history": page("POST", f"/threads/{thread}/history", {"limit": 1000}),
        "assistants": page("POST", "/assistants/search", {"limit": 1000}),
        "store": page("POST", "/store/items/search", {"namespace_prefix": ["a"], "limit": 1000}),
        "a run's stream": stream(f"/threads/{thread}/runs/{served.run}/stream"),
        "a thread's stream": stream(f"/threads/{thread}/stream", **{"last-event-id": "-"}),
        "a body": unfolding,
        "a header": endless_header,
    }.items():
        with subtests.test(name):
            growth = await served.growth(action)
            record_property("figure", f"{name}: {growth / 1e6:.0f} MB more")
            assert growth < BOUND
            assert (await http.get("/ok")).status_code == 200
    # AND what fits is answered
    for limit in (1, 5):
        found = (await http.post("/threads/search", json={"limit": limit})).json()
        assert [len(one["values"]["big"]) for one in found] == [SIZE] * limit
        found = (await http.post(f"/threads/{thread}/history", json={"limit": limit})).json()
        assert [len(one["values"]["big"]) for one in found] == [SIZE] * limit
    found = (
        await http.post(f"/threads/{thread}/history", json={"limit": 100, "select": ["metadata"]})
    ).json()
    assert [one["metadata"]["step"] for one in found] == list(range(60, -2, -1))
