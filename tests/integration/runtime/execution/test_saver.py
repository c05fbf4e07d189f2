"""The saver of one run: a complete checkpointer, and one that a stale owner cannot write through."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID, uuid4

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.types import ERROR

from slackwater.errors import LeaseLost
from slackwater.kit.ids import uuid7
from slackwater.postgres.group_commit import GroupCommit
from slackwater.postgres.pool import Database
from slackwater.runtime.events.journal import Journal
from slackwater.runtime.execution.checkpointer import RunSaver
from slackwater.runtime.fenced import writer as writers
from slackwater.runtime.fenced.writer import Writer
from slackwater.runtime.queue.lease import Lease
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


async def put(saver: RunSaver, thread_id: UUID) -> str:
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"log": ["a"]}
    checkpoint["channel_versions"] = {"log": "1"}
    config = {"configurable": {"thread_id": str(thread_id), "checkpoint_ns": ""}}
    await saver.aput(config, checkpoint, {"source": "loop", "step": 0}, {"log": "1"})  # type: ignore[arg-type]
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
