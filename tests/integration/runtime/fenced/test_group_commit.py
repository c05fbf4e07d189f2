"""What the runs of a process store together: one statement for many, and nobody pays for somebody else's trouble."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from psycopg import OperationalError

from slackwater.errors import LeaseLost
from slackwater.kit.ids import uuid7
from slackwater.postgres import group_commit
from slackwater.postgres.arrays import IntArray
from slackwater.postgres.group_commit import GroupCommit, Kind
from slackwater.postgres.lanes import Prepare
from slackwater.postgres.pool import Database, Row
from slackwater.postgres.prepared import HotStatement
from slackwater.runtime.events.journal import Journal
from slackwater.runtime.execution.checkpointer import RunSaver
from slackwater.runtime.fenced.stores import STORE
from slackwater.runtime.fenced.writer import Forgotten, Writer
from slackwater.runtime.queue.lease import Lease
from tests.support.sessions import until_waiting

_THREAD = "insert into slackwater.threads (thread_id, owner, fence) values (%s, 'me', 1)"
_RUN = """
insert into slackwater.runs (run_id, thread_id, owner, assistant_id, graph_id, status, holds_thread, worker, fence,
  lease_until)
values (%s, %s, 'me', %s, 'g', 'running', true, 'w', 1, clock_timestamp() + interval '1 minute')"""
_TABLES = (
    "checkpoints",
    "checkpoint_blobs",
    "checkpoint_writes",
    "slackwater.base_writes",
    "slackwater.run_events",
)


class Watched(Database):
    """A database that remembers what it was asked, and whose next batch may lose its answer, or never arrive."""

    def __init__(self, uri: str, **options: Any) -> None:
        super().__init__(uri, max_size=8, statement_seconds=10, name="watched", **options)
        self.batches: list[int] = []
        """How many runs there were in each batch of stores."""
        self.alone = 0
        """How many statements stored what a single run has said."""
        self.lose: Callable[[], None] | None = None
        """Raises what becomes of the next batch once it is committed."""
        self.refuse: Callable[[], None] | None = None
        """Raises what becomes of it before it is sent."""

    async def write(self, *asked: HotStatement) -> list[list[Row]]:
        self.batches += [len(params["r0"].values) for _, params in asked if "r0" in params]
        refuse, self.refuse = self.refuse, None
        if refuse is not None:
            refuse()
        answers = await super().write(*asked)
        lose, self.lose = self.lose, None
        if lose is not None:
            lose()
        return answers

    async def fetch_one(self, sql: Any, params: Any = None) -> Row | None:
        self.alone += "owned" in str(sql)
        return await super().fetch_one(sql, params)


def trouble() -> None:
    raise OperationalError("the answer was lost")


@pytest.fixture
async def watched(database_uri: str, database: Database) -> AsyncIterator[Watched]:
    watched = Watched(database_uri)
    await watched.open()
    yield watched
    await watched.close(1)


@pytest.fixture
async def together(watched: Watched) -> AsyncIterator[GroupCommit]:
    commit = GroupCommit(watched)
    yield commit
    await commit.stop(1)


async def owned(commit: GroupCommit, database: Database, **options: Any) -> RunSaver:
    """A saver whose run this process owns."""
    run_id, thread_id = uuid7(), uuid7()
    await database.execute(_THREAD, (thread_id,))
    await database.execute(_RUN, (run_id, thread_id, uuid4()))
    lease = Lease(run_id, thread_id, 1, "w", time.monotonic() + 60)
    return RunSaver(database, Writer(database, lease, Journal(1), commit), **options)


async def owners(commit: GroupCommit, database: Database, number: int) -> list[RunSaver]:
    return [await owned(commit, database) for _ in range(number)]


def config_of(saver: RunSaver, checkpoint_id: str | None = None) -> RunnableConfig:
    its_id = {"checkpoint_id": checkpoint_id} if checkpoint_id else {}
    return {"configurable": {"thread_id": str(saver.writer.lease.thread_id), "checkpoint_ns": "", **its_id}}


async def put(saver: RunSaver, value: Any = "a") -> str:
    """A checkpoint of the run, with an event."""
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"log": [value]}
    checkpoint["channel_versions"] = {"log": "1"}
    saver.writer.publish("values", b'{"log":1}')
    await saver.aput(config_of(saver), checkpoint, {"source": "loop", "step": 0}, {"log": "1"})
    return checkpoint["id"]


async def all_put(savers: Sequence[RunSaver], values: Sequence[Any] = ()) -> list[Any]:
    """What became of a checkpoint of each, put in one turn of the loop."""
    values = values or ["a"] * len(savers)
    puts = [put(saver, value) for saver, value in zip(savers, values, strict=True)]
    return await asyncio.gather(*puts, return_exceptions=True)


@asynccontextmanager
async def every_store_hangs(watched: Watched) -> AsyncIterator[None]:
    """Somebody has locked what all of them write to."""
    async with watched.connection() as holder, holder.transaction():
        await holder.execute("lock table checkpoint_blobs in share mode")
        yield


async def a_batch_is_sent(watched: Watched) -> None:
    while not watched.batches:
        await asyncio.sleep(0)


async def stored(database: Database, saver: RunSaver) -> tuple[int, int, int]:
    """How many checkpoints, blobs and events of it there are."""
    row = await database.fetch_one(
        "select (select count(*) from checkpoints where thread_id = %(t)s::text) as c,"
        " (select count(*) from checkpoint_blobs where thread_id = %(t)s::text) as b,"
        " (select count(*) from slackwater.run_events where thread_id = %(t)s::uuid) as e",
        {"t": str(saver.writer.lease.thread_id)},
    )
    assert row is not None
    return row["c"], row["b"], row["e"]


WHOLE = (1, 1, 1)
NOTHING = (0, 0, 0)


async def test_what_many_say_in_one_turn_is_one_statement_and_each_knows_what_it_has_stored(
    watched: Watched, together: GroupCommit
) -> None:
    savers = await owners(together, watched, 5)
    ids = await all_put(savers)
    assert (watched.batches, watched.alone) == ([5], 0)
    for saver, checkpoint_id in zip(savers, ids, strict=True):
        assert await stored(watched, saver) == WHOLE
        row = await watched.fetch_one(
            "select input_applied, input_step from slackwater.runs where run_id = %s",
            [saver.writer.lease.run_id],
        )
        assert row == {"input_applied": True, "input_step": -1}
        assert (saver.writer.head_id, saver.writer.input_applied, saver.writer.journal.unwritten) == (
            checkpoint_id,
            True,
            0,
        )
        # A failover is asked for it.
        assert saver.writer.lease.acknowledged["writer"].key == {"event_seq": 1}
    # and what belongs together has committed together
    rows = await watched.fetch(
        "select count(distinct x.xmin::text) as n from "
        "(select xmin from checkpoints union all select xmin from slackwater.run_events) x"
    )
    assert rows == [{"n": 1}]


async def test_what_gathers_for_a_run_while_it_waits_goes_with_the_same_batch(
    watched: Watched, together: GroupCommit
) -> None:
    saver, other = await owners(together, watched, 2)
    first = await put(saver)
    watched.batches.clear()
    writing = asyncio.gather(
        saver.aput_writes(config_of(saver, first), [("log", "x")], str(uuid4())), put(other)
    )
    await asyncio.sleep(0)
    await asyncio.gather(writing, put(saver, "b"))
    assert watched.batches == [2]
    rows = await watched.fetch(
        "select w.xmin = c.xmin as together from checkpoint_writes w, checkpoints c "
        "where c.thread_id = w.thread_id and c.checkpoint_id > w.checkpoint_id"
    )
    assert rows == [{"together": True}]


@pytest.mark.parametrize(
    "what",
    [
        "update slackwater.runs set fence = fence + 1 where run_id = %s",
        "update slackwater.runs set worker = 'x' where run_id = %s",
        "update slackwater.runs set status = 'success', holds_thread = false where run_id = %s",
        "delete from slackwater.runs where run_id = %s",
    ],
    ids=["taken over", "another worker's", "ended", "deleted"],
)
async def test_who_has_lost_its_lease_is_the_only_one_who_stores_nothing(
    watched: Watched, together: GroupCommit, what: str
) -> None:
    savers = await owners(together, watched, 3)
    stale = savers[1]
    await watched.execute(what, (stale.writer.lease.run_id,))
    answers = await all_put(savers)
    assert [type(answer) for answer in answers] == [str, LeaseLost, str]
    assert watched.batches == [3]
    assert [await stored(watched, saver) for saver in savers] == [WHOLE, NOTHING, WHOLE]
    assert stale.writer.lease.lost
    assert not savers[0].writer.lease.lost


async def test_a_run_that_is_taken_over_while_its_batch_is_on_its_way_stores_nothing(
    watched: Watched, together: GroupCommit
) -> None:
    savers = await owners(together, watched, 2)
    async with watched.connection() as taker, taker.transaction():
        await taker.execute(
            "update slackwater.runs set fence = fence + 1 where run_id = %s", [savers[1].writer.lease.run_id]
        )
        putting = asyncio.ensure_future(all_put(savers))
        # Its row is locked: the neighbour does not wait for that.
        while await stored(watched, savers[0]) != WHOLE:
            await asyncio.sleep(0.005)
        assert not putting.done()
    answers = await putting
    assert [type(answer) for answer in answers] == [str, LeaseLost]
    assert await stored(watched, savers[1]) == NOTHING


async def test_of_another_epoch_each_run_is_looked_at_alone_and_goes_on(
    watched: Watched, together: GroupCommit
) -> None:
    savers = await owners(together, watched, 2)
    # As after a failover that has forgotten nothing of it.
    await watched.execute(
        "update slackwater.runs set epoch = epoch + 7 where run_id = %s", [savers[0].writer.lease.run_id]
    )
    answers = await all_put(savers)
    assert [type(answer) for answer in answers] == [str, str]
    assert [await stored(watched, saver) for saver in savers] == [WHOLE, WHOLE]
    assert watched.alone > 0
    row = await watched.fetch_one(
        "select bool_and(epoch = slackwater.epoch()) as now from slackwater.runs where status = 'running'"
    )
    assert row == {"now": True}


@pytest.mark.parametrize("lock", ["update", "no key update"])
@pytest.mark.parametrize("superstep", ["a", "b"], ids=["the input", "a superstep"])
async def test_a_row_that_is_locked_elsewhere_delays_only_its_own_run(
    watched: Watched, together: GroupCommit, lock: str, superstep: str
) -> None:
    savers = await owners(together, watched, 3)
    if superstep == "b":  # which shares the row, where the input updates it
        await put(savers[0])
    async with watched.connection() as holder, holder.transaction():
        await holder.execute(
            f"select 1 from slackwater.runs where run_id = %s for {lock}",  # type: ignore[arg-type]
            [savers[0].writer.lease.run_id],
        )
        waiting = asyncio.ensure_future(put(savers[0], superstep))
        async with asyncio.timeout(8):
            await all_put(savers[1:])
            await all_put(savers[1:], ["b", "b"])
        assert not waiting.done()
    await waiting
    assert await stored(watched, savers[0]) == (WHOLE if superstep == "a" else (2, 1, 2))


async def test_an_input_is_stored_beside_a_share_of_its_run_and_waits_for_it_alone(
    watched: Watched, together: GroupCommit
) -> None:
    savers = await owners(together, watched, 2)
    async with watched.connection() as holder, holder.transaction():
        # As a node of the run that writes to the store, under the same fence.
        await holder.execute(
            "select 1 from slackwater.runs where run_id = %s for share", [savers[0].writer.lease.run_id]
        )
        waiting = asyncio.ensure_future(put(savers[0]))
        async with asyncio.timeout(8):
            await put(savers[1])
        assert not waiting.done()
    await waiting
    # Once it is applied, both share the row.
    async with watched.connection() as holder, holder.transaction():
        await holder.execute(
            "select 1 from slackwater.runs where run_id = %s for share", [savers[0].writer.lease.run_id]
        )
        async with asyncio.timeout(8):
            await put(savers[0], "b")


@pytest.mark.parametrize("poison", ["a NUL", "a lone surrogate", "too large for an index"])
async def test_what_the_database_does_not_take_fails_alone(
    watched: Watched, together: GroupCommit, poison: str
) -> None:
    savers = await owners(together, watched, 3)
    first = await all_put(savers)
    channel = {"a NUL": "a\0b", "a lone surrogate": "\ud800", "too large for an index": "x"}[poison]
    task = "x" * 20 if poison != "too large for an index" else "".join(str(uuid4()) for _ in range(5000))
    writing = [
        saver.aput_writes(
            config_of(saver, checkpoint_id),
            [(channel if saver is savers[1] else "log", 1)],
            task if saver is savers[1] else "t",
        )
        for saver, checkpoint_id in zip(savers, first, strict=True)
    ]
    answers = await asyncio.gather(*writing, return_exceptions=True)
    assert answers[0] is answers[2] is None
    assert isinstance(answers[1], Exception)
    assert not isinstance(answers[1], LeaseLost)
    rows = await watched.fetch("select thread_id from checkpoint_writes order by 1")
    assert [row["thread_id"] for row in rows] == sorted(
        str(s.writer.lease.thread_id) for s in (savers[0], savers[2])
    )
    assert savers[1].writer.failure is answers[1]
    assert savers[0].writer.failure is None


async def test_what_cannot_be_serialised_gets_into_no_batch(watched: Watched, together: GroupCommit) -> None:
    savers = await owners(together, watched, 3)
    answers = await all_put(savers, ["a", threading.Lock(), "b"])
    assert [type(answer) for answer in answers] == [str, TypeError, str]
    assert watched.alone == 0
    assert [await stored(watched, saver) for saver in (savers[0], savers[2])] == [WHOLE] * 2
    # A run whose own checkpoint is missing does not go on.
    assert savers[1].writer.failure is answers[1]
    assert (await stored(watched, savers[1]))[:2] == (0, 0)


@pytest.mark.pgbouncer
@pytest.mark.parametrize("prepare", ["auto", "always", "never"])
async def test_a_batch_goes_through_a_transaction_pooler(
    pgbouncer: Callable[..., str], database: Database, prepare: Prepare
) -> None:
    watched = Watched(pgbouncer(pool_size=3), prepare=prepare)
    await watched.open()
    together = GroupCommit(watched)
    savers = await owners(together, watched, 12)
    for value in range(3):
        await all_put(savers, [value] * 12)
    assert (watched.batches, watched.alone) == ([12] * 3, 0)
    assert [await stored(database, saver) for saver in savers] == [(3, 1, 3)] * 12
    await together.stop(1)
    await watched.close(1)


async def test_an_answer_that_is_lost_is_asked_for_again_alone_and_changes_nothing(
    watched: Watched, together: GroupCommit
) -> None:
    savers = await owners(together, watched, 3)
    watched.lose = trouble
    ids = await all_put(savers)
    assert [type(checkpoint_id) for checkpoint_id in ids] == [str] * 3
    assert (watched.batches, watched.alone) == ([3], 3)
    # The repetition found everything there: each row is still the batch's own.
    rows = await watched.fetch(
        "select count(distinct x.xmin::text) as n from (select xmin from checkpoint_blobs union all "
        "select xmin from slackwater.run_events) x"
    )
    assert rows == [{"n": 1}]
    assert [await stored(watched, saver) for saver in savers] == [WHOLE] * 3
    assert all(saver.writer.journal.unwritten == 0 for saver in savers)


async def test_a_batch_that_never_arrived_is_said_again_alone(
    watched: Watched, together: GroupCommit
) -> None:
    savers = await owners(together, watched, 3)
    watched.refuse = trouble
    await all_put(savers)
    assert (watched.batches, watched.alone) == ([3], 3)
    assert [await stored(watched, saver) for saver in savers] == [WHOLE] * 3
    # and the next one is said together again
    await all_put(savers, ["b"] * 3)
    assert watched.batches == [3, 3]


async def test_a_batch_has_no_more_bytes_and_no_more_items_than_it_may(
    watched: Watched, together: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    savers = await owners(together, watched, 6)
    large = "x" * (group_commit.BATCH_BYTES // 2)
    # Three large ones, no two of which go together, and whatever there is room for beside each.
    await all_put(savers, [large, large, large, "a", "a", "a"])
    assert sum(watched.batches) == 6
    assert sorted(watched.batches) == [1, 1, 4]
    # A single one may be larger than a batch.
    watched.batches.clear()
    await all_put(savers[:2], ["x" * (2 * group_commit.BATCH_BYTES), "b"])
    assert sorted(watched.batches) == [1, 1]
    monkeypatch.setattr(group_commit, "BATCH_ITEMS", 2)
    watched.batches.clear()
    await all_put(savers, ["c"] * 6)
    assert watched.batches == [2, 2, 2]
    assert [(await stored(watched, saver))[0] for saver in savers] == [3, 3, 2, 2, 2, 2]


async def test_a_large_state_on_its_way_does_not_hold_up_others(
    watched: Watched, together: GroupCommit
) -> None:
    large, small = await owners(together, watched, 2)
    await all_put([large, small])
    large_id = large.writer.head_id
    async with watched.connection() as holder, holder.transaction():
        # Its insert waits, in the middle of its batch, as long as this transaction lasts.
        await holder.execute(
            "insert into checkpoint_writes (thread_id, checkpoint_id, task_id, idx, channel, blob) "
            "values (%s, %s, 't', 0, 'x', '')",
            [str(large.writer.lease.thread_id), large_id],
        )
        waiting = asyncio.ensure_future(
            large.aput_writes(config_of(large, large_id), [("log", "x" * 100_000)], "t")
        )
        await until_waiting(watched.conninfo)
        async with asyncio.timeout(8):
            for value in range(5):
                await put(small, value)
        assert not waiting.done()
    await waiting


async def put_one_after_another(
    watched: Watched, savers: Sequence[RunSaver], values: Sequence[Any], *, sent: int
) -> list[asyncio.Future[str]]:
    """Puts that are on their way or wait, each begun when those before have come as far as they can; `sent` batches are."""
    puts: list[asyncio.Future[str]] = []
    for saver, value in zip(savers, values, strict=True):
        puts.append(asyncio.ensure_future(put(saver, value)))
        async with asyncio.timeout(5):
            while len(watched.batches) < min(len(puts), sent):
                await asyncio.sleep(0.001)
        for _ in range(8):
            await asyncio.sleep(0)
    return puts


@pytest.mark.parametrize(
    ("prompt_seconds", "first", "batches"),
    [
        (600.0, "b", [1, 5]),
        (600.0, "b" * (group_commit.PROMPT_BYTES + 1), [1, 1, 4]),
        (0.0, "b", [1, 1, 1, 3]),
    ],
    ids=["small", "large", "late"],
)
async def test_what_comes_waits_for_a_batch_unless_that_is_large_or_late(
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    prompt_seconds: float,
    first: str,
    batches: list[int],
) -> None:
    monkeypatch.setattr(group_commit, "PROMPT_SECONDS", prompt_seconds)
    commit = GroupCommit(watched)
    savers = await owners(commit, watched, 6)
    await all_put(savers)
    watched.batches.clear()
    async with every_store_hangs(watched):
        puts = await put_one_after_another(watched, savers, [first, *"bbbbb"], sent=len(batches) - 1)
        assert watched.batches == batches[:-1]
    await asyncio.gather(*puts)
    assert watched.batches == batches
    assert [await stored(watched, saver) for saver in savers] == [(2, 1, 2)] * 6
    await commit.stop(1)


async def test_no_more_than_its_number_of_batches_is_on_its_way_and_the_next_has_all_that_gathered(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "PROMPT_SECONDS", 0.0)
    commit = GroupCommit(watched, in_flight=2)
    savers = await owners(commit, watched, 6)
    await all_put(savers)
    watched.batches.clear()
    async with every_store_hangs(watched):
        puts = await put_one_after_another(watched, savers, "bbbbbb", sent=2)
        assert watched.batches == [1, 1]
    await asyncio.gather(*puts)
    assert watched.batches == [1, 1, 4]
    await commit.stop(1)


# What ends it


async def test_a_shut_gate_answers_everybody(watched: Watched, together: GroupCommit) -> None:
    savers = await owners(together, watched, 3)
    watched.gate.shut()
    answers = await all_put(savers)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 3
    assert watched.batches == []
    assert [await stored(watched, saver) for saver in savers] == [NOTHING] * 3
    assert await together.send(STORE, savers[0]) is None


async def test_a_batch_that_hangs_ends_within_the_time_that_is_left_and_nobody_waits_for_it(
    watched: Watched,
) -> None:
    commit = GroupCommit(watched, in_flight=1)
    savers = await owners(commit, watched, 2)
    async with every_store_hangs(watched):
        hanging = asyncio.ensure_future(put(savers[0]))
        await a_batch_is_sent(watched)
        waiting = asyncio.ensure_future(commit.send(STORE, savers[1]))
        await asyncio.sleep(0)
        savers[0].writer.abandon()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        async with asyncio.timeout(5):
            await commit.stop(0.4)
            assert await waiting is None
        assert await commit.send(STORE, savers[1]) is None
        watched.gate.shut()
        assert await watched.gate.quiesce(2)
    assert [await stored(watched, saver) for saver in savers] == [NOTHING] * 2
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "group-commit"]


async def test_who_does_not_wait_any_more_is_not_sent(watched: Watched) -> None:
    commit = GroupCommit(watched, in_flight=1)
    savers = await owners(commit, watched, 3)
    await all_put(savers)
    watched.batches.clear()
    async with every_store_hangs(watched):
        puts = [asyncio.ensure_future(put(saver, "b")) for saver in savers[:1]]
        await a_batch_is_sent(watched)
        puts += [asyncio.ensure_future(put(saver, "b")) for saver in savers[1:]]
        for _ in range(8):
            await asyncio.sleep(0)
        savers[1].writer.abandon()
    answers = await asyncio.gather(*puts, return_exceptions=True)
    assert [type(answer) for answer in answers] == [str, asyncio.CancelledError, str]
    assert watched.batches == [1, 1]
    await commit.stop(1)


@pytest.mark.parametrize(
    ("what", "says"), [("lost", LeaseLost), ("forgotten", Forgotten)], ids=["lost", "forgotten"]
)
async def test_who_may_write_no_more_hears_so_while_every_batch_hangs(
    watched: Watched, what: str, says: type[Exception]
) -> None:
    commit = GroupCommit(watched, in_flight=1)
    savers = await owners(commit, watched, 2)
    async with every_store_hangs(watched):
        hanging = asyncio.ensure_future(put(savers[0]))
        await a_batch_is_sent(watched)
        setattr(savers[1].writer.lease, what, True)
        async with asyncio.timeout(5):
            with pytest.raises(says):
                await put(savers[1])
            # Also the events that it still has are nobody's any more.
            savers[1].writer.journal.append("custom", b"1")
            with pytest.raises(says):
                await savers[1].writer.flush()
        assert not hanging.done()
    await hanging
    assert await stored(watched, savers[1]) == NOTHING
    await commit.stop(1)


@pytest.mark.parametrize("bound", ["its time", "a drain"])
async def test_those_in_a_batch_that_does_not_end_say_it_again_alone(
    watched: Watched, together: GroupCommit, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    if bound == "its time":
        monkeypatch.setattr(group_commit, "BATCH_SECONDS", 0.2)
    savers = await owners(together, watched, 3)
    first = await all_put(savers)
    async with watched.connection() as holder, holder.transaction():
        # The batch waits in the middle for a row of one of them.
        await holder.execute(
            "insert into checkpoint_writes (thread_id, checkpoint_id, task_id, idx, channel, blob) "
            "values (%s, %s, 't', 0, 'x', '')",
            [str(savers[0].writer.lease.thread_id), first[0]],
        )
        writing = [
            asyncio.ensure_future(saver.aput_writes(config_of(saver, its_id), [("log", 1)], "t"))
            for saver, its_id in zip(savers, first, strict=True)
        ]
        while watched.batches != [3, 3]:
            await asyncio.sleep(0)
        if bound == "a drain":
            assert not (await asyncio.wait(writing, timeout=0.1))[0]
            together.let_go()
            together.let_go()
        async with asyncio.timeout(5):
            await asyncio.gather(*writing[1:])
            # What they say next is said together again.
            await all_put(savers[1:], ["b", "b"])
        assert watched.batches == [3, 3, 2]
        assert not writing[0].done()
    await writing[0]
    rows = await watched.fetch("select thread_id from checkpoint_writes where task_id = 't' order by 1")
    assert [row["thread_id"] for row in rows] == sorted(str(saver.writer.lease.thread_id) for saver in savers)


async def test_who_is_alone_in_its_batch_has_a_statements_own_time(
    watched: Watched, together: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "BATCH_SECONDS", 0.1)
    (saver,) = await owners(together, watched, 1)
    async with every_store_hangs(watched):
        putting = asyncio.ensure_future(put(saver))
        assert not (await asyncio.wait({putting}, timeout=0.4))[0]
    await putting
    assert (watched.batches, watched.alone) == ([1], 0)


async def test_other_kinds_go_in_the_same_transaction_and_are_answered_each_by_its_position(
    watched: Watched, together: GroupCommit
) -> None:
    def statement(items: Sequence[int]) -> HotStatement:
        return (
            "select n, v * 10 as v, pg_current_xact_id()::text as x "
            "from unnest(%(v)s::int[]) with ordinality as i(v, n) where v <> 2 order by n desc",
            {"v": IntArray(items)},
        )

    times_ten: Kind[int] = Kind("times ten", statement, lambda item: 4)
    saver = await owned(together, watched)
    answers = await asyncio.gather(*(together.send(times_ten, item) for item in (1, 2, 3)), put(saver))
    rows = answers[:3]
    assert [row and row["v"] for row in rows] == [10, None, 30]
    found = await watched.fetch("select xmin::text as x from checkpoints")
    assert found == [{"x": rows[0]["x"]}]


# The same rows


async def _history(savers: Sequence[RunSaver]) -> None:
    """Everything that a writer stores, by all of them at the same time."""
    ids = await asyncio.gather(*(_put_known(saver, 0) for saver in savers))
    for step in range(1, 4):
        writing = []
        for saver, checkpoint_id in zip(savers, ids, strict=True):
            config = config_of(saver, checkpoint_id)
            writing += [
                saver.aput_writes(
                    config, [("log", step), ("other", None), ("log", b"\0\1")], f"t{step}", "~p"
                ),
                saver.aput_writes(config, [("__interrupt__", ["?"])], f"t{step}"),
                saver.aput_writes(config, [("__error__", "no")], f"u{step}"),
                # The same again, which changes the one and not the other.
                saver.aput_writes(config, [("log", "later")], f"t{step}", "~p"),
                saver.aput_writes(config, [("__error__", "yes")], f"u{step}"),
            ]
            saver.writer.publish("updates", b'{"step":%d}' % step)
            saver.writer.publish("custom", '{"ä":"\\u0000"}'.encode())
        await asyncio.gather(*writing)
        ids = await asyncio.gather(*(_put_known(saver, step) for saver in savers))


async def _put_known(saver: RunSaver, step: int) -> str:
    """A checkpoint that is the same each time, in two namespaces."""
    checkpoint = empty_checkpoint()
    checkpoint["id"], checkpoint["ts"] = f"1f000000-0000-6000-8000-{step:012d}", "2026-01-01T00:00:00+00:00"
    checkpoint["channel_values"] = {"log": ["x" * step, {"a": 1}], "n": step, "none": None, "s": "ä"}
    checkpoint["channel_versions"] = {"log": f"{step}", "n": "1"}
    for namespace in ("", "inner:1"):
        config: RunnableConfig = {
            "configurable": {"thread_id": str(saver.writer.lease.thread_id), "checkpoint_ns": namespace}
        }
        metadata: Any = {"source": "loop", "step": step, "run_id": "r"}
        await saver.aput(config, checkpoint, metadata, {"log": f"{step}", "gone": "2"})
    return checkpoint["id"]


async def _dump(database: Database, savers: Sequence[RunSaver]) -> dict[str, Any]:
    """All rows that the history has left, without what no two runs have in common."""
    names = {str(s.writer.lease.thread_id): n for n, s in enumerate(savers)} | {
        str(s.writer.lease.run_id): n for n, s in enumerate(savers)
    }
    found: dict[str, Any] = {}
    for table in _TABLES:
        rows = await database.fetch(f"select to_jsonb(x) - 'created_at' as row from {table} x")
        found[table] = sorted(
            str({key: names.get(str(value), value) for key, value in row["row"].items()}) for row in rows
        )
    runs = await database.fetch("select run_id, input_applied, input_step from slackwater.runs")
    found["runs"] = sorted((names[str(r["run_id"])], r["input_applied"], r["input_step"]) for r in runs)
    return found


async def test_the_rows_are_the_same_bit_by_bit_as_those_of_single_statements(watched: Watched) -> None:
    dumps = []
    for group in (True, False):
        commit = GroupCommit(watched)
        if not group:
            await commit.stop(0)  # whoever asks it then is told to say it alone
        savers = await owners(commit, watched, 4)
        for number, saver in enumerate(savers):
            saver.writer.input_step = number
        watched.batches, watched.alone = [], 0
        await _history(savers)
        assert (bool(watched.batches), bool(watched.alone)) == (group, not group)
        dumps.append(await _dump(watched, savers))
        for table in (*_TABLES, "slackwater.runs", "slackwater.threads"):
            await watched.execute(f"delete from {table}")
        await commit.stop(1)
    assert dumps[0] == dumps[1]
    assert all(dumps[0][table] for table in _TABLES if table != "slackwater.base_writes")
    assert dumps[0]["runs"] == [(number, True, number) for number in range(4)]
