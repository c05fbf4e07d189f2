"""Where an owner's things are, table by table.

Every table with a column that names an owner is here, unless its rows go with others by a foreign key. A test compares with
the database's catalogue. What threads and runs own is in `runtime.queue.erasure`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from uuid import UUID

from slackwater.postgres.pool import Database, Row
from slackwater.runtime.queue import erasure, order
from slackwater.runtime.queue.erasure import Lifetime
from slackwater.runtime.queue.states import ACTIVE

LOGINS = frozenset({"slackwater.api_keys", "slackwater.users"})
"""By which the owner is let in, for a while even after they were deleted. Sessions go with their user."""

WAYS_IN = ("slackwater.api_keys", "slackwater.users", "slackwater.crons")
"""By which more would come: deleted first."""

AFTER_THREADS = (
    "slackwater.token_usage",
    "slackwater.feedback",
    "slackwater.webhooks",
    "slackwater.idempotency_keys",
    "slackwater.files",
    "slackwater.memory_updates",
    "slackwater.skills",
    "slackwater.skill_history",
    "slackwater.skill_switches",
    "slackwater.agents",
    "slackwater.user_profiles",
    "slackwater.channel_threads",
    "slackwater.channel_deliveries",
    "slackwater.assistants",
    "slackwater.request_buckets",
    "slackwater.open_streams",
    "slackwater.limits",
    "slackwater.audit",
)
"""Deleted after the runs, whose end may add to them. Versions go with their assistant."""

THREADS = ("slackwater.threads", "slackwater.runs")
"""Deleted thread by thread, with all that these own."""

STORE = "store"
"""Which has the owner as the first label of each namespace. Vectors go with their items."""

_MINE_OF_STORE = "(prefix = %(label)s or prefix ~>=~ (%(label)s || '.') and prefix ~<~ (%(label)s || '/'))"
"""As the primary key's index for patterns finds it: '/' comes after '.'."""

# What somebody has locked is left to the next pass: two that erase at the same time never wait for each other.
_DELETE = {
    name: f"""
with mine as (select ctid from {name} where {condition} limit %(limit)s for update skip locked)
delete from {name} where ctid = any(array(select ctid from mine))"""
    for name, condition in (
        *((name, "owner = %(owner)s") for name in (*WAYS_IN, *AFTER_THREADS)),
        (STORE, _MINE_OF_STORE),
    )
}

_LEFT = " union all ".join(
    f"(select '{name}' as name from {name} where {condition} limit 1)"
    for name, condition in (
        *((name, "owner = %(owner)s") for name in (*WAYS_IN, *THREADS, *AFTER_THREADS)),
        (STORE, _MINE_OF_STORE),
    )
)

_LIVE = """
select run_id, thread_id from slackwater.runs
where owner = %(owner)s and kind = 'run' and status = 'running' and lease_until > clock_timestamp()
order by run_id limit %(limit)s"""

_SOME_THREADS = """
select thread_id from slackwater.threads where owner = %(owner)s and thread_id > %(after)s
order by thread_id limit %(limit)s"""

_WIPE = [
    f"""
delete from {table.name} where ctid = any(array(
  select ctid from {table.name} where thread_id = any(%(threads)s::uuid[]::{table.thread_id}[]) limit %(limit)s))"""
    for table in erasure.TABLES
    if table.thread_id is not None and table.lifetime is not Lifetime.OWN and not table.owned
]

_LOCKED = f"select x.thread_id from unnest({order.LOCKED}) as x(thread_id)"

_ERASE_ENDED_RUNS = [
    order.LOCK_FREE,
    erasure.runs_and_theirs(
        f"""r.run_id = any(array(select e.run_id from slackwater.runs e
          where e.thread_id = any({order.LOCKED}) and e.status not in {ACTIVE} limit %(limit)s))"""
    ),
]

_ERASE_THREADS = [order.LOCK_FREE, *erasure.threads(_LOCKED)]


async def delete(database: Database, table: str, owner: str, label: str, limit: int) -> int:
    """Delete so many of the owner's rows in one of the tables that are deleted by themselves; how many there were."""
    return await database.execute(_DELETE[table], {"owner": owner, "label": label, "limit": limit})


async def left(database: Database, owner: str, label: str) -> list[str]:
    """The tables with anything of the owner's."""
    return [row["name"] for row in await database.fetch(_LEFT, {"owner": owner, "label": label})]


async def live(database: Database, owner: str, limit: int) -> list[Row]:
    """`run_id` and `thread_id` of runs that processes work on."""
    return await database.fetch(_LIVE, {"owner": owner, "limit": limit})


async def some_threads(database: Database, owner: str, after: UUID, limit: int) -> list[UUID]:
    """The owner's threads, by id, hidden ones too."""
    rows = await database.fetch(_SOME_THREADS, {"owner": owner, "after": after, "limit": limit})
    return [row["thread_id"] for row in rows]


def wipes() -> int:
    """How many tables have rows of a thread that are many: `wipe` takes their numbers."""
    return len(_WIPE)


async def wipe(database: Database, table: int, threads: Collection[UUID], limit: int) -> int:
    """Delete so many of the rows that threads which are about to go have in a table."""
    return await database.execute(_WIPE[table], {"threads": list(threads), "limit": limit})


async def erase_ended_runs(database: Database, owner: str, threads: Collection[UUID], limit: int) -> int:
    """Delete so many of the ended runs of these threads; how many there were."""
    params = {"owner": owner, "threads": list(threads), "limit": limit}
    _, gone = await database.pipeline(*((statement, params) for statement in _ERASE_ENDED_RUNS))
    return len(gone)


async def erase_threads(database: Database, owner: str, threads: Collection[UUID]) -> int:
    """Delete those of the owner's threads that nobody has locked, whatever runs on them; how many.

    What a process still writes for a run of theirs is waited for and deleted, or finds its fence gone.
    """
    params = {"owner": owner, "threads": list(threads)}
    *_, gone = await database.pipeline(*((statement, params) for statement in _ERASE_THREADS))
    return len(gone)


# Export

_OF_THREADS = "join slackwater.threads t on t.thread_id::text = x.thread_id where t.owner = %(owner)s"

EXPORTS: Mapping[str, str] = {
    "slackwater.api_keys": """
select key_id, owner, prefix, scopes, note, created_at, expires_at, revoked_at, last_used_at
from slackwater.api_keys where owner = %(owner)s""",
    "slackwater.users": """
select user_id, owner, email, password is not null as has_password, role, needs_setup, created_at, last_login_at, disabled_at
from slackwater.users where owner = %(owner)s""",
    "slackwater.external_identities": """
select x.* from slackwater.external_identities x join slackwater.users u using (user_id) where u.owner = %(owner)s""",
    "slackwater.sessions": """
select x.session_id, x.user_id, x.address, x.device, x.created_at, x.last_used_at, x.expires_at
from slackwater.sessions x join slackwater.users u using (user_id) where u.owner = %(owner)s""",
    "slackwater.assistants": "select * from slackwater.assistants where owner = %(owner)s",
    "slackwater.assistant_versions": "select * from slackwater.assistant_versions where owner = %(owner)s",
    "slackwater.crons": "select * from slackwater.crons where owner = %(owner)s",
    "slackwater.threads": "select * from slackwater.threads where owner = %(owner)s",
    "slackwater.runs": "select * from slackwater.runs where owner = %(owner)s",
    "slackwater.run_events": """
select x.* from slackwater.threads t join slackwater.run_events x using (thread_id) where t.owner = %(owner)s""",
    "slackwater.messages": """
select x.* from slackwater.threads t join slackwater.messages x using (thread_id) where t.owner = %(owner)s""",
    "slackwater.feedback": "select * from slackwater.feedback where owner = %(owner)s",
    "slackwater.token_usage": "select * from slackwater.token_usage where owner = %(owner)s",
    "checkpoints": f"select x.* from checkpoints x {_OF_THREADS}",
    "checkpoint_blobs": f"select x.* from checkpoint_blobs x {_OF_THREADS}",
    "checkpoint_writes": f"select x.* from checkpoint_writes x {_OF_THREADS}",
    STORE: f"select * from store where {_MINE_OF_STORE}",
    "slackwater.webhooks": "select * from slackwater.webhooks where owner = %(owner)s",
    "slackwater.limits": "select * from slackwater.limits where owner = %(owner)s",
    "slackwater.audit": "select * from slackwater.audit where owner = %(owner)s",
    "slackwater.idempotency_keys": "select * from slackwater.idempotency_keys where owner = %(owner)s",
    "slackwater.files": "select * from slackwater.files where owner = %(owner)s",
    "slackwater.memory_updates": "select * from slackwater.memory_updates where owner = %(owner)s",
    "slackwater.skills": "select * from slackwater.skills where owner = %(owner)s",
    "slackwater.skill_files": """
select owner, name, path, encode(content, 'base64') as content from slackwater.skill_files where owner = %(owner)s""",
    "slackwater.skill_history": "select * from slackwater.skill_history where owner = %(owner)s",
    "slackwater.skill_switches": "select * from slackwater.skill_switches where owner = %(owner)s",
    "slackwater.agents": "select * from slackwater.agents where owner = %(owner)s",
    "slackwater.user_profiles": "select * from slackwater.user_profiles where owner = %(owner)s",
    "slackwater.channel_threads": "select * from slackwater.channel_threads where owner = %(owner)s",
    "slackwater.channel_deliveries": "select * from slackwater.channel_deliveries where owner = %(owner)s",
}
"""By the name of each table."""

NOT_EXPORTED: Sequence[str] = (
    "slackwater.base_writes",
    "slackwater.cut_readers",
    "slackwater.request_buckets",
    "slackwater.open_streams",
    "store_vectors",
)
"""Copies of pending writes, for a rollback; readers who are expected back; what was left of a minute's requests; and what
was computed from the items."""


def export(database: Database, table: str, owner: str, label: str) -> AsyncGenerator[Row]:
    """The owner's rows in a table, one by one."""
    return database.stream(EXPORTS[table], {"owner": owner, "label": label})
