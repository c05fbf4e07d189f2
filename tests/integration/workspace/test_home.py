"""A project's home folder (1.11; deerflow-clients.md, 6: disk): fixed paths on the disk of each process, one content."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from slackwater.blobs.files import TooManyFileBytes
from slackwater.blobs.local import LocalBlobs
from slackwater.errors import SettingsError
from slackwater.owners.erase import erase
from slackwater.postgres.pool import Database
from slackwater.runtime.execution.owning_loop import OwningLoop
from slackwater.settings import Settings
from slackwater.workspace.home import queries, service
from slackwater.workspace.home.place import HomePlace
from slackwater.workspace.home.service import Homes
from slackwater.workspace.node_files.service import FilesOfRuns
from tests.support.server import Fleet, fleet_of

GRAPH = """
import asyncio, json, os
from pathlib import Path
from threading import Thread
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph


class Said(TypedDict, total=False):
    say: str
    gate: str
    hold: bool
    late: bool
    made_with: Any
    memory: Any
    files: Any
    made_again_with: Any
    files_again: Any


USER = Path(os.environ["DEER_FLOW_HOME"]) / "users" / "local"
MEMORY = USER / "memory.json"


def remembered():
    return json.loads(MEMORY.read_text()) if MEMORY.exists() else []


def remember(what):
    new = MEMORY.with_suffix(".tmp")
    new.write_text(json.dumps([*remembered(), what]))
    new.replace(MEMORY)


def later(gate):
    while not (gate / "now").exists():
        pass
    remember("late")
    (gate / "done").touch()


def make_lead_agent(config):
    made_with, thread = remembered(), config["configurable"]["thread_id"]

    async def step(state: Said) -> Said:
        files, gate = USER / "threads" / thread / "user-data", Path(state["gate"])
        found = {"made_with": made_with, "memory": remembered(), "files": sorted(p.name for p in files.rglob("*.txt"))}
        remember(state["say"])
        (files / "outputs" / (state["say"] + ".txt")).write_text(state["say"])
        (USER / "agents" / "mine").mkdir(parents=True, exist_ok=True)
        (USER / "agents" / "mine" / "SOUL.md").write_text(state["say"])
        if state.get("late"):
            Thread(target=later, args=[gate], daemon=True).start()
        return found

    async def hold(state: Said) -> Said:
        files, gate = USER / "threads" / thread / "user-data", Path(state["gate"])
        found = {"made_again_with": made_with, "files_again": sorted(p.name for p in files.rglob("*.txt"))}
        (files / "outputs" / "half.txt").write_text("half")
        if not (gate / "held").exists():
            (gate / "held").touch()
            await asyncio.sleep(600)
        return found

    graph = StateGraph(Said).add_node(step).add_node(hold).add_edge(START, "step")
    return graph.add_conditional_edges("step", lambda state: "hold" if state.get("hold") else END, ["hold", END]).compile()
"""


@pytest.fixture
async def fleet(database_uri: str, tmp_path: Path, s3_environment: dict[str, str]) -> AsyncIterator[Fleet]:
    project = tmp_path / "project"
    project.mkdir()
    (project / "agent.py").write_text(GRAPH)
    content = {"dependencies": ["."], "graphs": {"lead_agent": "./agent.py:make_lead_agent"}}
    (project / "langgraph.json").write_text(json.dumps(content))
    env = {**s3_environment, "SLACKWATER_BLOBS": "s3://files/home", "SLACKWATER_GATEWAY": "true"}
    async with fleet_of(database_uri, tmp_path, project, env) as fleet:
        yield fleet
    assert fleet.complaints == []


@pytest.mark.drill
async def test_the_next_process_finds_what_the_last_one_wrote(fleet: Fleet, tmp_path: Path) -> None:
    """Killed in the middle of a step, and stopped after what a thread of the project has written when its run was over."""

    async def started(name: str) -> Any:
        home = str(tmp_path / name)
        (server,) = await fleet.start(env={"SLACKWATER_HOME_DIR": home, "DEER_FLOW_HOME": home})
        return server

    async def until(path: Path) -> None:
        async with asyncio.timeout(60):
            while not path.exists():
                await asyncio.sleep(0.02)

    thread, gate = uuid4(), tmp_path
    async with httpx.AsyncClient(timeout=60) as client:

        async def run(server: Any, say: str, how: str = "/wait", **more: Any) -> Any:
            body = {"assistant_id": "lead_agent", "input": {"say": say, "gate": str(gate), **more}}
            path = f"{server.url}/threads/{thread}/runs{how}"
            answer = await client.post(path, json={**body, "if_not_exists": "create"})
            return answer.json()

        first = await started("one")
        found = await run(first, "a")
        assert (found["made_with"], found["memory"], found["files"]) == ([], [], [])
        # What its nodes have written to outputs are artifacts
        artifact = f"/api/threads/{thread}/artifacts/mnt/user-data/outputs/a.txt"
        assert (await client.get(first.url + artifact)).text == "a"

        # WHEN it is killed in the middle of a superstep, THEN the next one has what was there at the end of the one before
        cut = await run(first, "b", "", hold=True)
        await until(gate / "held")
        async with asyncio.timeout(30):
            while (await client.get(f"{first.url}/threads/{thread}/state")).json()["next"] != ["hold"]:
                await asyncio.sleep(0.02)
        first.sigkill()
        second = await started("two")
        found = (await client.get(f"{second.url}/threads/{thread}/runs/{cut['run_id']}/join")).json()
        assert (found["made_with"], found["files"]) == (["a"], ["a.txt"])
        assert (found["made_again_with"], found["files_again"]) == (["a", "b"], ["a.txt", "b.txt"])

        # WHEN the project writes after the end of a run, THEN a process that stops stores it
        found = await run(second, "c", late=True)
        assert (found["made_with"], found["files"]) == (["a", "b"], ["a.txt", "b.txt", "half.txt"])
        (gate / "now").touch()
        await until(gate / "done")
        second.sigterm()
        assert await second.wait() == 0
        third = await started("three")
        found = await run(third, "d")
        assert (found["made_with"], found["files"]) == (
            ["a", "b", "c", "late"],
            ["a.txt", "b.txt", "c.txt", "half.txt"],
        )
        # AND nothing of the thread stays on the disk
        async with asyncio.timeout(30):
            while list((tmp_path / "three" / "users" / "local" / "threads").glob("*/user-data")):
                await asyncio.sleep(0.02)
        assert (tmp_path / "three" / "users" / "local" / "agents" / "mine" / "SOUL.md").read_text() == "d"


class Process:
    """What a process has of it, with the blobs in a folder."""

    def __init__(self, database: Database, folder: Path, most: int = 0, *, looks: bool = False) -> None:
        self.place = HomePlace(folder)
        self.place.claim()
        self.files = FilesOfRuns(database, LocalBlobs(folder.parent / "blobs"), most)
        self.homes = self.files.homes = Homes(self.files, self.place, looks=looks)
        self.home = self.place.of_owner("alice")

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.home / name).write_text(text)

    def found(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in sorted(self.home.iterdir()) if path.is_file()}

    async def begin(self, owner: str = "alice") -> None:
        await self.homes.begin(owner, service._patiently)

    async def push(self) -> None:
        await self.homes.push("alice", service._patiently)

    def end(self) -> None:
        self.homes.end("alice")

    async def ran(self, **files: str) -> dict[str, str]:
        """A run that writes; what it has found."""
        await self.begin()
        found = self.found()
        self.write(**files)
        await self.push()
        self.end()
        return found

    async def stop(self) -> None:
        await self.files.stop(10)
        self.place.release()


async def test_what_two_write_at_once_is_there_twice(database: Database, tmp_path: Path) -> None:
    """Compare-and-set, file by file: one is what the file is, and the other one is beside it, until somebody has seen to it."""
    one, other = Process(database, tmp_path / "one"), Process(database, tmp_path / "other")
    assert await one.ran(memory="0", soul="0", gone="0") == {}
    for each in (one, other):
        await each.begin()
    assert other.found() == {"memory": "0", "soul": "0", "gone": "0"}
    one.write(memory="1")
    other.write(memory="2", soul="2", gone="2")
    (one.home / "gone").unlink()
    await one.push()
    await other.push()
    # What is written on top of what was not stored is on top of that, and not of what somebody else has stored
    other.write(memory="22")
    await other.begin()
    assert other.found()["memory"] == "22"
    await other.push()
    for each in (other, other, one):
        each.end()
    found = await other.ran()
    (beside,) = [name for name in found if name.startswith("memory.conflict-")]
    assert found == {"memory": "1", beside: "22", "soul": "2", "gone": "2"}
    assert await one.ran() == found
    # WHEN somebody has seen to it, THEN it is gone
    (one.home / beside).unlink()
    assert (await one.ran(memory="122"), await other.ran()) == (
        {"memory": "1", "soul": "2", "gone": "2"},
        {"memory": "122", "soul": "2", "gone": "2"},
    )
    for each in (one, other):
        await each.stop()


async def test_what_a_process_leaves_on_its_disk(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not stored when a process ended is not lost, nor does it take the place of what is newer; idle folders go."""
    killed, other = Process(database, tmp_path / "one"), Process(database, tmp_path / "other")
    await killed.ran(same="0", changed="0")
    killed.write(changed="of killed", new="of killed")
    killed.place.release()
    await other.ran(changed="of other")
    again = Process(database, tmp_path / "one")
    found = await again.ran()
    (beside,) = [name for name in found if name.startswith("changed.conflict-")]
    assert found == {"same": "0", "changed": "of other", beside: "of killed", "new": "of killed"}
    # WHEN nobody has had a run for a while, THEN the folder is no longer there, and all of it comes back
    again.write(new="late")
    os.utime(again.home / "new", (1, 1))  # what was written just now is looked at once more
    monkeypatch.setattr(service, "IDLE_SECONDS", -1)
    monkeypatch.setattr(service, "LOOK_SECONDS", 0)
    await again.begin("bob")
    assert not again.home.exists()
    assert (await again.ran())["new"] == "late"
    # WHEN somebody clears the disk, THEN nothing of it is deleted
    shutil.rmtree(again.home)
    await again.push()
    assert (await other.ran())["new"] == "late"
    assert (await again.ran())["new"] == "late"
    # WHEN something is written after the run, THEN it is stored soon
    monkeypatch.setattr(service, "LOOK_SECONDS", 0.01)
    looks = Process(database, tmp_path / "looks", looks=True)
    monkeypatch.setattr(service, "IDLE_SECONDS", 100)
    await looks.ran()
    looks.write(new="later still")
    async with asyncio.timeout(15):
        while (await other.ran())["new"] != "later still":
            await asyncio.sleep(0.01)
    # What an owner had is gone with them
    await erase(database, "alice")
    assert await other.ran() == {}
    # More than the owner may have is refused, and stored when there is room
    small = Process(database, tmp_path / "small", most=5)
    await small.begin()
    small.write(a="123456")
    with pytest.raises(TooManyFileBytes):
        await small.push()
    await small.begin()  # it may delete some
    small.end()
    small.files.most = 6
    await small.push()
    small.end()
    assert await other.ran() == {"a": "123456"}
    for each in (other, again, small, looks):
        await each.stop()


def test_whose_the_folder_is(tmp_path: Path) -> None:
    """Nothing that is not a mirror is ever taken for one, and nobody shares it."""
    held = HomePlace(tmp_path / "a")
    held.claim()
    with pytest.raises(SettingsError, match="another process uses"):
        HomePlace(tmp_path / "a").claim()
    held.release()
    place = HomePlace(tmp_path / "a")
    place.claim()
    (tmp_path / "b" / "users").mkdir(parents=True)
    with pytest.raises(SettingsError, match="give an empty folder"):
        HomePlace(tmp_path / "b").claim()
    (tmp_path / "c").touch()
    with pytest.raises(SettingsError, match="cannot be used: File exists"):
        HomePlace(tmp_path / "c").claim()
    with pytest.raises(SettingsError, match="needs SLACKWATER_GATEWAY"):
        Settings.load(home_dir=tmp_path, database_uri="postgresql:///x")
    # Of two attempts at one run only the last deletes what it has
    thread, first, second = uuid4(), object(), object()
    path = place.new_thread("alice", thread, first)
    (path / "x").touch()
    assert place.new_thread("alice", thread, second) == path
    place.end_thread(path, first)
    assert list(path.iterdir()) == []
    place.end_thread(path, second)
    assert not path.exists()
    # What was written since the last look is not deleted
    (place.of_owner("alice") / "x").touch()
    assert not place.end_owner("alice", {})
    # WHEN a process has ended, THEN it deletes nothing of the next one's, which has nothing of the last one's threads
    path = place.new_thread("alice", thread, first)
    place.release()
    after = HomePlace(tmp_path / "a")
    after.claim()
    assert not path.exists()
    after.new_thread("alice", thread, second)
    place.end_thread(path, first)
    assert path.exists()


async def test_a_process_on_the_disk_of_one_that_was_killed(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows what the files there were made from: what was deleted meanwhile is not there again, nor is what is erased."""
    killed, other = Process(database, tmp_path / "one"), Process(database, tmp_path / "other")
    await killed.ran(deleted="0", changed="0", same="0")
    killed.place.release()
    await other.begin()
    (other.home / "deleted").unlink()
    other.write(changed="1")
    await other.push()
    other.end()
    again = Process(database, tmp_path / "one")
    assert await again.ran() == {"changed": "1", "same": "0"} == await other.ran()
    again.place.release()
    await erase(database, "alice")
    # Also if the owner has no run there any more
    monkeypatch.setattr(service, "IDLE_SECONDS", -1)
    last = Process(database, tmp_path / "one")
    await last.begin("bob")
    assert not last.home.exists()
    assert await other.ran() == {} == await last.ran()
    for each in (other, last):
        await each.stop()


async def test_runs_that_begin_together(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of an owner find what others have stored; and those of several look together after who is idle."""
    one, other = Process(database, tmp_path / "one"), Process(database, tmp_path / "other")
    await one.ran(a="0")
    await other.ran(a="1")
    await asyncio.gather(one.begin(), one.begin())
    assert one.found() == {"a": "1"}
    one.end()
    one.end()
    monkeypatch.setattr(service, "IDLE_SECONDS", -1)
    monkeypatch.setattr(service, "LOOK_SECONDS", 0)
    await asyncio.gather(*(one.begin(f"owner-{n}") for n in range(5)))
    assert not one.home.exists()
    for each in (one, other):
        await each.stop()


async def test_what_was_stored_unheard_is_no_conflict(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Process(database, tmp_path / "one"), Process(database, tmp_path / "other")
    store = queries.store

    async def unheard(*arguments: Any) -> frozenset[str]:
        await store(*arguments)
        raise ConnectionError

    await one.begin()
    one.write(a="1")
    with monkeypatch.context() as patched:
        patched.setattr(queries, "store", unheard)
        with pytest.raises(ConnectionError):
            await one.push()
    one.write(a="12")
    await one.push()
    one.end()
    assert one.found() == await other.ran() == {"a": "12"}
    for each in (one, other):
        await each.stop()


async def test_nothing_is_written_through_links(database: Database, tmp_path: Path) -> None:
    """The project's code may put them in the place of folders; files of owners and threads stay in the home folder."""
    one, other = Process(database, tmp_path / "one"), Process(database, tmp_path / "other")
    outside = tmp_path / "outside"
    outside.mkdir()
    await one.ran()
    for name in ("deep", "threads"):
        (one.home / name).symlink_to(outside)
    await other.begin()
    (other.home / "deep").mkdir()
    (other.home / "deep" / "x").touch()
    await other.push()
    other.end()
    await one.ran()
    path = one.place.new_thread("alice", uuid4(), one)
    assert (path.is_dir(), list(outside.iterdir())) == (True, [])
    for each in (one, other):
        await each.stop()


async def test_whoever_clears_a_disk_deletes_no_files_of_a_thread(database: Database, tmp_path: Path) -> None:
    """The folder of a run that goes on is gone, and what is in it with it; nothing of that is for the next checkpoint."""
    process, thread = Process(database, tmp_path / "one"), uuid4()
    run = process.files.of("alice", thread, OwningLoop(), service._patiently)
    await run.begin()
    root = await run.apath()
    (root / "outputs" / "a").write_text("a")
    await run.store()
    changes = run.take()
    assert changes is not None
    assert list(changes.saved) == ["outputs/a"]
    shutil.rmtree(root)
    await run.store()
    assert run.take() is None
    run.close()
    await process.stop()
