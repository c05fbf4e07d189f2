"""Statements that are prepared keep their plans: made while the tables are empty, these must do when the tables are large.

The statements are those that a process sends on its lanes. Nobody analyzes the tables in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from helm import Helm
from plans import examined, read_whole
from psycopg import AsyncConnection, sql
from rig import Fleet

from slackwater.postgres.arrays import Array, JsonbArray, TextArray
from slackwater.postgres.pool import BoundedConnection, Database
from slackwater.postgres.prepared import HotStatement, encoded
from slackwater.postgres.shares import Shares
from slackwater.runtime.queue import claims

ROWS = 10_000
WAITING = ROWS // 2
MOST_ROWS = 600

LOAD = f"""
create function pg_temp.id(n int) returns uuid language sql as
  $$ select ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$;
insert into slackwater.threads (thread_id, owner, status)
  select pg_temp.id(n), 'owner ' || n % 20, 'idle' from generate_series(1, {ROWS}) n;
insert into slackwater.runs (run_id, thread_id, owner, assistant_id, graph_id, status, kwargs, ended_at, ready)
  select gen_random_uuid(), pg_temp.id(n), 'owner ' || n % 20, pg_temp.id(0), 'line',
    case when n > {WAITING} then 'success' else 'pending' end, '{{}}', case when n > {WAITING} then now() end, n <= {WAITING}
  from generate_series(1, {ROWS}) n;
insert into slackwater.run_events (run_id, fence, seq, thread_id, event, data)
  select run_id, 1, 1, thread_id, 'values', '{{}}' from slackwater.runs on conflict do nothing;
insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata)
  select pg_temp.id(n)::text, '', '1', '{{}}', '{{}}' from generate_series(1, {ROWS}) n;
insert into checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob)
  select thread_id, '', checkpoint_id, 'task', 0, 'x', 'null', '' from checkpoints on conflict do nothing;
insert into checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
  select thread_id, '', 'x', '1', 'null', '' from checkpoints on conflict do nothing
"""


def literal(value: Any) -> sql.Composable:
    if isinstance(value, JsonbArray):
        return sql.Literal([None if one is None else one.decode() for one in value.values])
    return sql.Literal(list(value.values) if isinstance(value, Array) else value)


async def explained(
    connection: BoundedConnection, statement: str, params: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The plan that the session has for what it has prepared, carried out and undone."""
    assert connection.prepared is not None
    query = encoded(statement, params)
    name = connection.prepared.names[query.query, query.types].decode()
    names = list(dict.fromkeys(sql_names(statement)))
    values = sql.SQL(", ").join(literal(params[name]) for name in names)
    async with connection.transaction(force_rollback=True):
        cursor = await connection.execute(
            sql.SQL("explain (analyze, format json) execute {}({})").format(sql.Identifier(name), values)
        )
        row = await cursor.fetchone()
    assert row is not None
    plan: Mapping[str, Any] = row["QUERY PLAN"][0]["Plan"]
    return plan


def sql_names(statement: str) -> Iterator[str]:
    for part in statement.split("%(")[1:]:
        yield part.partition(")")[0]


async def test_what_lanes_have_prepared_while_nothing_was_there_reads_no_table_when_much_is(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await fleet.start(begin=False)
    sent: dict[str, Mapping[str, Any]] = {}
    write = Database.write

    async def writing(self: Database, *statements: HotStatement) -> Any:
        sent.update(dict(statements))
        return await write(self, *statements)

    monkeypatch.setattr(Database, "write", writing)
    # GIVEN a run that is being worked on, so that what is stored for it would be stored again
    hold = helm.hold("c")
    await process.admit("line")
    for alone in (True, False):
        share = Shares()
        share.alone = alone
        await claims.claim(
            process.database, worker="w", graphs=["none"], limit=4, lease_seconds=30, share=share
        )
    await process.claim()
    await asyncio.wait_for(hold.reached.wait(), 10)
    assert len(sent) > 2
    assert {claims._CLAIM, claims._CLAIM_ALONE} < sent.keys()
    for statement in (claims._CLAIM, claims._CLAIM_ALONE):
        sent[statement] = {**sent[statement], "graphs": TextArray(["line"])}
    lane = await process.database.lanes.getconn()
    try:
        for statement, params in sent.items():
            await lane.write([(statement, params)])
        for changed in (LOAD, "analyze"):
            # On a connection without a bound: what fills tables may take its time.
            async with await AsyncConnection.connect(fleet.uri, autocommit=True) as connection:
                for part in changed.split(";\n"):
                    await connection.execute(part.encode())
            for statement, params in sent.items():
                plan = await explained(lane, statement, params)
                assert not read_whole(plan), statement
                assert examined(plan) < MOST_ROWS, (changed, examined(plan), statement)
    finally:
        await process.database.lanes.putconn(lane)
    hold.let_go()
