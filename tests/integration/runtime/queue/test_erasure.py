"""Whoever deletes a thread or a run deletes all that is its own, whichever tables there are: the catalogue says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from any_row import insert_any
from psycopg import sql
from rig import ASSISTANT, OWNER, Fleet, Process

from slackwater.api.runs import service as runs
from slackwater.api.threads import service as threads
from slackwater.api.threads.models import Prune
from slackwater.identity.principal import Principal
from slackwater.postgres.pool import Database
from slackwater.project.ttl import TtlPolicy
from slackwater.runtime.queue import pruning
from slackwater.runtime.queue.cancel import CancelAction
from slackwater.runtime.queue.erasure import TABLES, Lifetime

OURS = {"slackwater.threads", "slackwater.runs"}
"""Whose rows are the threads and the runs."""

UNLISTED = "slackwater.notes"
"""A table that somebody has added, and nobody has listed."""

_TABLES = """
select n.nspname || '.' || c.relname as name, array_agg(a.attname::text) as ids, exists (
  select 1 from pg_constraint k where k.conrelid = c.oid and k.contype = 'f' and k.confdeltype = 'c'
    and k.confrelid in ('slackwater.threads'::regclass, 'slackwater.runs'::regclass)) as cascades
from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
where n.nspname in ('slackwater', 'public') and c.relkind in ('r', 'p') and not c.relispartition
  and a.attname in ('thread_id', 'run_id') and not a.attisdropped
group by c.oid, n.nspname, c.relname order by 1"""

# In which rows are found by their thread.
_INDEXED = """
select distinct n.nspname || '.' || c.relname as name, format_type(a.atttypid, null) as type
from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
where n.nspname in ('slackwater', 'public') and a.attname = 'thread_id' and i.indpred is null"""


class Catalogue:
    """The tables with something of a thread or a run, as the database names them."""

    def __init__(self, database: Database, tables: list[dict[str, Any]]) -> None:
        self._database = database
        self._tables = {row["name"]: row for row in tables}

    @classmethod
    async def of(cls, database: Database) -> Catalogue:
        return cls(database, await database.fetch(_TABLES))

    @property
    def names(self) -> set[str]:
        return set(self._tables)

    @property
    def cascading(self) -> set[str]:
        return {name for name, table in self._tables.items() if table["cascades"]}

    @property
    def of_runs(self) -> set[str]:
        """Those that say of which run a row is."""
        return {name for name, table in self._tables.items() if "run_id" in table["ids"]}

    async def fill(self, **ids: UUID) -> None:
        """A row for this thread and this run in each of them, beside their own."""
        for name in self.names - OURS:
            await insert_any(self._database, name, owner=OWNER, assistant_id=ASSISTANT, **ids)

    async def left(self, column: str, value: UUID) -> set[str]:
        """Those with rows of this thread (`thread_id`) or this run (`run_id`)."""
        return {
            name
            for name, table in self._tables.items()
            if column in table["ids"]
            and await self._database.fetch(
                sql.SQL("select 1 from {} where {}::text = %s limit 1").format(
                    sql.Identifier(*name.split(".")), sql.Identifier(column)
                ),
                [str(value)],
            )
        }


@pytest.fixture
async def process(fleet: Fleet) -> Process:
    """One that takes on no run."""
    return await fleet.start(max_concurrent_runs=0)


@pytest.fixture
async def catalogue(database: Database) -> Catalogue:
    await database.execute(
        "insert into slackwater.assistants (assistant_id, owner, graph_id, name) values (%s, %s, 'line', 'line')",
        [ASSISTANT, OWNER],
    )
    return await Catalogue.of(database)


def named(*lifetimes: Lifetime) -> set[str]:
    return {full(table.name) for table in TABLES if table.lifetime in lifetimes}


def full(name: str) -> str:
    return name if "." in name else f"public.{name}"


def through(process: Process) -> Any:
    return SimpleNamespace(database=process.database, runtime=process.runtime, auth=None)


async def test_every_table_with_something_of_a_thread_or_a_run_is_listed_or_cascades(
    database: Database, catalogue: Catalogue
) -> None:
    assert catalogue.names - OURS == {full(table.name) for table in TABLES} | catalogue.cascading
    assert not {full(table.name) for table in TABLES} & catalogue.cascading

    by_thread = {row["name"]: row["type"] for row in await database.fetch(_INDEXED)}
    for table in TABLES:
        assert table.lifetime is Lifetime.OWN or by_thread.get(full(table.name)) == table.thread_id, table


async def test_a_table_that_nobody_has_listed_is_found(database: Database) -> None:
    await add_unlisted(database)
    found = await Catalogue.of(database)
    assert found.names - OURS - found.cascading - {full(table.name) for table in TABLES} == {UNLISTED}


async def add_unlisted(database: Database) -> None:
    await database.execute(
        f"create table {UNLISTED} (thread_id text not null, run_id uuid not null, body text not null)"  # type: ignore[arg-type]
    )


# The ways in which a thread goes


async def deleted(process: Process, row: dict[str, Any]) -> None:
    await threads.delete(through(process), Principal(OWNER), row["thread_id"])


async def pruned(process: Process, row: dict[str, Any]) -> None:
    body = Prune(thread_ids=[str(row["thread_id"])])
    assert await threads.prune(through(process), Principal(OWNER), body) == 1


async def expired(process: Process, row: dict[str, Any]) -> None:
    await process.database.execute(
        "update slackwater.runs set status = 'success', ready = false, ended_at = now() where run_id = %s",
        [row["run_id"]],
    )
    await process.database.execute(
        """update slackwater.threads set ttl_minutes = 1, ttl_strategy = 'delete', updated_at = now() - interval '1 day'
           where thread_id = %s""",
        [row["thread_id"]],
    )
    assert await pruning.expire(process.database, TtlPolicy()) == 1


@pytest.mark.parametrize("way", [deleted, pruned, expired])
async def test_nothing_is_left_of_a_thread(
    way: Callable[[Process, dict[str, Any]], Awaitable[None]],
    process: Process,
    database: Database,
    catalogue: Catalogue,
) -> None:
    row, other = [(await process.admit("line")).row for _ in range(2)]
    for each in (row, other):
        await catalogue.fill(thread_id=each["thread_id"], run_id=each["run_id"])
    await way(process, row)
    kept = named(Lifetime.OWN)
    assert await catalogue.left("thread_id", row["thread_id"]) <= kept
    assert await catalogue.left("run_id", row["run_id"]) <= kept
    # and all is left of another one, so that each table has been looked at
    of_other = await catalogue.left("thread_id", other["thread_id"])
    of_other |= await catalogue.left("run_id", other["run_id"])
    assert of_other == catalogue.names


# The ways in which a run goes


async def deleted_alone(process: Process, row: dict[str, Any]) -> None:
    await runs.delete(through(process), Principal(OWNER), str(row["thread_id"]), str(row["run_id"]))


async def rolled_back(process: Process, row: dict[str, Any]) -> None:
    await process.cancel(row["thread_id"], row["run_id"], action=CancelAction.ROLLBACK)


async def rolled_back_with_others(process: Process, row: dict[str, Any]) -> None:
    await process.runtime.cancel_many(
        OWNER, {row["thread_id"]: [row["run_id"]]}, CancelAction.ROLLBACK, "cancelled"
    )


async def displaced(process: Process, row: dict[str, Any]) -> None:
    await process.admit("line", thread_id=row["thread_id"], strategy="rollback")


async def taken_over(process: Process, row: dict[str, Any]) -> None:
    """Its process is gone, and it was to be rolled back."""
    await process.database.execute(
        """update slackwater.runs set status = 'running', ready = false, holds_thread = true, fence = 1, attempt = 1,
             worker = 'gone', lease_until = now() - interval '1 second', cancel_action = 'rollback', cancel_at = now()
           where run_id = %s""",
        [row["run_id"]],
    )
    await process.runtime.sweep()


@pytest.mark.parametrize("way", [deleted_alone, rolled_back, rolled_back_with_others, displaced, taken_over])
async def test_nothing_is_left_of_a_run(
    way: Callable[[Process, dict[str, Any]], Awaitable[None]], process: Process, catalogue: Catalogue
) -> None:
    row = (await process.admit("line")).row
    other = (await process.admit("line", thread_id=row["thread_id"])).row if way is not displaced else None
    await catalogue.fill(thread_id=row["thread_id"], run_id=row["run_id"])
    await way(process, row)
    assert await catalogue.left("run_id", row["run_id"]) == (
        named(Lifetime.OWN, Lifetime.THREAD) & catalogue.of_runs
    )
    assert other is None or "slackwater.runs" in await catalogue.left("run_id", other["run_id"])


async def test_nothing_is_left_of_a_stateless_run_and_its_thread(
    process: Process, database: Database, catalogue: Catalogue
) -> None:
    row = (await process.admit("line", on_completion="delete")).row
    await catalogue.fill(thread_id=row["thread_id"], run_id=row["run_id"])
    await database.execute(
        """update slackwater.runs set status = 'success', ready = false, ended_at = now(),
             delete_at = now() - interval '1 second' where run_id = %s""",
        [row["run_id"]],
    )
    await process.runtime.sweep()
    # but for the key, by which a second delivery is known
    assert await catalogue.left("thread_id", row["thread_id"]) == named(Lifetime.OWN)
    own = named(Lifetime.OWN) & catalogue.of_runs
    assert await catalogue.left("run_id", row["run_id"]) == own | {"slackwater.idempotency_keys"}


@pytest.mark.parametrize("way", [deleted, rolled_back])
async def test_what_is_in_no_list_is_left_and_named(
    way: Callable[[Process, dict[str, Any]], Awaitable[None]], process: Process, database: Database
) -> None:
    """Or the tests above would find nothing anywhere."""
    await add_unlisted(database)
    catalogue = await Catalogue.of(database)
    row = (await process.admit("line")).row
    await database.execute(
        f"insert into {UNLISTED} values (%s, %s, 'x')",
        [str(row["thread_id"]), row["run_id"]],  # type: ignore[arg-type]
    )
    await way(process, row)
    assert await catalogue.left("run_id", row["run_id"]) == {UNLISTED}
