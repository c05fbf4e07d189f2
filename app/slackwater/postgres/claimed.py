"""Rows that wait for something to be done outside of the database: claimed, worked on several at a time, and ended.

A claim is a lease, and counts as an attempt before anything is done. Whatever happens to this process, a row stays until its
work is done, or is given up: it may be done twice, and is never lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.pool import Row

log = logging.getLogger(__name__)

GIVE_BACK_SECONDS = 1.0
"""What it may take to say that an attempt was broken off. Otherwise its lease says so, later."""
BREAK_OFF_SHARE, MOMENT_SECONDS = 0.4, 0.05
"""Of the time that is left when this process stops, for giving back what it has; and how much at least."""
TROUBLE_CHARACTERS = 500
"""So much is kept of why something could not be done."""


@dataclass(frozen=True)
class Terms:
    """How much of it is done at a time, how often it is tried, and what the log says of it."""

    what: str
    """What a row is, for people."""
    key: str
    """The column that names its task."""
    at_a_time: int
    of_one_owner: int
    """Of these. Whenever one of an owner with as many is done, the next is looked for."""
    max_attempts: int
    first_pause: float
    pause_factor: float
    longest_pause: float
    put_off: Mapping[str, str]
    """The event, as the `extra` of a line, of one that is tried again later."""
    given_up: Mapping[str, str]
    """Of one that is not tried again."""
    trouble: Mapping[str, str]
    """Of what nobody expects, and of a database that does not answer."""
    holds: bool = False
    """Whether an invocation of AWS Lambda goes on for it until its deadline nears, and not for a moment only."""


class Claimed(ABC):
    """The rows that this process has claimed, and the tasks that work on them. They have `owner`, `attempts`, and `trouble`."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._live: dict[asyncio.Task[None], Row] = {}
        """What is being worked on."""
        self._claiming: asyncio.Task[None] | None = None
        self._generation = 0
        """Raised when what is in hand is broken off: what an earlier claim brings after that is given back."""
        self._wanted = False
        """More may be due than the last claim brought."""
        self._held_back = False
        """An owner had as many as one may when the last claim was made: more may be due of theirs."""
        self._stopped = self._breaking_off = False

    # What a kind of row is

    @abstractmethod
    async def _claim(self, free: int, in_hand: Sequence[str]) -> list[Row]:
        """Take up to `free` rows that are due. `in_hand` has the owner of each that is being worked on here."""

    @abstractmethod
    async def _attempt(self, row: Row) -> str | None:
        """Do it, and end the row; why it could not be done, or None. Raises DATABASE_UNAVAILABLE."""

    @abstractmethod
    async def _put_off(self, row: Row, seconds: float, trouble: str) -> None:
        """Due again in so many seconds."""

    @abstractmethod
    async def _give_up(self, row: Row, trouble: str) -> bool:
        """Never due again; whether it was ours to say so."""

    @abstractmethod
    async def _give_back(self, row: Row) -> None:
        """Due at once, for anybody: the attempt was broken off, and does not count."""

    @abstractmethod
    def _about(self, row: Row) -> Mapping[str, Any]:
        """What the log says of a row."""

    def _goes_on(self) -> bool:
        """Whether rows may be claimed at all."""
        return True

    # What is done with all of them

    def look(self) -> None:
        """Look for what is due, and begin with it."""
        if self._stopped:
            return
        self._wanted = True
        if self._claiming is None and self._may_claim:
            # In a context of its own: whoever asks may be a run, which ends before this does.
            self._claiming = asyncio.create_task(
                self._begin(), name=f"{self._terms.what}s", context=Context()
            )

    async def sent(self, timeout: float) -> None:
        """Wait, `timeout` seconds at most, until nothing more is being done; what is, is broken off and stays due."""
        until = time.monotonic() + timeout
        patience = until - timeout * BREAK_OFF_SHARE
        while (busy := self._busy) and (left := patience - time.monotonic()) > 0:
            await asyncio.wait(busy, timeout=left)
        await self._break_off(until)

    async def idle(self, until: float) -> None:
        """Wait until nothing is being done that an invocation goes on for, or `until` (monotonic seconds). Nothing is broken off."""
        while self._terms.holds and (busy := self._busy) and (left := until - time.monotonic()) > 0:
            await asyncio.wait(busy, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    async def stop(self, timeout: float) -> None:
        """Look for nothing more; what is being done or looked for has `timeout` seconds left."""
        self._stopped = True
        await self.sent(timeout)

    @property
    def _may_claim(self) -> bool:
        return not self._breaking_off and self._goes_on()

    @property
    def _busy(self) -> set[asyncio.Task[None]]:
        return set(self._live) | ({self._claiming} if self._claiming is not None else set())

    async def _break_off(self, until: float) -> None:
        # Until all is given back nothing is claimed, whoever asks: the process may be frozen with it.
        self._breaking_off = True
        try:
            # A claim in flight is waited for: what it brings would otherwise be nobody's until its lease ends.
            if self._claiming is not None:
                await asyncio.wait([self._claiming], timeout=max(MOMENT_SECONDS, until - time.monotonic()))
            self._generation += 1
            await asyncio.sleep(0)  # a task that is cancelled before its first turn gives nothing back
            if tasks := set(self._live):
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks, timeout=max(MOMENT_SECONDS, until - time.monotonic()))
        finally:
            self._breaking_off = self._wanted = self._held_back = False

    async def _begin(self) -> None:
        """Claim what there is room for, and begin with it."""
        terms = self._terms
        try:
            while self._wanted and self._may_claim and (free := terms.at_a_time - len(self._live)) > 0:
                self._wanted = False
                generation = self._generation
                in_hand = [row["owner"] for row in self._live.values()]
                rows = await self._claim(free, in_hand)
                if generation != self._generation:  # nobody has waited for it
                    await asyncio.gather(*(self._let_go(row) for row in rows))
                    continue
                for row in rows:
                    task = asyncio.create_task(
                        self._work(row), name=f"{terms.what}:{row[terms.key]}", context=Context()
                    )
                    self._live[task] = row
                    task.add_done_callback(self._done)
                self._wanted = self._wanted or len(rows) == free
                # As the claim saw it: some of them may be done by now.
                owners = Counter([*in_hand, *(row["owner"] for row in rows)])
                self._held_back = max(owners.values(), default=0) >= terms.of_one_owner
        except DATABASE_UNAVAILABLE as problem:
            log.warning("%ss: %s; the next sweep goes on", terms.what, problem, extra=terms.trouble)
        except Exception:
            log.exception("%ss not claimed; the next sweep tries again", terms.what, extra=terms.trouble)
        finally:
            self._claiming = None

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._live[task]
        if self._wanted or self._held_back:
            self.look()

    async def _work(self, row: Row) -> None:
        """One row, whatever comes of it."""
        try:
            await self._settle(row, await self._tried(row))
        except asyncio.CancelledError:
            await self._let_go(row)
            raise
        except DATABASE_UNAVAILABLE as problem:
            log.warning(
                "what came of a %s is not recorded: %s; it is tried again",
                self._terms.what,
                problem,
                extra={**self._terms.trouble, **self._about(row)},
            )
        except Exception:
            log.exception(
                "what came of a %s is not recorded; its lease expires",
                self._terms.what,
                extra={**self._terms.trouble, **self._about(row)},
            )

    async def _tried(self, row: Row) -> str | None:
        """Why it could not be done, or None."""
        if row["attempts"] > self._terms.max_attempts:  # the last ones ended with their processes
            return row["trouble"] or "every attempt ended with its process"
        try:
            return await self._attempt(row)
        except DATABASE_UNAVAILABLE:
            raise
        except Exception as problem:  # whatever it is, the row is put off and, at last, given up
            log.exception("%s failed", self._terms.what, extra={**self._terms.trouble, **self._about(row)})
            return type(problem).__name__

    async def _settle(self, row: Row, trouble: str | None) -> None:
        terms = self._terms
        if trouble is None:
            return
        trouble = trouble.replace("\0", "")[:TROUBLE_CHARACTERS]  # no column takes a NUL
        if row["attempts"] < terms.max_attempts:
            seconds = pause(row["attempts"], terms.first_pause, terms.pause_factor, terms.longest_pause)
            await self._put_off(row, seconds, trouble)
            log.warning("%s put off: %s", terms.what, trouble, extra={**terms.put_off, **self._about(row)})
        elif await self._give_up(row, trouble):
            log.error("%s given up: %s", terms.what, trouble, extra={**terms.given_up, **self._about(row)})

    async def _let_go(self, row: Row) -> None:
        try:
            async with asyncio.timeout(GIVE_BACK_SECONDS):
                await self._give_back(row)
        except DATABASE_UNAVAILABLE as problem:
            log.warning(
                "%s not given back: %s; its lease expires",
                self._terms.what,
                problem,
                extra={**self._terms.trouble, **self._about(row)},
            )


def pause(attempts: int, first: float, factor: float, longest: float) -> float:
    """Seconds until the next attempt, after so many: `factor` times as long after each."""
    return min(first * factor ** (attempts - 1), longest) * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
