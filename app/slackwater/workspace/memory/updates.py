"""Finds out what is to be remembered of what was said: asks a model about each conversation that is due.

Whatever happens to this process, an update stays a row until the memory has it: the statement that changes the memory ends the row, by
compare-and-set on both. A model may be asked twice, and nothing is ever remembered twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from slackwater.errors import MemoryContended, MemoryTooLarge
from slackwater.kit.bounded import bounded
from slackwater.postgres.claimed import Claimed, Terms
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
FIRST_PAUSE_SECONDS, PAUSE_FACTOR, LONGEST_PAUSE_SECONDS = 10.0, 4.0, 640.0
"""Between attempts: together about a quarter of an hour."""

TERMS = Terms(
    what="memory update",
    key="thread_id",
    at_a_time=AT_A_TIME,
    of_one_owner=1,
    max_attempts=MAX_ATTEMPTS,
    first_pause=FIRST_PAUSE_SECONDS,
    pause_factor=PAUSE_FACTOR,
    longest_pause=LONGEST_PAUSE_SECONDS,
    put_off={"event": "memory.put_off"},
    given_up={"event": "memory.given_up"},
    trouble={"event": "memory.trouble"},
    holds=True,  # models take longer than a moment, and each would be asked again by every sweep
)


class MemoryUpdates(Claimed):
    """Those that this process makes."""

    def __init__(self, database: Database, spec: Callable[[], GatewaySpec], models: ChatModels) -> None:
        super().__init__(TERMS)
        self._database, self._spec, self._models = database, spec, models

    async def sweep(self) -> None:
        """Begin with what is due, or forget it at last where nothing is remembered any more."""
        if not self._goes_on():
            await queries.trim_updates(self._database)
        self.look()

    def _goes_on(self) -> bool:
        return self._spec().memory_model is not None

    async def _claim(self, free: int, in_hand: Sequence[str]) -> list[Row]:
        return await queries.claim_updates(self._database, limit=free, seconds=LEASE_SECONDS)

    async def _put_off(self, row: Row, seconds: float, trouble: str) -> None:
        await queries.put_off_update(self._database, row, seconds=seconds, trouble=trouble)

    async def _give_up(self, row: Row, trouble: str) -> bool:
        return await queries.end_update(self._database, row)

    async def _give_back(self, row: Row) -> None:
        await queries.give_back_update(self._database, row)

    def _about(self, row: Row) -> dict[str, Any]:
        return {"thread_id": str(row["thread_id"]), "attempt": row["attempts"]}

    async def _attempt(self, row: Row) -> str | None:
        spec = self._spec()
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
            extra={"event": "memory.updated", "done": done, "facts": len(after["facts"]), **self._about(row)},
        )
