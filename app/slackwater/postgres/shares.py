"""Sharing a queue out per owner: one who has a thousand rows waiting does not keep the others from theirs.

Those with the fewest rows in hand come first, then those who have waited longest for their turn, then the oldest rows.
What is looked at does not grow with the queue: its oldest rows and, where these may all be one owner's, the first rows of
the owners that come next in the index.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, LiteralString

from slackwater.postgres.arrays import IntArray, LongArray, TextArray

OWNERS = 64
"""Owners that are looked up at once behind a long queue. The next claim goes on after the last of them."""
REMEMBERED = 128
"""Owners whose last turn a process knows."""


def candidates(
    *,
    table: LiteralString,
    key: LiteralString,
    age: LiteralString,
    first: LiteralString,
    waits: LiteralString,
    due: LiteralString,
) -> LiteralString:
    """The CTEs `oldest`, `owners` and `candidate` of a statement `with recursive …` that takes rows of `table`.

    `waits` is the condition of its index on `(owner, <age>)`, and `due` the one of a row `q` to take, without functions that
    keep an index from being used; `first` is before every age. `candidate` has the columns `key`, `owner`, those of `age`, and

    * `place`: among the owner's own, from 1,
    * `share`: what the owner would have in hand with it,
    * `turn`: when the owner was last served; null, if that was long ago.

    Needs the parameters of `Shares.parameters` and `limit`.
    """
    # Not `owner = …`: without statistics, as of a table that was filled just now, the planner takes that for a few rows, which
    # it would fetch and sort, all of them.
    ages: LiteralString = ", ".join("f." + name for name in age.split(", "))
    row: LiteralString = ", ".join("q." + name for name in f"{key}, owner, {age}".split(", "))
    return f"""oldest as (
  select {row} from {table} q where {due} order by {age} limit %(limit)s * 2 + 4
), owners (owner, number, again) as (
  select %(after)s::text, 0, false where (select count(*) from oldest) >= %(limit)s * 2 + 4
  union all
  select coalesce(n.owner, f.owner), o.number + 1, o.again or n.owner is null
  from owners o
  left join lateral (
    select f.owner from {table} f where {waits} and f.owner > o.owner order by f.owner limit 1) n on true
  left join lateral (
    select f.owner from {table} f where {waits} and n.owner is null and not o.again order by f.owner limit 1) f on true
  where o.number < {OWNERS} and coalesce(n.owner, f.owner) is not null
    and not ((o.again or n.owner is null) and coalesce(n.owner, f.owner) > %(after)s)
), found as (
  select * from oldest
  union
  select {row} from owners o cross join lateral (
    select * from {table} f where {waits} and (f.owner, {ages}) >= (o.owner, {first}) order by f.owner, {ages}
    limit least(%(limit)s, 1 + 4 * %(limit)s / (select greatest(count(*) - 1, 1) from owners))) q
  where o.number > 0 and q.owner = o.owner and {due}
), placed as (
  select *, row_number() over (partition by owner order by {age}) as place from found
), candidate as (
  select p.*, p.place + coalesce(s.in_hand, 0) as share, s.turn from placed p
  left join unnest(%(owners)s::text[], %(in_hand)s::int[], %(turns)s::bigint[]) s (owner, in_hand, turn)
    on s.owner = p.owner
)"""


LOOKED_UNTIL: LiteralString = "(select o.owner from owners o order by o.number desc limit 1)"
"""The owner after whom the next claim looks; null, if nobody had to be looked up."""


def alone(*, table: LiteralString, waits: LiteralString) -> LiteralString:
    """The condition that all who wait are one owner, or that nobody does: then nothing has to be shared out."""
    first, last = (
        f"(select f.owner from {table} f where {waits} order by f.owner {way} limit 1)"
        for way in ("asc", "desc")
    )
    return f"{first} is not distinct from {last}"


class Shares:
    """What a process knows of whose turn it is."""

    def __init__(self) -> None:
        self.alone = True
        """At the last claim no more than one owner's rows were waiting, as far as is known."""
        self._turns: OrderedDict[str, int] = OrderedDict()
        self._number = 0
        self._after = ""

    def served(self, owner: str) -> None:
        """The owner has had a turn."""
        self._number += 1
        self._turns[owner] = self._number
        self._turns.move_to_end(owner)
        if len(self._turns) > REMEMBERED:
            self._turns.popitem(last=False)

    def looked(self, until: str | None) -> None:
        """A claim has looked up owners until this one."""
        if until is not None:
            self._after = until

    def parameters(self, in_hand: Iterable[str]) -> Mapping[str, Any]:
        """Of a statement with `candidates`; `in_hand` has the owner of each row that is being worked on here."""
        counts = Counter(in_hand)
        owners = [*self._turns, *(owner for owner in counts if owner not in self._turns)]
        return {
            "after": self._after,
            "owners": TextArray(owners),
            "in_hand": IntArray([counts[owner] for owner in owners]),
            "turns": LongArray([self._turns.get(owner) for owner in owners]),
        }
