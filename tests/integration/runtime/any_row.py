"""A row for any table: what has to be given is made up."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from psycopg import sql

from slackwater.postgres.pool import Database

# Which have to be given, and their types.
_COLUMNS = """
select a.attname as name, format_type(a.atttypid, null) as type from pg_attribute a
where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped
  and (a.attname in ('thread_id', 'run_id', 'owner') or a.attnotnull and not a.atthasdef and a.attidentity = '')"""

_ANY = {
    "uuid": uuid4,
    "text": lambda: str(uuid4()),
    "text[]": list,
    "bigint": lambda: 1,
    "integer": lambda: 1,
    "boolean": lambda: False,
    "jsonb": lambda: "[]",
    "bytea": lambda: uuid4().bytes,
    "timestamp with time zone": lambda: "-infinity",
}


async def insert_any(database: Database, table: str, **given: Any) -> None:
    """Insert a row into `schema.table`, with these values in those of the columns that it needs."""
    if table == "slackwater.files":
        key = str(uuid4())
        await database.execute("insert into slackwater.blobs (key, state) values (%s, 'live')", [key])
        given = {"blob": key, "path": "uploads/any.txt", **given}
    columns = await database.fetch(_COLUMNS, [table])
    row = {c["name"]: given[c["name"]] if c["name"] in given else _ANY[c["type"]]() for c in columns}
    await database.execute(
        sql.SQL("insert into {} ({}) values ({})").format(
            sql.Identifier(*table.split(".")),
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(sql.Placeholder() * len(row)),
        ),
        list(row.values()),
    )
