"""What every sweep and every claim reads, however much there is: a few rows by an index, and never a table.

The statements are those that a process really sends. The planner is told that there are three million events and a million
runs and threads; so many rows as are examined could not be fewer with all of them there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from plans import believe, examined, read_whole
from rig import Fleet, new_run

from slackwater.api.crons import queries as crons
from slackwater.api.threads import queries as threads
from slackwater.api.threads.models import ThreadSearch
from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database, Row
from slackwater.postgres.shares import Shares
from slackwater.runtime.fenced import settlements
from slackwater.runtime.fenced.settlement import End, HandOver, ThreadFacts, Whose
from slackwater.runtime.queue import admissions, claims, retention
from slackwater.runtime.queue.admission import parameters
from slackwater.runtime.queue.lease import Lease
from slackwater.runtime.queue.limits import UNLIMITED
from slackwater.runtime.queue.many import dumped
from slackwater.runtime.queue.states import RunStatus, Stopped
from slackwater.webhooks import queries as webhooks

THREADS = 20_000
MOST_ROWS = 4000
"""A statement may look at so many rows, a fifth of the smallest table here: it is bounded by its limit, not by a table."""

LOAD = f"""
insert into slackwater.assistants (assistant_id, owner, graph_id, name)
  values ('00000000-0000-4000-8000-000000000001', 'a', 'line', 'line');
insert into slackwater.threads (thread_id, owner, status, updated_at, ttl_minutes, ttl_strategy)
  select gen_random_uuid(), 'owner ' || n % 20, 'idle', now() - n * interval '1 second', case when n % 3 = 0 then 1e6 end,
    case when n % 3 = 0 then 'delete' end from generate_series(1, {THREADS}) n;
-- Nearly all runs have ended, half of them longer ago than their events are kept.
insert into slackwater.runs (run_id, thread_id, owner, assistant_id, graph_id, status, kwargs, ended_at, trimmed)
  select gen_random_uuid(), thread_id, owner, '00000000-0000-4000-8000-000000000001', 'line', 'success', '{{}}',
    case when n % 2 = 0 then now() - interval '30 days' else now() - interval '1 hour' end, case when n % 2 = 0 then 'gone' end
  from (select *, row_number() over () as n from slackwater.threads) t;
-- Some are worked on, some were, some wait, and many are not due yet.
update slackwater.runs r set ended_at = null, trimmed = null, fence = 1, worker = 'w',
    status = case when n <= 200 then 'running' else 'pending' end, holds_thread = n <= 200, ready = n > 200,
    claimed_at = now() - interval '1 minute',
    lease_until = case when n <= 200 then now() + (n - 50) * interval '1 second' end,
    available_at = case when n <= 400 then now() - interval '2 minutes' else now() + interval '1 day' end,
    reader_left_at = case when n % 10 = 0 then now() - n * interval '1 second' end
  from (select run_id, row_number() over () as n from slackwater.runs where trimmed is null limit 5000) x
  where r.run_id = x.run_id;
update slackwater.runs set delete_at = ended_at + interval '1 day' where trimmed is null and ended_at is not null
  and get_byte(uuid_send(run_id), 15) < 64;
update slackwater.threads t set status = 'busy' from slackwater.runs r
  where r.thread_id = t.thread_id and r.status in ('pending', 'running');
insert into slackwater.run_events (run_id, fence, seq, thread_id, event, data, created_at)
  select run_id, 1, s, thread_id, case when s = 3 then 'updates' else 'values' end, repeat('y', 50), created_at
  from slackwater.runs, generate_series(1, 3) s where trimmed is distinct from 'gone';
insert into slackwater.run_events (run_id, fence, seq, thread_id, event, data)
  select gen_random_uuid(), 1, 1, thread_id, 'state_update', '{{}}' from slackwater.threads limit 8000;
insert into slackwater.idempotency_keys (owner, key, run_id, created_at)
  select 'a', n::text, gen_random_uuid(), now() - n * interval '1 second' from generate_series(1, 20000) n;
insert into store (prefix, key, value, expires_at)
  select 'a', n::text, '{{}}', case when n % 2 = 0 then now() + interval '1 day' end from generate_series(1, 20000) n;
insert into slackwater.webhooks (run_id, thread_id, owner, url, run, due_at, given_up_at)
  select gen_random_uuid(), gen_random_uuid(), 'owner ' || n % 20, 'http://x', '{{}}', now() + n * interval '1 second',
    case when n % 2 = 0 then now() - interval '1 day' end from generate_series(1, 20000) n;
insert into slackwater.crons (cron_id, owner, assistant_id, schedule, next_run_date)
  select gen_random_uuid(), 'a', '00000000-0000-4000-8000-000000000001', '* * * * *', now() + n * interval '1 second'
  from generate_series(1, 20000) n;
insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata)
  select thread_id::text, '', n::text, '{{}}', '{{}}' from slackwater.threads, generate_series(1, 2) n;
insert into checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob)
  select thread_id, '', checkpoint_id, 'task', 0, 'x', 'null', '' from checkpoints where checkpoint_id = '2';
analyze;
"""

Sent = dict[str, Mapping[str, Any]]


async def sent_by_a_process(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Sent:
    """The statements of a whole sweep, and of whoever looks for work, with their parameters."""
    process = await fleet.start(begin=False)
    sent: Sent = {}
    fetch, execute = Database.fetch, Database.execute
    together = {"pipeline": Database.pipeline, "write": Database.write}

    async def fetching(self: Database, sql: Any, params: Any = None) -> Any:
        sent[sql] = params or {}
        return await fetch(self, sql, params)

    async def executing(self: Database, sql: Any, params: Any = None) -> Any:
        sent[sql] = params or {}
        return await execute(self, sql, params)

    def sending(name: str) -> Any:
        async def sends(self: Database, *statements: Any) -> Any:
            sent.update({sql: params or {} for sql, params in statements})
            return await together[name](self, *statements)

        return sends

    with monkeypatch.context() as patch:
        patch.setattr(Database, "fetch", fetching)
        patch.setattr(Database, "execute", executing)
        for name in together:
            patch.setattr(Database, name, sending(name))
        await process.runtime.sweep()
        await process.claim(4)
        await claims.any_ready(process.database, graphs=["line"])
        await claims.wishes(process.database, worker="w")
        await webhooks.claim(process.database, limit=16, lease_seconds=45, share=Shares(), in_hand=(), most=4)
        await webhooks.trim(process.database)
        await crons.due(process.database, ["line"], 100, Shares())
        process.runtime.follower.following[uuid7()] = 1
        await process.runtime.sweeper._readers()
    process.runtime.follower.following.clear()
    await process.stop(1)
    return sent


def said_for_many(runs: Sequence[Row], idle: Sequence[Row]) -> Sent:
    """The statements that settle the runs, and that admit others on the threads."""
    attempts = [Whose(run["run_id"], run["thread_id"], run["owner"], run["fence"], "w") for run in runs]
    facts = ThreadFacts("idle", None)
    news = [new_run("line", thread_id=thread["thread_id"], owner=thread["owner"]) for thread in idle]
    asked = [
        dumped(parameters(new, worker="w", claim=True, lease_seconds=30, limits=UNLIMITED)) for new in news
    ]
    return dict(
        (
            settlements.ENDS.statement([End(attempt, RunStatus.SUCCESS, facts) for attempt in attempts]),
            settlements.HAND_OVERS.statement(
                [HandOver(attempt, Stopped.DRAINED, "SIGTERM", 1000, "") for attempt in attempts]
            ),
            admissions.ADMISSIONS.statement(asked),
        )
    )


async def test_no_statement_of_a_sweep_or_a_claim_reads_more_than_it_needs(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = await sent_by_a_process(fleet, monkeypatch)
    async with fleet.database.connection() as connection:
        for statement in LOAD.split(";\n"):
            await connection.execute(statement)  # type: ignore[arg-type]
        await believe(connection)
        mine = await (
            await connection.execute(
                "select run_id, thread_id, owner, fence from slackwater.runs where worker = 'w' limit 50"
            )
        ).fetchall()
        idle = await (
            await connection.execute(
                "select thread_id, owner from slackwater.threads where status = 'idle' limit 50"
            )
        ).fetchall()
        leases = [Lease(row["run_id"], row["thread_id"], row["fence"], "w", 0.0) for row in mine]
        sent[claims.RENEW] = claims.renewal(leases, worker="w", lease_seconds=30)
        sent[retention._WIPED] = {"runs": [lease.run_id for lease in leases]}
        sent.update(said_for_many(mine, idle))
        assert len(sent) > 20
        bad = []
        for statement, params in sent.items():
            async with connection.transaction(force_rollback=True):
                cursor = await connection.execute(f"explain (analyze, format json) {statement}", params)  # type: ignore[arg-type]
                row = await cursor.fetchone()
            assert row is not None
            plan = row["QUERY PLAN"][0]["Plan"]
            whole = read_whole(plan)
            if whole or examined(plan) > MOST_ROWS:
                bad.append(f"{examined(plan):.0f} rows, whole {whole}:\n{statement}")
    assert not bad, "\n\n".join(bad)


@pytest.mark.parametrize("status", ["interrupted", "error"])
async def test_threads_that_somebody_has_to_look_at_are_found_among_many(fleet: Fleet, status: str) -> None:
    explained = []

    async def explain(_: Database, sql: Any, params: Any, limit: int) -> list[Any]:
        cursor = await connection.execute(f"explain (analyze, format json) {sql}", params)
        explained.append((await cursor.fetchone())["QUERY PLAN"][0]["Plan"])
        return []

    async with fleet.database.connection() as connection:
        for statement in LOAD.split(";\n"):
            await connection.execute(statement)  # type: ignore[arg-type]
        await connection.execute("update slackwater.threads set owner = 'a'")
        await connection.execute(
            "update slackwater.threads set status = %s where thread_id in (select thread_id from slackwater.threads limit 5)",
            [status],
        )
        await connection.execute("analyze slackwater.threads")
        await believe(connection)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Database, "fetch_page", explain)
            await threads.search(fleet.database, "a", [], ThreadSearch(status=status, limit=10))  # type: ignore[arg-type]
    (plan,) = explained
    assert not read_whole(plan)
    assert examined(plan) <= 20, plan
