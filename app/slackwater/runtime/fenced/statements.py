"""The SQL of a run's writer: one fenced statement for everything that is queued."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from slackwater.postgres.arrays import Array, ByteaArray, IntArray, JsonbArray, TextArray
from slackwater.runtime.events.journal import Event


def columns(
    params: dict[str, Any], name: str, rows: Collection[Sequence[Any]], types: Iterable[type[Array]]
) -> None:
    """Add the columns of `rows` to the parameters, as `<name>0`, `<name>1`, …"""
    for position, type_ in enumerate(types):
        params[f"{name}{position}"] = type_([row[position] for row in rows])


def event_columns(events: Sequence[Event]) -> dict[str, Array]:
    """The parameters of `INSERT_EVENTS`."""
    return {
        "e0": IntArray([event.id.seq for event in events]),
        "e1": TextArray([event.name for event in events]),
        "e2": TextArray([event.data.decode() for event in events]),
    }


INSERT_EVENTS = """insert into slackwater.run_events (run_id, fence, seq, thread_id, event, data)
 select %(run_id)s, %(fence)s, e.seq, %(thread_id)s, e.event, e.data
 from owned, unnest(%(e0)b::int[], %(e1)b::text[], %(e2)b::text[]) as e(seq, event, data)
 on conflict do nothing"""
"""Inserts a run's events under the fence; needs a CTE `owned`, and `event_columns`."""

EVENTS_OF_MANY = """insert into slackwater.run_events (run_id, fence, seq, thread_id, event, data)
 select o.run_id, o.fence, e.seq, o.thread_id, e.event, e.data
 from unnest(%(e_n)b::int[], %(e_seq)b::int[], %(e_event)b::text[], %(e_data)b::text[]) as e(n, seq, event, data)
 join owned o on o.n = e.n
 on conflict do nothing"""
"""Inserts the events of the items in `owned`; needs `event_columns_of_many`."""


def event_columns_of_many(events: Mapping[int, Sequence[Event]]) -> dict[str, Array]:
    """The parameters of `EVENTS_OF_MANY`: the events of each item, by its position."""
    rows = [(n, event) for n, of_one in events.items() for event in of_one]
    return {
        "e_n": IntArray([n for n, _ in rows]),
        "e_seq": IntArray([event.id.seq for _, event in rows]),
        "e_event": TextArray([event.name for _, event in rows]),
        "e_data": TextArray([event.data.decode() for _, event in rows]),
    }


OWNED_IN_ANY_EPOCH = (
    "run_id = %(run_id)s and fence = %(fence)s and worker = %(worker)s and status = 'running'"
)
# A subquery, so that it is evaluated once and not per row.
_LEASE = f"{OWNED_IN_ANY_EPOCH} and epoch = (select slackwater.epoch())"
OWNED = f"""
 select 1 from slackwater.runs where {_LEASE} for share"""
"""A row if the lease is still held."""
_OWNED = f"""owned as ({OWNED})"""
# FOR SHARE conflicts with a take-over's UPDATE; FOR KEY SHARE would not.
_OWNED_INPUT = f"""owned as (
 update slackwater.runs set input_applied = true, input_step = %(input_step)s
 where {_LEASE} returning 1)"""
REQUIRE_OWNED = f"with {_OWNED} select 1 / count(*) from owned"
"""Fails the transaction if the lease is gone, which saves the round trip of checking first."""

EVENT_IS_THERE = """exists (
  select 1 from slackwater.run_events e where e.run_id = %(run_id)s and e.fence = %(fence)s and e.seq = %(event_seq)s)"""
CHECKPOINT_IS_THERE = """exists (
  select 1 from checkpoints c where c.thread_id = %(put_thread)s and c.checkpoint_ns = %(put_ns)s
    and c.checkpoint_id = %(put_id)s)"""
WRITE_IS_THERE = """exists (
  select 1 from checkpoint_writes w where w.thread_id = %(put_thread)s and w.checkpoint_ns = %(put_ns)s
    and w.checkpoint_id = %(put_id)s and w.task_id = %(put_task)s and w.idx = %(put_idx)s
    and (%(put_blob)s::bytea is null or w.blob = %(put_blob)s))"""
"""An upsert compares the value too, since another may have been stored under the same key before."""
ITEM_IS_AS_PUT = """(select s.value from store s where s.prefix = %(item_prefix)s and s.key = %(item_key)s)
  is not distinct from %(item_value)s::jsonb"""
_BASE = """base as (
 insert into slackwater.base_writes (run_id, thread_id, checkpoint_ns, checkpoint_id, writes)
 select %(run_id)s, %(thread)s, t.ns, t.id, coalesce((
   select jsonb_agg(jsonb_build_array(w.task_id, w.task_path, w.idx, w.channel, w.type, encode(w.blob, 'base64')))
   from checkpoint_writes w
   where w.thread_id = %(thread)s and w.checkpoint_ns = t.ns and w.checkpoint_id = t.id), '[]')
 from owned, unnest(%(base_ns)b::text[], %(base_id)b::text[]) as t(ns, id)
 on conflict do nothing)"""


@dataclass(frozen=True, slots=True, eq=False)
class Insert:
    """A fenced insert; needs a CTE `owned`."""

    name: str
    table: str
    prefix: str
    """Parameters are named `<prefix>0`, `<prefix>1`, … and, for many runs, `<prefix>n`: the number of each row's run."""
    columns: Mapping[str, type[Array]]
    conflict: str

    def of_one(self) -> str:
        """The CTE for a single run."""
        return self._text(f"owned, unnest({self._arrays}) as x({', '.join(self.columns)})")

    def of_many(self) -> str:
        """The CTE for many runs, whose numbers are in `owned`."""
        numbers = f"%({self.prefix}n)b::int[]"
        return self._text(
            f"unnest({numbers}, {self._arrays}) as x(n, {', '.join(self.columns)}) join owned o on o.n = x.n"
        )

    def add(self, params: dict[str, Any], rows: Collection[Sequence[Any]]) -> None:
        """Add the rows to the parameters."""
        columns(params, self.prefix, rows, self.columns.values())

    @property
    def _arrays(self) -> str:
        types = self.columns.values()
        return ", ".join(f"%({self.prefix}{n})b::{type_.sql}" for n, type_ in enumerate(types))

    def _text(self, source: str) -> str:
        return (
            f"{self.name} as (\n insert into {self.table} ({', '.join(self.columns)})"
            f"\n select {', '.join(f'x.{column}' for column in self.columns)}\n from {source}\n on conflict {self.conflict})"
        )


def add_of_many(
    params: dict[str, Any], rows_of: Mapping[int, Mapping[Insert, Collection[Sequence[Any]]]]
) -> Collection[Insert]:
    """Add the rows of each run, by its number, for `Insert.of_many`; the inserts that there are rows for."""
    rows: dict[Insert, list[Sequence[Any]]] = {}
    numbers: dict[Insert, list[int]] = {}
    for n, of_one in rows_of.items():
        for insert, its_rows in of_one.items():
            rows.setdefault(insert, []).extend(its_rows)
            numbers.setdefault(insert, []).extend([n] * len(its_rows))
    for insert in rows:
        insert.add(params, rows[insert])
        params[f"{insert.prefix}n"] = IntArray(numbers[insert])
    return rows.keys()


BLOBS = Insert(
    "blobs",
    "checkpoint_blobs",
    "b",
    {
        "thread_id": TextArray,
        "checkpoint_ns": TextArray,
        "channel": TextArray,
        "version": TextArray,
        "type": TextArray,
        "blob": ByteaArray,
    },
    "(thread_id, checkpoint_ns, channel, version) do nothing",
)
CHECKPOINTS = Insert(
    "checkpoints_put",
    "checkpoints",
    "c",
    {
        "thread_id": TextArray,
        "checkpoint_ns": TextArray,
        "checkpoint_id": TextArray,
        "parent_checkpoint_id": TextArray,
        "checkpoint": JsonbArray,
        "metadata": JsonbArray,
    },
    "(thread_id, checkpoint_ns, checkpoint_id)"
    " do update set checkpoint = excluded.checkpoint, metadata = excluded.metadata",
)
_WRITE = {
    "thread_id": TextArray,
    "checkpoint_ns": TextArray,
    "checkpoint_id": TextArray,
    "task_id": TextArray,
    "task_path": TextArray,
    "idx": IntArray,
    "channel": TextArray,
    "type": TextArray,
    "blob": ByteaArray,
}
_WRITE_KEY = "(thread_id, checkpoint_ns, checkpoint_id, task_id, idx)"
UPSERTS = Insert(
    "writes_set",
    "checkpoint_writes",
    "u",
    _WRITE,
    f"{_WRITE_KEY} do update set channel = excluded.channel, type = excluded.type, blob = excluded.blob",
)
INSERTS = Insert("writes_put", "checkpoint_writes", "i", _WRITE, f"{_WRITE_KEY} do nothing")
ORDER = (BLOBS, CHECKPOINTS, UPSERTS, INSERTS)
"""The order in which a statement has them."""


@dataclass(frozen=True, slots=True)
class StatementShape:
    """Which parts a statement has; each shape is prepared once."""

    applies_input: bool
    inserts: tuple[Insert, ...]
    answers: bool
    base: bool
    events: bool


# LangGraph keeps the value of `Command(resume=…)` as a pending write without a task. A later start with None would offer
# it to the *next* interrupt of the node that has consumed it already.
_ANSWERED = """answered as (
 delete from checkpoint_writes w using owned
 where w.thread_id = %(thread)s and w.checkpoint_ns = '' and w.task_id = %(null_task)s and w.channel = %(resume)s)"""

ANSWERED_BY_RUN = """
select i.type, i.blob from checkpoint_writes r
join checkpoint_writes i using (thread_id, checkpoint_ns, checkpoint_id, task_id)
join slackwater.base_writes b on b.run_id = %(run_id)s and b.checkpoint_ns = r.checkpoint_ns
  and b.checkpoint_id = r.checkpoint_id
where r.thread_id = %(thread)s and r.channel = %(resume)s and i.channel = %(interrupt)s
  and not exists (select 1 from jsonb_array_elements(b.writes) w
    where w ->> 0 = r.task_id and w ->> 3 = %(resume)s and decode(w ->> 5, 'base64') = r.blob)"""
"""The interrupts whose resume values the run's tasks have consumed and stored."""


@lru_cache
def statement(shape: StatementShape, owned: str | None = None, answer: str = "count(*)::int as owned") -> str:
    """The statement that stores one group; it returns `owned`, 0 if the lease is gone or the database failed over.

    `owned` and `answer` replace the CTE with the condition, and what is selected from it.
    """
    parts = [owned or (_OWNED_INPUT if shape.applies_input else _OWNED)]
    parts += [
        part
        for wanted, part in (
            (shape.base, _BASE),
            *((True, insert.of_one()) for insert in shape.inserts),
            (shape.answers, _ANSWERED),
            (shape.events, f"events as ({INSERT_EVENTS})"),
        )
        if wanted
    ]
    return f"with {', '.join(parts)} select {answer} from owned"
