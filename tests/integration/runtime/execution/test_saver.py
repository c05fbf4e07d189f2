"""The saver of one run: a complete checkpointer, and one that a stale owner cannot write through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from pathlib import Path
from threading import Event
from uuid import UUID, uuid4

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.types import ERROR

from slackwater.blobs import queries as blob_queries
from slackwater.blobs.blobs import new_key
from slackwater.blobs.files import TooManyFileBytes, save
from slackwater.blobs.local import LocalBlobs
from slackwater.blobs.queries import NewFile
from slackwater.errors import LeaseLost
from slackwater.kit.ids import uuid7
from slackwater.postgres.group_commit import GroupCommit
from slackwater.postgres.pool import Database
from slackwater.runtime.events.journal import Journal
from slackwater.runtime.execution.checkpointer import RunSaver
from slackwater.runtime.fenced import writer as writers
from slackwater.runtime.fenced.writer import Writer
from slackwater.runtime.queue.lease import Lease
from slackwater.workspace.node_files import service
from slackwater.workspace.node_files.service import FilesOfRun, FilesOfRuns, LoopBlocked
from tests.support.proxy import proxied

_THREAD = "insert into slackwater.threads (thread_id, owner, fence) values (%s, 'me', 1)"
_RUN = """
insert into slackwater.runs (run_id, thread_id, owner, assistant_id, graph_id, status, holds_thread, worker, fence, lease_until)
values (%s, %s, 'me', %s, 'g', 'running', true, 'w', 1, clock_timestamp() + interval '1 minute')"""


async def owned(database: Database, *, through: Database | None = None) -> RunSaver:
    """A saver whose run this process owns, and that perhaps reaches the database in another way."""
    run_id, thread_id = uuid7(), uuid7()
    await database.execute(_THREAD, (thread_id,))
    await database.execute(_RUN, (run_id, thread_id, uuid4()))
    lease = Lease(run_id, thread_id, 1, "w", time.monotonic() + 60)
    reached = through or database
    return RunSaver(reached, Writer(reached, lease, Journal(1), GroupCommit(reached)))


async def test_it_is_a_complete_checkpointer(database: Database) -> None:
    @checkpointer_test(name="RunSaver")
    async def run_saver():  # type: ignore[no-untyped-def]
        yield await owned(database)

    report = await validate(run_saver)
    assert report.passed_all_base(), report.to_dict()


async def put(saver: RunSaver, thread_id: UUID, source: str = "loop") -> str:
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"log": ["a"]}
    checkpoint["channel_versions"] = {"log": "1"}
    config = {"configurable": {"thread_id": str(thread_id), "checkpoint_ns": ""}}
    await saver.aput(config, checkpoint, {"source": source, "step": 0}, {"log": "1"})  # type: ignore[arg-type]
    return checkpoint["id"]


TAKEN = "update slackwater.runs set fence = fence + 1 where run_id = %s"
ANOTHER = "update slackwater.runs set worker = 'x' where run_id = %s"
"""As after a failover that has forgotten the claim, and its fence with it."""
ENDED = "update slackwater.runs set status = 'success', holds_thread = false where run_id = %s"
DELETED = "delete from slackwater.runs where run_id = %s"


@pytest.mark.parametrize(
    "what", [TAKEN, ANOTHER, ENDED, DELETED], ids=["taken over", "forgotten", "ended", "deleted"]
)
async def test_a_stale_owner_writes_no_checkpoint_no_writes_and_no_event(
    database: Database, what: str
) -> None:
    # GIVEN an owner that has written
    saver = await owned(database)
    thread_id = saver.writer.lease.thread_id
    first = await put(saver, thread_id)
    # WHEN its run is somebody else's, or nobody's, and it goes on without knowing
    await database.execute(what, (saver.writer.lease.run_id,))
    told: list[bool] = []
    saver.writer.on_lost = lambda: told.append(True)
    saver.writer.publish("values", b"{}")
    config = {"configurable": {"thread_id": str(thread_id), "checkpoint_ns": "", "checkpoint_id": first}}
    with pytest.raises(LeaseLost):
        await saver.aput_writes(config, [("log", ["b"])], str(uuid4()))  # type: ignore[arg-type]
    with pytest.raises(LeaseLost):
        await put(saver, thread_id)
    # THEN nothing of it is there, and it knows now
    rows = await database.fetch(
        "select (select count(*) from checkpoints) as checkpoints, (select count(*) from checkpoint_writes) as writes, "
        "(select count(*) from checkpoint_blobs) as blobs, (select count(*) from slackwater.run_events) as events"
    )
    assert rows == [{"checkpoints": 1, "writes": 0, "blobs": 1, "events": 0}]
    assert saver.writer.lease.lost
    assert told


async def test_events_are_stored_by_the_statement_that_stores_their_checkpoint(database: Database) -> None:
    saver = await owned(database)
    saver.writer.publish("values", b'{"n":1}')
    await put(saver, saver.writer.lease.thread_id)
    rows = await database.fetch(
        "select e.xmin = c.xmin as together from slackwater.run_events e, checkpoints c where e.event = 'values'"
    )
    assert rows == [{"together": True}]
    assert saver.writer.journal.unwritten == 0


def files_of(saver: RunSaver, all_: FilesOfRuns) -> FilesOfRun:
    return all_.of("me", saver.writer.lease.thread_id, saver.owning_loop, saver.writer.retrying)


class SlowBlobs(LocalBlobs):
    """A store that takes as long as the test wants."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked, self.goes_on = asyncio.Event(), asyncio.Event()

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        self.asked.set()
        await self.goes_on.wait()
        return await super().put(key, chunks)


@pytest.mark.parametrize("runs_ahead", [True, False], ids=["async", "sync"])
async def test_a_result_is_stored_with_the_files_of_its_task_and_no_sooner(
    database: Database, tmp_path: Path, runs_ahead: bool
) -> None:
    # GIVEN tasks that have written files, and results of one that has finished
    saver = await owned(database)
    thread_id, blobs = saver.writer.lease.thread_id, SlowBlobs(tmp_path)
    first = await put(saver, thread_id)
    all_ = FilesOfRuns(database, blobs, 0)
    saver.files, saver.runs_ahead = files_of(saver, all_), runs_ahead
    folder = await saver.files.apath()
    (folder / "outputs" / "a.txt").write_text("a")
    config = {"configurable": {"thread_id": str(thread_id), "checkpoint_ns": "", "checkpoint_id": first}}
    await saver.aput_writes(config, [("log", ["b"])], str(uuid4()))  # type: ignore[arg-type]
    # WHEN the checkpoint comes, and the store is slow
    putting = asyncio.create_task(put(saver, thread_id))
    await blobs.asked.wait()
    await saver.writer.written()
    # THEN whoever takes the run over now runs the task again
    there = """select (select count(*) from checkpoint_writes) as results, (select count(*) from slackwater.files) as files,
      (select count(*) from checkpoints) as checkpoints"""
    assert await database.fetch(there) == [{"results": 0, "files": 0, "checkpoints": 1}]
    # AND results of a graph in a thread that come late go with the rest
    await saver.aput_writes(config, [("log", ["c"])], str(uuid4()))  # type: ignore[arg-type]
    blobs.goes_on.set()
    second = await putting
    await saver.aput_writes(config, [("log", ["d"])], str(uuid4()))  # type: ignore[arg-type]
    await saver.writer.written()
    assert await database.fetch(there) == [{"results": 3, "files": 1, "checkpoints": 2}]
    rows = await database.fetch(
        "select w.xmin = c.xmin and f.xmin = c.xmin as together from checkpoint_writes w, checkpoints c, slackwater.files f "
        "where c.checkpoint_id = %s and w.blob <> %s",
        (second, saver.serde.dumps_typed(["d"])[1]),
    )
    assert rows == [{"together": True}] * 2
    # What follows no checkpoint goes at the end
    config["configurable"]["checkpoint_id"] = second
    await saver.aput_writes(config, [("log", ["e"])], str(uuid4()))  # type: ignore[arg-type]
    await saver.writer.written()
    assert (await database.fetch(there))[0]["results"] == 3
    await saver.store_files()
    assert (await database.fetch(there))[0]["results"] == 4
    saver.files.close()
    await all_.stop(5)


async def test_the_checkpoint_of_the_input_has_no_files_of_the_nodes_behind_it(
    database: Database, tmp_path: Path
) -> None:
    # GIVEN a run whose files are there from the beginning, and a node that is faster than the checkpoint before it
    saver = await owned(database)
    thread_id, all_ = saver.writer.lease.thread_id, FilesOfRuns(database, LocalBlobs(tmp_path), 0)
    saver.files = files = files_of(saver, all_)
    (await files.apath() / "outputs" / "a.txt").write_text("a")
    # WHEN that is stored, THEN a process that goes on from there does not find what the node has written: it runs again
    await put(saver, thread_id, "input")
    await saver.writer.written()
    assert await database.fetch("select path from slackwater.files") == []
    await put(saver, thread_id)
    await saver.writer.written()
    assert await database.fetch("select path from slackwater.files") == [{"path": "outputs/a.txt"}]
    files.close()
    await all_.stop(5)


async def test_a_cut_superstep_stores_nothing_that_was_written_after_its_last_result(
    database: Database, tmp_path: Path
) -> None:
    # GIVEN one task that has finished, and another one that still writes
    saver = await owned(database)
    thread_id = saver.writer.lease.thread_id
    first = await put(saver, thread_id)
    all_ = FilesOfRuns(database, LocalBlobs(tmp_path), 0)
    saver.files = files_of(saver, all_)
    outputs = await saver.files.apath() / "outputs"
    (outputs / "whole").write_text("whole")
    config = {"configurable": {"thread_id": str(thread_id), "checkpoint_ns": "", "checkpoint_id": first}}
    await saver.aput_writes(config, [("log", ["b"])], str(uuid4()))  # type: ignore[arg-type]
    finished = time.time()
    while time.time() < finished + 0.02:  # the clock of a file system ticks
        (outputs / "half").write_text("ha")

    # WHEN it is cut
    await saver.store_results()

    # THEN the result and its file are stored, and what the other one has written is not
    assert await database.fetch("select path from slackwater.files") == [{"path": "outputs/whole"}]
    assert await database.fetch("select count(*) as n from checkpoint_writes") == [{"n": 1}]
    saver.files.close()
    await all_.stop(5)


async def test_files_are_fetched_and_stored_though_the_database_loses_connections(
    database: Database, database_uri: str, tmp_path: Path
) -> None:
    blobs = LocalBlobs(tmp_path)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"1"

    with proxied(database_uri) as proxy:
        far = Database(proxy.uri, max_size=4, statement_seconds=10.0, name="far")
        await far.open()
        saver = await owned(database, through=far)
        thread_id, all_ = saver.writer.lease.thread_id, FilesOfRuns(far, blobs, 0)
        # GIVEN files, of which some cannot be on this disk
        for path in ("uploads/a.txt", "uploads/a.txt/b", f"uploads/{'ä' * 128}"):
            key = new_key("me", thread_id)
            await blob_queries.stage(database, [key])
            new = NewFile(path, key, await blobs.put(key, chunks()), None)
            await save(database, "me", thread_id, [new], 0)
        saver.files = files_of(saver, all_)
        proxy.lose_requests("select path, blob, size", 2)  # one of which the pool sends again
        folder = await saver.files.apath()
        assert len([path for path in folder.rglob("*") if path.is_file()]) == 1
        (folder / "outputs" / "b.txt").write_text("1")
        proxy.lose_answers("insert into slackwater.blobs")
        await put(saver, thread_id)
        assert proxy.lost == 3
        saver.files.close()
        await all_.stop(5)
        await far.close(1)
    # THEN those are there as before, and what was new
    rows = await database.fetch("select path, blob from slackwater.files order by created_at, path")
    assert len(rows) == 4
    assert rows[3]["path"] == "outputs/b.txt"
    assert await database.fetch("select 1 from slackwater.blobs") == [{"?column?": 1}] * 4


class StuckBlobs(LocalBlobs):
    """A store from which nothing comes until it is told so."""

    goes_on = Event()

    async def read(self, key: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes]:
        while not self.goes_on.is_set():
            await asyncio.sleep(0.01)
        async for piece in super().read(key, start, length):
            yield piece


async def test_a_node_that_blocks_the_event_loop_does_not_do_so_for_ever(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BLOCKED_SECONDS", 0.2)
    saver, blobs = await owned(database), StuckBlobs(tmp_path)
    thread_id, all_ = saver.writer.lease.thread_id, FilesOfRuns(database, blobs, 0)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"1"

    key = new_key("me", thread_id)
    await blob_queries.stage(database, [key])
    new = NewFile("uploads/a.txt", key, await blobs.put(key, chunks()), None)
    await save(database, "me", thread_id, [new], 0)
    saver.files = files_of(saver, all_)
    with pytest.raises(LoopBlocked, match="await auser_data"):
        saver.files.path()
    blobs.goes_on.set()
    assert (await saver.files.apath() / "uploads" / "a.txt").read_text() == "1"
    saver.files.close()
    await all_.stop(5)


async def test_nothing_is_stored_that_follows_a_checkpoint_which_was_refused(
    database: Database, tmp_path: Path
) -> None:
    """It would refer to values that are not there."""
    saver = await owned(database)
    thread_id, all_ = saver.writer.lease.thread_id, FilesOfRuns(database, LocalBlobs(tmp_path), most=1)
    saver.files, saver.runs_ahead = files_of(saver, all_), True
    folder = await saver.files.apath()
    (folder / "outputs" / "a.txt").write_text("more than one byte")
    first = await put(saver, thread_id)
    while saver.writer._taken is None:
        await asyncio.sleep(0)
    # WHEN the graph has run ahead
    config = {"configurable": {"thread_id": str(thread_id), "checkpoint_ns": "", "checkpoint_id": first}}
    await saver.aput_writes(config, [("log", ["b"])], str(uuid4()))  # type: ignore[arg-type]
    with suppress(TooManyFileBytes):  # by now it may be known
        await put(saver, thread_id)
    await saver.writer.written()
    assert isinstance(saver.writer.failure, TooManyFileBytes)
    for late in (put(saver, thread_id), saver.store_files()):
        with suppress(TooManyFileBytes):
            await late
    await saver.writer.written()
    rows = await database.fetch(
        "select (select count(*) from checkpoints) + (select count(*) from checkpoint_writes) as stored"
    )
    assert rows == [{"stored": 0}]
    saver.files.close()
    await all_.stop(5)


async def test_events_that_come_while_others_are_written_wait_for_what_comes_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens that come all the time would be written all the time, each time a few."""
    monkeypatch.setattr(writers, "EVENT_FLUSH_SECONDS", 60)
    saver = await owned(database)
    saver.writer.publish("custom", b"1")
    flushing = asyncio.create_task(saver.writer.flush())
    while saver.writer._taken is None:
        await asyncio.sleep(0)
    saver.writer.publish("custom", b"2")
    saver.writer.publish("custom", b"3")
    await flushing
    assert saver.writer.journal.unwritten == 2
    # who wants all of it stored now gets that
    again = asyncio.create_task(saver.writer.flush())
    while saver.writer._taken is None:
        await asyncio.sleep(0)
    saver.writer.publish("custom", b"4")
    await saver.writer.flush()
    await again
    assert saver.writer.journal.unwritten == 0
    saver.writer.publish("custom", b"5")
    # WHEN a checkpoint comes, long before they would be written without one
    await put(saver, saver.writer.lease.thread_id)
    assert saver.writer.journal.unwritten == 0
    rows = await database.fetch("select seq, event, data from slackwater.run_events order by seq")
    assert [tuple(row.values()) for row in rows] == [
        (1, "custom", "1"),
        (3, "pack|custom", "\n\n2\n3"),
        (4, "custom", "4"),
        (5, "custom", "5"),
    ]


async def test_events_that_come_while_others_are_written_wait_for_a_moment_only(database: Database) -> None:
    saver = await owned(database)
    saver.writer.publish("custom", b"1")
    flushing = asyncio.create_task(saver.writer.flush())
    while saver.writer._taken is None:
        await asyncio.sleep(0)
    saver.writer.publish("custom", b"2")
    await flushing
    async with asyncio.timeout(10):
        while saver.writer.journal.unwritten:
            await asyncio.sleep(0.01)
    assert len(await database.fetch("select 1 from slackwater.run_events")) == 2


async def test_what_was_stored_and_never_answered_is_sent_again_and_is_there_once(
    database: Database, database_uri: str
) -> None:
    with proxied(database_uri) as proxy:
        far = Database(proxy.uri, max_size=4, statement_seconds=10.0, name="far")
        await far.open()
        saver = await owned(database, through=far)
        proxy.lose_answers("insert into checkpoints")
        saver.writer.publish("values", b'{"n":1}')
        await put(saver, saver.writer.lease.thread_id)
        assert proxy.lost == 1
        await far.close(1)
    assert await database.fetch("select event, data::text from slackwater.run_events") == [
        {"event": "values", "data": '{"n":1}'}
    ]
    assert len(await database.fetch("select 1 from checkpoints")) == 1


async def test_a_node_that_was_cancelled_on_its_way_to_its_edges_does_not_count_as_finished(
    database: Database,
) -> None:
    saver = await owned(database)
    first = await put(saver, saver.writer.lease.thread_id)
    config = {
        "configurable": {
            "thread_id": str(saver.writer.lease.thread_id),
            "checkpoint_ns": "",
            "checkpoint_id": first,
        }
    }
    writes = [("log", ["b"]), (ERROR, asyncio.CancelledError())]
    await saver.aput_writes(config, writes, str(uuid4()))  # type: ignore[arg-type]
    await saver.writer.written()
    assert await database.fetch("select 1 from checkpoint_writes") == []
