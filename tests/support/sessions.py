"""The sessions that a pool has on the server."""

from __future__ import annotations

import time

import psycopg
from psycopg.conninfo import conninfo_to_dict

from slackwater.postgres.pool import Database


def sessions(server_uri: str, database: Database, condition: str = "true") -> set[int]:
    """The process ids of those that meet a condition on `pg_stat_activity`."""
    query = f"select pid from pg_stat_activity where datname = %s and application_name like 'slackwater%%' and {condition}"
    name = conninfo_to_dict(database.conninfo)["dbname"]
    with psycopg.connect(server_uri, autocommit=True) as connection:
        return {pid for (pid,) in connection.execute(query, (name,))}


def terminate(server_uri: str, database: Database) -> None:
    """End every session of now, and wait for it: the pool may be opening others."""
    there = sessions(server_uri, database)
    with psycopg.connect(server_uri, autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(pid) from unnest(%s::int[]) as pid", (list(there),))
    deadline = time.monotonic() + 10
    while there & sessions(server_uri, database):
        assert time.monotonic() < deadline
        time.sleep(0.01)
