"""The table of the store's index: LangGraph's own, without its index over everybody's vectors.

That one (HNSW) finds the nearest forty of all owners, and the owner's condition is applied to those: whoever has few
items among many would find nothing. Without it a search looks at the owner's own vectors, and at all of them.
"""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection, sql

from slackwater.errors import SchemaError

NAME = "store_vectors"

_DIMS = "select atttypmod as dims from pg_attribute where attrelid = to_regclass('store_vectors') and attname = 'embedding'"

_AVAILABLE = "select 1 as yes from pg_available_extensions where name = 'vector'"

_TABLE = """
create table store_vectors (
  prefix text not null, key text not null, field_name text not null, embedding vector({dims}),
  created_at timestamptz default current_timestamp, updated_at timestamptz default current_timestamp,
  primary key (prefix, key, field_name),
  foreign key (prefix, key) references store (prefix, key) on delete cascade)"""

# As if LangGraph had made it.
_DONE = """
create table if not exists vector_migrations (v integer primary key);
insert into vector_migrations (v) values (0), (1) on conflict do nothing"""


async def found(connection: AsyncConnection[Any]) -> int | None:
    """How many numbers the vectors of this database have; None if there is no table for them."""
    row = await (await connection.execute(_DIMS)).fetchone()
    return None if row is None else int(row["dims"])


async def create(connection: AsyncConnection[Any], dims: int) -> None:
    """Make the table. Raises SchemaError when the server has no pgvector."""
    if await (await connection.execute(_AVAILABLE)).fetchone() is None:
        raise SchemaError(
            "langgraph.json has store.index, but this Postgres has no pgvector: install its extension `vector`, or "
            "remove store.index."
        )
    async with connection.transaction():
        await connection.execute("create extension if not exists vector")
        await connection.execute(sql.SQL(_TABLE).format(dims=sql.Literal(dims)))
        await connection.execute(_DONE)


def refuse(dims: int, there: int | None) -> SchemaError | None:
    """Why vectors of `dims` numbers have no place in a table that has room for `there`; None if they do."""
    if there is None:
        return SchemaError(
            "langgraph.json has store.index, but the database has no table for it: run `slackwater migrate` in the "
            "project's folder; its Postgres needs pgvector."
        )
    if there != dims:
        return SchemaError(
            f"The database's vectors have {there} dimensions, but store.index.dims is {dims}: set it to {there}, or drop the "
            "table store_vectors, run `slackwater migrate` and store the items again."
        )
    return None
