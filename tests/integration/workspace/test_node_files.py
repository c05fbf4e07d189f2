"""`slackwater.files.user_data()`: what nodes find, what they leave, and who may, over HTTP against real processes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import boto3
import httpx
import pytest

from slackwater.aws.objects import S3Blobs
from slackwater.blobs import files
from slackwater.blobs import queries as blob_queries
from slackwater.blobs.blobs import BlobGone, Blobs, new_key
from slackwater.blobs.local import LocalBlobs
from slackwater.blobs.place import Bucket
from slackwater.blobs.queries import NewFile
from slackwater.errors import OutsideRun
from slackwater.files import auser_data, user_data
from slackwater.postgres.pool import Database
from tests.support.server import Fleet, ServerProcess, fleet_of

GRAPHS = '''
import asyncio, operator
from pathlib import Path
from typing import Annotated, Any
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from slackwater.files import auser_data, user_data
from slackwater.runtime.execution.node_files import current_files
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    seen: Annotated[list[Any], operator.add]
    n: int
    total: int
    holds: list[int]
    gate: str
    size: int


def listing(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()}


def sync_node(state):
    folder = user_data()
    assert sorted(p.name for p in folder.iterdir()) == ["outputs", "uploads", "workspace"]
    seen = listing(folder)
    (folder / "outputs" / "deep").mkdir()
    (folder / "outputs" / "deep" / "a.txt").write_text("a")
    (folder / "workspace" / "b.txt").write_text("b")
    return {"seen": [seen]}


async def async_node(state):
    folder = user_data()
    assert folder == await auser_data()
    seen = listing(folder)
    (folder / "workspace" / "b.txt").unlink()
    (folder / "outputs" / "deep" / "a.txt").write_text("A")
    (folder / "outputs" / "link").symlink_to("/etc/passwd")
    (folder / "workspace" / "folder").symlink_to("/etc")
    return {"seen": [seen]}


@tool
def append(text: str) -> str:
    """Append."""
    with (user_data() / "outputs" / "deep" / "a.txt").open("a") as file:
        file.write(text)
    return "done"


async def tool_node(state):
    return {"seen": [await append.ainvoke({"text": "+"})]}


def chained(*nodes):
    builder = StateGraph(State)
    before = START
    for node in nodes:
        builder.add_node(node.__name__, node)
        builder.add_edge(before, node.__name__)
        before = node.__name__
    return builder.add_edge(before, END)


kinds = chained(sync_node, async_node, tool_node).compile()


async def blocking(state):
    return {"seen": [listing(user_data())]}


first_in_async = chained(blocking).compile()


async def nobody(state):
    return {"seen": [current_files.get().used]}


without = chained(nobody).compile()


def large(state):
    (user_data() / "outputs" / "large.bin").write_bytes(b"x" * state["size"])
    return {}


def after(state):
    return {"seen": ["after"]}


big = chained(large, after).compile()

def fails(state):
    (user_data() / "outputs" / "why.txt").write_text("because")
    raise ValueError("no")


failing = chained(fails).compile()


def expected(n):
    found = {f"outputs/{i}.txt": str(i) * 5000 for i in range(n)}
    return {**found, "workspace/log": "x" * n} if n else {}


async def step(state):
    n, folder = state.get("n", 0), await auser_data()
    if listing(folder) != expected(n):
        return {"seen": [f"step {n} found {sorted(listing(folder))}"], "n": state["total"]}
    with (folder / "outputs" / f"{n}.txt").open("w") as file:
        file.write(str(n) * 2500)
        file.flush()
        held = Path(state["gate"]) / f"held-{n}"
        if n in state["holds"] and not held.exists():
            held.touch()
            while not (held.parent / f"go-{n}").exists():
                await asyncio.sleep(0.02)
        file.write(str(n) * 2500)
    with (folder / "workspace" / "log").open("a") as file:
        file.write("x")
    return {"n": n + 1, "seen": [n]}


def more(state):
    return "step" if state["n"] < state["total"] else END


chain = StateGraph(State).add_node("step", step).add_edge(START, "step").add_conditional_edges("step", more, ["step", END]).compile()

inner = StateGraph(State).add_node("step", step).add_edge(START, "step").add_conditional_edges("step", more, ["step", END]).compile()
async def quick(state):
    folder, gate = await auser_data(), Path(state["gate"])
    with (gate / "quick").open("a") as file:
        file.write("x")
    (folder / "outputs" / "quick.txt").write_text("quick")
    return {"seen": ["quick"]}


async def slow(state):
    file = await auser_data() / "outputs" / "slow.txt"
    file.write_text("sl")
    while not (Path(state["gate"]) / "go-slow").exists():
        await asyncio.sleep(0.02)
    file.write_text("slow")
    return {"seen": ["slow"]}


pair = StateGraph(State).add_node("quick", quick).add_node("slow", slow).add_edge(START, "quick").add_edge(START, "slow").compile()

nested = StateGraph(State).add_node("inner", inner).add_edge(START, "inner").add_edge("inner", END).compile()
'''
NAMES = ("kinds", "first_in_async", "without", "big", "failing", "chain", "nested", "pair")
QUOTA = 300_000
OWNER = "local"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    made.mkdir()
    (made / "graphs.py").write_text(GRAPHS)
    graphs = {name: f"./graphs.py:{name}" for name in NAMES}
    (made / "langgraph.json").write_text(json.dumps({"graphs": graphs, "dependencies": ["."]}))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "gate").mkdir()
    return made


@pytest.fixture(params=["folder", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, s3_environment: dict[str, str]
) -> tuple[Blobs, dict[str, str]]:
    """Where bytes are, and what servers are told of it."""
    if request.param == "s3":
        return S3Blobs(Bucket("files", "x/")), {**s3_environment, "SLACKWATER_BLOBS": "s3://files/x"}
    return LocalBlobs(tmp_path / "blobs"), {"SLACKWATER_BLOBS": f"file:{tmp_path / 'blobs'}"}


@pytest.fixture
async def fleet(
    database_uri: str, tmp_path: Path, folder: Path, store: tuple[Blobs, dict[str, str]]
) -> AsyncIterator[Fleet]:
    env = {
        **store[1],
        "SLACKWATER_GATEWAY": "true",
        "SLACKWATER_MAX_FILE_BYTES_PER_OWNER": str(QUOTA),
        "TMPDIR": str(tmp_path / "tmp"),
        # Time enough for the files of a superstep that is cut, also while the machine does much else
        "SLACKWATER_GRACE_SECONDS": "12",
        "SLACKWATER_DRAIN_RESERVE_SECONDS": "10",
    }
    async with fleet_of(database_uri, tmp_path, folder, env) as fleet:
        yield fleet
    assert fleet.complaints == []


async def keys_in(blobs: Blobs, tmp_path: Path) -> set[str]:
    """What the store really has."""
    if isinstance(blobs, S3Blobs):
        found = boto3.client("s3").list_objects_v2(Bucket="files").get("Contents", [])
        return {item["Key"].removeprefix("x/") for item in found}
    root = tmp_path / "blobs"
    return {"/".join(path.parts[-2:]) for path in root.rglob("*") if path.is_file()}


async def upload(database: Database, blobs: Blobs, thread: UUID, path: str, text: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield text.encode()

    key = new_key(OWNER, thread)
    await blob_queries.stage(database, [key])
    await blobs.put(key, chunks())
    await files.save(database, OWNER, thread, [NewFile(path, key, len(text), None)], 0)


async def stored(database: Database, blobs: Blobs, thread: UUID) -> dict[str, str]:
    """The files that everybody sees, at one moment."""
    rows = await blob_queries.list_(database, OWNER, thread, "")
    found = {}
    for row in rows:
        try:
            content = b"".join([piece async for piece in blobs.read(row["blob"])])
        except BlobGone:
            # Only if a boundary has replaced it since: there is no row without its blob.
            assert row["blob"] not in {
                now["blob"] for now in await blob_queries.list_(database, OWNER, thread, "")
            }
            return await stored(database, blobs, thread)
        assert len(content) == row["size"]
        found[row["path"]] = content.decode()
    return found


def expected(n: int) -> dict[str, str]:
    return {f"outputs/{i}.txt": str(i) * 5000 for i in range(n)} | ({"workspace/log": "x" * n} if n else {})


def test_outside_of_a_run_there_are_no_files() -> None:
    with pytest.raises(OutsideRun, match="in a node or a tool"):
        user_data()
    with pytest.raises(OutsideRun):
        asyncio.run(auser_data())


async def test_nodes_and_tools_find_files_and_leave_some(
    fleet: Fleet, store: tuple[Blobs, dict[str, str]], database: Database, tmp_path: Path
) -> None:
    """One server for all kinds of nodes and durabilities."""
    blobs = store[0]
    (server,) = await fleet.start()
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:

        async def run(graph: str, thread: UUID, input_: Any = None, **body: Any) -> Any:
            answer = await client.post(
                f"/threads/{thread}/runs/wait",
                json={"assistant_id": graph, "input": input_ or {}, "if_not_exists": "create", **body},
            )
            assert answer.status_code == 200, answer.text
            return answer.json()

        for durability in ("async", "sync", "exit"):
            thread = uuid4()
            await upload(database, blobs, thread, "uploads/u.txt", "u")
            values = await run("kinds", thread, durability=durability)
            assert values["seen"] == [
                {"uploads/u.txt": "u"},
                {"outputs/deep/a.txt": "a", "uploads/u.txt": "u", "workspace/b.txt": "b"},
                "done",
            ], durability
            # Links are not followed, and nothing is kept of them
            left = {"outputs/deep/a.txt": "A+", "uploads/u.txt": "u"}
            assert await stored(database, blobs, thread) == left, durability

        # An async node that does not await gets what is there, too; and a node that asks for nothing, nothing
        assert (await run("first_in_async", thread))["seen"][-1] == left
        assert (await run("without", uuid4()))["seen"] == [False]

        # Others see nothing of it
        assert (await run("first_in_async", uuid4()))["seen"] == [{}]

        # Beyond the quota a run ends with a sentence, and nothing of the superstep is stored
        thread = uuid4()
        for durability in ("async", "sync"):
            failed = await run("big", thread, {"size": QUOTA + 1}, durability=durability)
            assert "Your files would take more space than you may have" in failed["__error__"]["message"]
            assert await stored(database, blobs, thread) == {}
        assert (await run("big", thread, {"size": 1000}))["seen"] == ["after"]

        # What a run that failed has written stays
        thread = uuid4()
        assert (await run("failing", thread))["__error__"]["error"] == "ValueError"
        assert await stored(database, blobs, thread) == {"outputs/why.txt": "because"}
    server.tolerated = ("Traceback",)
    server.sigterm()
    assert await server.wait() == 0
    assert list((tmp_path / "tmp").glob("slackwater-files-*")) == []


@pytest.mark.drill
@pytest.mark.parametrize(("store", "graph"), [("s3", "chain"), ("folder", "nested")], indirect=["store"])
async def test_the_next_process_finds_what_the_last_boundary_had(
    fleet: Fleet, store: tuple[Blobs, dict[str, str]], database: Database, tmp_path: Path, graph: str
) -> None:
    """Killed, stopped and frozen in the middle of a file: nobody ever sees half of one, and nothing is left behind.

    Each node compares all that it finds with what the state says. Beside it there is a superstep of two nodes, one of which
    finishes long before the other: it runs again if its process is killed, as its files are lost, and not if it is stopped.
    """
    blobs, gate, thread, parallel = store[0], tmp_path / "gate", uuid4(), uuid4()

    async def until(path: Path) -> None:
        async with asyncio.timeout(60):
            while not path.exists():
                await asyncio.sleep(0.02)

    async def held(n: int) -> None:
        """A node has written half of a file, and what everybody sees is that of the boundary before, as soon as it is stored."""
        await until(gate / f"held-{n}")
        async with asyncio.timeout(30):
            while (found := await stored(database, blobs, thread)) != expected(n):
                assert found == expected(n - 1)

    first: ServerProcess
    (first,) = await fleet.start()
    async with httpx.AsyncClient(timeout=60) as client:
        input_ = {"total": 6, "holds": [1, 3, 4], "gate": str(gate)}
        body = {"assistant_id": graph, "input": input_, "if_not_exists": "create"}
        answer = await client.post(f"{first.url}/threads/{thread}/runs", json=body)
        run = f"/threads/{thread}/runs/{answer.json()['run_id']}"
        body |= {"assistant_id": "pair", "input": {"gate": str(gate)}}
        answer = await client.post(f"{first.url}/threads/{parallel}/runs", json=body)
        run_of_two = f"/threads/{parallel}/runs/{answer.json()['run_id']}"
        # SIGKILL
        await held(1)
        await until(gate / "quick")
        await client.post(f"{first.url}/runs/wait", json={"assistant_id": "without", "input": {}})
        (second,) = await fleet.start()
        first.sigkill()
        # SIGTERM: the node does not end, and its superstep is cut
        await held(3)
        async with asyncio.timeout(30):
            while (gate / "quick").read_text() != "xx":
                await asyncio.sleep(0.02)
        assert await stored(database, blobs, parallel) == {}
        (third,) = await fleet.start()
        second.sigterm()
        assert await second.wait() == 0
        assert await stored(database, blobs, parallel) == {
            "outputs/quick.txt": "quick",
            "outputs/slow.txt": "sl",
        }
        # A freeze: somebody else goes on, and whoever wakes up changes nothing any more
        await held(4)
        third.stop()
        (fourth,) = await fleet.start()
        (gate / "go-slow").touch()
        values = (await client.get(f"{fourth.url}{run_of_two}/join")).json()
        assert values["seen"] == ["quick", "slow"]
        assert (gate / "quick").read_text() == "xx"
        assert await stored(database, blobs, parallel) == {
            "outputs/quick.txt": "quick",
            "outputs/slow.txt": "slow",
        }
        async with asyncio.timeout(60):
            while (shown := (await client.get(f"{fourth.url}{run}")).json())["status"] in (
                "pending",
                "running",
            ):
                await asyncio.sleep(0.1)
        assert shown["status"] == "success"
        state = (await client.get(f"{fourth.url}/threads/{thread}/state")).json()
        assert state["values"]["seen"] == [0, 1, 2, 3, 4, 5]
        assert await stored(database, blobs, thread) == expected(6)
        (gate / "go-4").touch()
        third.cont()
        async with asyncio.timeout(30):
            while not third.events("run.lost"):
                await asyncio.sleep(0.05)
        third.sigterm()
        await third.wait()
        assert await stored(database, blobs, thread) == expected(6)

        # What was staged and never stored is swept in time, and nothing else is
        await database.execute(
            "update slackwater.blobs set changed_at = changed_at - interval '2 hours' where state = 'staged'"
        )
        deadline = time.monotonic() + 30
        while rows := await database.fetch("select key, state from slackwater.blobs where state <> 'live'"):
            assert time.monotonic() < deadline, rows
            await asyncio.sleep(0.1)
        live = {row["blob"] for row in await database.fetch("select blob from slackwater.files")}
        assert await keys_in(blobs, tmp_path) == live
