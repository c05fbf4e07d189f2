"""Finds out what is to be remembered of what was said: asks a model about each conversation that is due.

Whatever happens to this process, an update stays a row until the memory has it: the statement that changes the memory ends the row, by
compare-and-set on both. A model may be asked twice, and nothing is ever remembered twice.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from slackwater.errors import MemoryContended, MemoryTooLarge
from slackwater.kit.bounded import bounded
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.pool import Database, Row
from slackwater.project.gateway import GatewaySpec, LlmModel, MemorySpec
from slackwater.workspace.memory import document, edit, queries
from slackwater.workspace.memory.document import Document
from slackwater.workspace.memory.proposal import Proposal, merged, proposal_in, question
from slackwater.workspace.usage import service as usage

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

    from slackwater.workspace.llm_models.built import ChatModels

log = logging.getLogger(__name__)

CALLER = "memory"
"""As whom its tokens are counted."""

AT_A_TIME = 4
"""Of different owners: two updates of one memory would be made of the same one."""
BUILD_SECONDS, ASK_SECONDS = 30.0, 60.0
"""How long the model's package may be imported, and how long it has for its answer."""
LEASE_SECONDS = BUILD_SECONDS + ASK_SECONDS + 15
MAX_ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 10.0
"""Between attempts, four times as long after each: together about a quarter of an hour."""
LET_GO_SECONDS = 1.0
WAIT_SHARE, MOMENT_SECONDS = 0.6, 0.05
"""Of the time that is left when this process stops, for what is being asked. The rest is for giving it back, and at least a moment."""


class MemoryUpdates:
    """Those that this process makes."""

    def __init__(self, database: Database, spec: Callable[[], GatewaySpec], models: ChatModels) -> None:
        self._database, self._spec, self._models = database, spec, models
        self._stopped = self._breaking_off = False
        self._taking: asyncio.Task[None] | None = None
        self._live: set[asyncio.Task[None]] = set()

    def nudge(self) -> None:
        """Nothing becomes due when a run ends: the next sweep looks."""

    async def sweep(self) -> None:
        """Begin with what is due, or forget it at last where nothing is remembered any more."""
        if self._spec().memory_model is None:
            await queries.trim_updates(self._database)
        self._look()

    async def sent(self, timeout: float) -> None:
        """Wait, `timeout` seconds at most, until nothing is being asked; what is, is broken off and due at once, for anybody."""
        until = time.monotonic() + timeout
        patience = time.monotonic() + timeout * WAIT_SHARE
        while (busy := self._busy) and (left := patience - time.monotonic()) > 0:
            await asyncio.wait(busy, timeout=left)
        await self._break_off(until)

    async def stop(self, timeout: float) -> None:
        """The same, and begin with nothing more."""
        self._stopped = True
        await self.sent(timeout)

    @property
    def _busy(self) -> set[asyncio.Task[None]]:
        return self._live | ({self._taking} if self._taking is not None else set())

    async def _break_off(self, until: float) -> None:
        self._breaking_off = True
        try:
            # A claim in flight is waited for: what it brings would otherwise be nobody's until its lease ends.
            if self._taking is not None:
                await asyncio.wait([self._taking], timeout=max(MOMENT_SECONDS, until - time.monotonic()))
            await asyncio.sleep(0)  # a task that is cancelled before its first turn gives nothing back
            if tasks := set(self._live):
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks, timeout=max(MOMENT_SECONDS, until - time.monotonic()))
        finally:
            self._breaking_off = False

    def _look(self) -> None:
        idle = self._taking is None and not self._stopped and not self._breaking_off
        if idle and self._spec().memory_model is not None:
            self._taking = asyncio.create_task(self._take(), name="memory")

    async def _take(self) -> None:
        try:
            free = AT_A_TIME - len(self._live)
            rows = (
                await queries.claim_updates(self._database, limit=free, seconds=LEASE_SECONDS)
                if free > 0
                else []
            )
            for row in rows:
                task = asyncio.create_task(self._work(row), name=f"memory:{row['thread_id']}")
                self._live.add(task)
                task.add_done_callback(self._done)
        except DATABASE_UNAVAILABLE as problem:
            log.warning("memory: %s; the next sweep goes on", problem, extra={"event": "memory.trouble"})
        except Exception:
            log.exception(
                "updates not claimed; the next sweep tries again", extra={"event": "memory.trouble"}
            )
        finally:
            self._taking = None

    def _done(self, task: asyncio.Task[None]) -> None:
        self._live.discard(task)
        if not task.cancelled():
            self._look()  # the next of the same owner, or one of those for which there was no room

    async def _work(self, row: Row) -> None:
        """One update, whatever comes of it."""
        try:
            await self._settle(row, await self._attempt(row))
        except asyncio.CancelledError:
            await self._give_back(row)
            raise
        except DATABASE_UNAVAILABLE as problem:
            log.warning(
                "memory not updated: %s; it is tried again",
                problem,
                extra={"event": "memory.trouble", **_about(row)},
            )

    async def _settle(self, row: Row, trouble: str | None) -> None:
        if trouble is None:
            return
        if row["attempts"] >= MAX_ATTEMPTS:
            if await queries.end_update(self._database, row):
                log.error(
                    "an update is given up: %s", trouble, extra={"event": "memory.given_up", **_about(row)}
                )
            return
        seconds = FIRST_PAUSE_SECONDS * 4.0 ** (row["attempts"] - 1) * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        await queries.put_off_update(self._database, row, seconds=seconds, trouble=trouble)
        log.warning("an update is put off: %s", trouble, extra={"event": "memory.put_off", **_about(row)})

    async def _attempt(self, row: Row) -> str | None:
        """Make it; why it could not be made, or None. Raises DATABASE_UNAVAILABLE."""
        spec = self._spec()
        if row["attempts"] > MAX_ATTEMPTS:  # the last ones ended with their processes
            return row["trouble"] or "every attempt ended with its process"
        if (model := spec.memory_model) is None:
            return "there is no model any more"
        seen = document.read((await queries.read(self._database, row["owner"])).value)
        answer = await self._ask(model, row, seen)
        if isinstance(answer, str):
            return answer
        # Before anything is made of it: what it cost is spent.
        await usage.book(self._database, row["owner"], row["thread_id"], CALLER, model.model, answer)
        proposal = proposal_in(answer.content)
        if proposal is None:
            return f"model {model.name} did not answer with a JSON object"
        try:
            await self._remember(row, seen, proposal, spec.memory)
        except (MemoryContended, MemoryTooLarge) as problem:
            return problem.message
        return None

    async def _ask(self, model: LlmModel, row: Row, seen: Document) -> AIMessage | str:
        """What the model answers, or why it does not."""
        try:
            chat = await bounded(self._models.get(model), BUILD_SECONDS, None)
            if chat is None:
                return f"model {model.name} was not imported within {BUILD_SECONDS:g} s"
            answer = await bounded(chat.ainvoke(question(seen, row["messages"])), ASK_SECONDS, None)
        except Exception as problem:  # of the provider's package: anything
            return f"{type(problem).__name__}: {problem}"[:300]
        return answer or f"model {model.name} did not answer within {ASK_SECONDS:g} s"

    async def _remember(self, row: Row, seen: Document, proposal: Proposal, spec: MemorySpec) -> None:
        """Change the memory and end the row, in one statement, unless somebody else has the row now."""

        def change(now: Document) -> Document:
            return merged(now, seen, proposal, spec, str(row["thread_id"]))

        after, done = await edit.apply(self._database, row["owner"], change, queries.ending(row))
        log.info(
            "what was said is remembered" if done else "an update is another's by now",
            extra={"event": "memory.updated", "done": done, "facts": len(after["facts"]), **_about(row)},
        )

    async def _give_back(self, row: Row) -> None:
        try:
            async with asyncio.timeout(LET_GO_SECONDS):
                await queries.give_back_update(self._database, row)
        except DATABASE_UNAVAILABLE as problem:
            log.warning(
                "an update was not given back: %s; its lease expires",
                problem,
                extra={"event": "memory.trouble", **_about(row)},
            )


def _about(row: Row) -> dict[str, Any]:
    return {"thread_id": str(row["thread_id"]), "attempt": row["attempts"]}
