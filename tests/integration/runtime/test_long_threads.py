"""What is done with a thread costs the same whatever has happened on it before: with five runs, and with five thousand.

Each statement is explained where it is sent, with what it really finds, and then carried out. The pages that its scans look
at are counted: they do not depend on how busy the machine is.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import aclosing, suppress
from typing import Any
from uuid import UUID

import pytest
from helm import Helm
from plans import believe, pages
from rig import ASSISTANT, CUT, OWNER, Fleet, Process

from slackwater.api.runs import queries as runs
from slackwater.api.threads import queries as threads
from slackwater.api.threads.models import ThreadSearch
from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database
from slackwater.protocols.a2a import queries as tasks
from slackwater.protocols.events import queries as protocol
from slackwater.runtime.events.journal import EventId
from slackwater.runtime.process import takeover
from slackwater.runtime.queue.admission import ThreadBusy
from slackwater.runtime.queue.batch import Batch

SHORT, LONG = 5, 5000
"""Runs that a thread has had. Each has stored two checkpoints of the thread and one of a subgraph."""

MOST = 1.3
"""So many times the pages, at most, may be looked at on the long thread."""

SPARE = 8
"""And so many more: leaves of an index that the two threads do not share, and what the explained statements leave behind."""

OTHERS = """
insert into slackwater.threads (thread_id, owner) select gen_random_uuid(), 'owner ' || n % 20 from generate_series(1, 20000) n;
insert into slackwater.runs (run_id, thread_id, owner, assistant_id, graph_id, status, ended_at, fence)
  select gen_random_uuid(), thread_id, owner, gen_random_uuid(), 'line', 'success', now(), 1 from slackwater.threads;
-- Many are worked on, and many wait.
update slackwater.runs r set status = case when n < 500 then 'running' else 'pending' end, ended_at = null, ready = n >= 500,
    holds_thread = n < 500, worker = case when n < 500 then 'w' end,
    lease_until = case when n < 500 then now() + interval '1 hour' end, available_at = now() + interval '1 hour'
  from (select run_id, row_number() over () as n from slackwater.runs limit 3000) x where r.run_id = x.run_id;
insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata)
  select thread_id::text, '', n::text, '{}', '{}' from slackwater.threads, generate_series(1, 2) n;
"""

PAST = (
    """insert into slackwater.runs
      (run_id, thread_id, owner, assistant_id, graph_id, status, ended_at, created_at, fence, attempt)
    select gen_random_uuid(), %(thread)s, %(owner)s, %(assistant)s, 'line', 'success', now(),
      now() - n * interval '1 minute', n + 1, 1 from generate_series(1, %(runs)s) n""",
    """insert into slackwater.run_events (run_id, fence, seq, thread_id, event, data)
    select run_id, fence, s, thread_id, 'values', '{}' from slackwater.runs, generate_series(1, 2) s
    where thread_id = %(thread)s and fence > 1""",
    """insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata)
    select %(thread)s::uuid::text, case when s = 3 then 'child:' || gen_random_uuid() else '' end,
      '00' || lpad(n::text, 8, '0') || s, '{}', jsonb_build_object('run_id', n)
    from generate_series(1, %(runs)s) n, generate_series(1, 3) s""",
    """insert into checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob)
    select thread_id, checkpoint_ns, checkpoint_id, 'task', 0, 'log', 'null', '' from checkpoints
    where thread_id = %(thread)s::uuid::text and checkpoint_id like '00%%'""",
    "update slackwater.threads set fence = %(runs)s + 1 where thread_id = %(thread)s",
)
"""What has happened on a thread after its first run. The ids of these checkpoints are older than any real one."""


class Meter:
    """How many pages the scans of each statement have looked at, at most."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.pages: defaultdict[str, int] = defaultdict(int)
        fetch, fetch_page, execute = Database.fetch, Database.fetch_page, Database.execute

        async def fetching(database: Database, sql: Any, params: Any = None) -> Any:
            await self._alone(database, sql, params)
            return await fetch(database, sql, params)

        async def paging(database: Database, sql: Any, params: Any, limit: int) -> Any:
            await self._alone(database, sql, params)
            return await fetch_page(database, sql, params, limit)

        async def executing(database: Database, sql: Any, params: Any = None) -> Any:
            await self._alone(database, sql, params)
            return await execute(database, sql, params)

        async def pipelining(database: Database, *statements: Any) -> Any:
            answers = []
            async with database.connection() as connection, connection.transaction():
                for sql, params in statements:
                    await self._explain(connection, sql, params)
                    cursor = await connection.execute(sql, params)
                    answers.append(await cursor.fetchall() if cursor.description else [])
            return answers

        for name, method in (
            ("fetch", fetching),
            ("fetch_page", paging),
            ("execute", executing),
            ("pipeline", pipelining),
            ("write", pipelining),
        ):
            patch.setattr(Database, name, method)

    async def _alone(self, database: Database, sql: str, params: Any) -> None:
        async with database.connection() as connection:
            await self._explain(connection, sql, params)

    async def _explain(self, connection: Any, sql: str, params: Any) -> None:
        async with connection.transaction(force_rollback=True):
            cursor = await connection.execute(f"explain (analyze, buffers, format json) {sql}", params)
            row = await cursor.fetchone()
        self.pages[sql] = max(self.pages[sql], pages(row["QUERY PLAN"][0]["Plan"]))


async def story(fleet: Fleet, process: Process, other: Process, helm: Helm, thread_id: UUID) -> None:
    """All that happens to runs, and all that is asked of them, on one thread."""
    on = {"thread_id": thread_id, "create_thread": False}
    database = process.database
    # One is worked on, one waits and is cancelled, one displaces.
    hold = helm.hold("b")
    first = (await process.admit("line", **on)).row["run_id"]
    await asyncio.wait_for(hold.reached.wait(), 10)
    second = (await process.admit("line", **on)).row["run_id"]
    with suppress(ThreadBusy):
        await process.admit("line", strategy="reject", **on)
    for status in (None, "pending", "running", "success", "error", "timeout", "interrupted"):
        await runs.list_(database, OWNER, thread_id, status=status, limit=10, offset=0)
    await runs.get(database, OWNER, thread_id, second)
    await process.cancel(thread_id, second)
    await protocol.look(database, OWNER, thread_id)
    # Its process is lost.
    await process.die()
    helm.hooks.clear()
    await fleet.expire(first)
    await takeover.take_over_all(other.runtime, Batch(100, 500))
    database = other.database
    await other.read(first)
    # It is cut in the middle of the last one, and displaced, and undone.
    for strategy in ("interrupt", "rollback"):
        hold = helm.hold("c")
        await other.admit("line", **on)
        await asyncio.wait_for(hold.reached.wait(), 10)
        helm.hooks.clear()
        last = (await other.admit("line", strategy=strategy, **on)).row["run_id"]
        hold.let_go()
        await other.read(last)
    # What reads it.
    log = other.runtime.thread_log
    newest = await log.newest(OWNER, thread_id)
    async with aclosing(log.follow(OWNER, thread_id, EventId(newest.fence - 1, 0))) as batches:
        await anext(batches)
    await protocol.newest_run(database, OWNER, thread_id)
    await protocol.look(database, OWNER, thread_id)
    await tasks.newest(database, OWNER, ASSISTANT, thread_id, last)
    await threads.find(database, OWNER, thread_id)
    await threads.search(database, OWNER, [], ThreadSearch(limit=10))
    await other.runtime.refresh_thread(thread_id)
    async with other.runtime.hold(thread_id, owner=OWNER, graph_id="line", assistant_id=ASSISTANT):
        pass
    await runs.delete(database, OWNER, thread_id, last)
    # One is handed over.
    hold = helm.hold("b")
    await other.admit("line", **on)
    await asyncio.wait_for(hold.reached.wait(), 10)
    await other.stop(**CUT)


async def test_nothing_costs_more_where_much_has_happened_before(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet.database.connection() as connection:
        for statement in OTHERS.split(";\n"):
            await connection.execute(statement)  # type: ignore[arg-type]
    costs = []
    lengths = {SHORT: uuid7(), LONG: uuid7()}
    begin = await fleet.start()
    for length, thread_id in lengths.items():
        admitted = await begin.admit("line", thread_id=thread_id)
        await begin.read(admitted.row["run_id"])
        params = {"thread": thread_id, "owner": OWNER, "assistant": ASSISTANT, "runs": length}
        await fleet.database.pipeline(*((statement, params) for statement in PAST))
    await begin.stop()
    async with fleet.database.connection() as connection:
        await connection.execute("vacuum analyze")
        await believe(connection)
    for thread_id in lengths.values():
        helm.reset()
        process, other = await fleet.start(linked=True), await fleet.start()
        with monkeypatch.context() as patch:
            meter = Meter(patch)
            await story(fleet, process, other, helm, thread_id)
        costs.append(meter.pages)
    short, long = costs
    assert len(short) > 40
    bad = [
        f"{short[statement]} and {looked_at} pages:\n{statement}"
        for statement, looked_at in long.items()
        if statement in short and looked_at > short[statement] * MOST + SPARE
    ]
    assert not bad, "\n\n".join(bad)
