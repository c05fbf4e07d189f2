"""Group commit: what the runs of a process have to say at the same time goes to the database in one transaction.

Leader and followers: who comes while nothing is on its way leads, and is sent in the next turn of the loop; what comes
meanwhile is sent together as soon as the answer is here. Only behind a batch that is large, or late, another one is sent.
Nobody fails because of others: an item that was not done, or of which that is not known, is its owner's to say again alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.pool import Database, Row
from slackwater.postgres.prepared import HotStatement

Item = TypeVar("Item")

log = logging.getLogger(__name__)

IN_FLIGHT = 3
"""So many batches may be on their way: a large one, or one that waits, does not hold up the next."""

PROMPT_BYTES = 150_000
PROMPT_SECONDS = 0.1
"""A batch of no more bytes is prompt until it has been on its way for that time: what comes waits for its answer, and is
one batch then. A batch costs much and an item little, so that two small ones side by side make nobody faster."""

BATCH_ITEMS = 64
BATCH_BYTES = 250_000
"""What goes into one batch; a single item may be larger, and then goes by itself."""

BATCH_SECONDS = 10.0
"""How long several may wait for the answer to their batch. A connection may be silent: then each says it alone, on another.
No sooner: a database that stalls for seconds would be asked again by all of them at once. An item that is alone in its batch
has a statement's own time: it may be large, and keeps nobody."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[Item]):
    """What can be said for many in one statement."""

    name: str
    statement: Callable[[Sequence[Item]], HotStatement]
    """What does it for all of them, waiting for none of their rows. Its answer has a row for each item that was done, with
    its position `n`, from 1. Called in the turn in which it is sent."""
    bytes_of: Callable[[Item], int]
    """About how many bytes the statement has of an item. Called in the same turn."""


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Item]):
    kind: Kind[Item]
    item: Item
    row: asyncio.Future[Row | None]
    first: tuple[Kind[Any], Any] | None

    @property
    def size(self) -> int:
        size = self.kind.bytes_of(self.item)
        return size + self.first[0].bytes_of(self.first[1]) if self.first is not None else size

    def has(self, item: object) -> bool:
        return self.item is item or (self.first is not None and self.first[1] is item)


class GroupCommit:
    """Writes for everyone in the process. Its tasks last as long as there is something to write."""

    def __init__(self, database: Database, *, in_flight: int = IN_FLIGHT, alone: int = IN_FLIGHT) -> None:
        self._database = database
        self._in_flight = in_flight
        self._waiting: list[_Waiting[Any]] = []
        self._leaders: set[asyncio.Task[None]] = set()
        self._on_their_way: dict[asyncio.Timeout, list[_Waiting[Any]]] = {}
        """Batches, by what bounds the wait for their answer."""
        self._prompt: set[asyncio.Timeout] = set()
        """Those of them that are worth waiting for."""
        self._gathering = False
        """A leader is about to take whatever comes in this turn."""
        self._closed = False
        self.alone = asyncio.Semaphore(alone)
        """For what is said alone, which may wait for rows that somebody has locked: others find a connection all the same."""
        self._context = copy_context()
        """Not that of whoever comes first: a leader works for all."""

    async def send(
        self, kind: Kind[Item], item: Item, *, first: tuple[Kind[Any], Any] | None = None
    ) -> Row | None:
        """The item's row of the answer. None if it was not done, or nobody knows: say it again alone.

        What one run says has an order, which its owner keeps: the next item comes after the answer to the one before, or has
        it as its `first`, which is said in the same transaction. Whether that was done is for the item to ask.
        """
        if self._closed:
            return None
        row: asyncio.Future[Row | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(kind, item, row, first))
        self._lead()
        return await row

    def let_go(self, item: object = None) -> None:
        """Wait no longer for the answer to the batch that has this item, or to any: it is said again alone."""
        for bound, batch in self._on_their_way.items():
            if not bound.expired() and (item is None or any(waiting.has(item) for waiting in batch)):
                bound.reschedule(asyncio.get_running_loop().time())

    async def stop(self, timeout: float) -> None:
        """Take nothing more. What is on its way has half of `timeout` to end by itself, and half to be cancelled."""
        self._closed = True
        if self._leaders:
            await asyncio.wait(self._leaders, timeout=timeout / 2)
        self._close()
        self.let_go()
        if self._leaders:
            await asyncio.wait(self._leaders, timeout=timeout / 2)

    def _lead(self) -> None:
        if not self._gathering and not self._prompt and len(self._leaders) < self._in_flight:
            self._gathering = True
            leader = asyncio.create_task(self._send_all(), name="group-commit", context=self._context)
            self._leaders.add(leader)
            leader.add_done_callback(self._led)

    def _led(self, leader: asyncio.Task[None]) -> None:
        self._leaders.discard(leader)
        if leader.cancelled():  # before its first turn
            self._close()
        elif self._waiting:
            self._lead()  # it came between the leader's last look and now

    def _close(self) -> None:
        self._closed = True
        waiting, self._waiting = self._waiting, []
        _answer(waiting, {})

    async def _send_all(self) -> None:
        await asyncio.sleep(0)  # what others say in the same turn goes along
        self._gathering = False
        while True:
            batch, size = self._next_batch()
            if not batch:
                return
            if self._waiting:
                self._lead()  # they had no room in it
            await self._send(batch, is_prompt=size <= PROMPT_BYTES)

    def _next_batch(self) -> tuple[list[_Waiting[Any]], int]:
        """Who waits longest, and whoever else there is room for, with their bytes; none for who does not wait any more."""
        batch: list[_Waiting[Any]] = []
        left: list[_Waiting[Any]] = []
        size = 0
        for waiting in self._waiting:
            if waiting.row.done():
                continue
            its_size = waiting.size
            if batch and (len(batch) >= BATCH_ITEMS or size + its_size > BATCH_BYTES):
                left.append(waiting)
            else:
                batch.append(waiting)
                size += its_size
        self._waiting = left
        return batch, size

    def _late(self, bound: asyncio.Timeout) -> None:
        self._prompt.discard(bound)
        if self._waiting:
            self._lead()

    async def _send(self, batch: list[_Waiting[Any]], *, is_prompt: bool) -> None:
        said: dict[Kind[Any], list[tuple[Any, _Waiting[Any] | None]]] = {}
        """Items of each kind in their order, and who waits for the row of each."""
        for kind, item in (waiting.first for waiting in batch if waiting.first is not None):
            said.setdefault(kind, []).append((item, None))
        for waiting in batch:
            said.setdefault(waiting.kind, []).append((waiting.item, waiting))
        rows: dict[_Waiting[Any], Row] = {}
        bound = asyncio.timeout(BATCH_SECONDS if len(batch) > 1 else None)
        if is_prompt:
            self._prompt.add(bound)
        late = asyncio.get_running_loop().call_later(PROMPT_SECONDS, self._late, bound)
        try:
            async with bound, self._database.gate.operation():
                self._on_their_way[bound] = batch
                answers = await self._database.write(
                    *(kind.statement([item for item, _ in of]) for kind, of in said.items())
                )
            for of, answer in zip(said.values(), answers, strict=True):
                rows |= {who: row for row in answer if (who := of[row["n"] - 1][1]) is not None}
        except asyncio.CancelledError:
            self._close()  # the gate is shut, or this is the end: nobody writes here any more
        except DATABASE_UNAVAILABLE:
            pass  # those who say it again alone know what to do
        except Exception as error:
            log.info(
                "a batch of %d was not written, and is repeated one by one: %s",
                *(len(batch), error),
                extra={"event": "group_commit.failed"},
            )
        finally:
            late.cancel()
            self._prompt.discard(bound)
            self._on_their_way.pop(bound, None)
            _answer(batch, rows)


def _answer(batch: Sequence[_Waiting[Any]], rows: dict[_Waiting[Any], Row]) -> None:
    for waiting in batch:
        if not waiting.row.done():
            waiting.row.set_result(rows.get(waiting))
