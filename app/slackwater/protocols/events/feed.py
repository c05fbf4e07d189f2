"""The events of one thread for one connection: read from the log, translated, numbered, from where it has left off."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from slackwater.protocols.events.translation import SPAN, Envelope, Translator, first_fence
from slackwater.runtime.events.journal import BEGINNING, EventId
from slackwater.runtime.events.run_reader import RunGone

if TYPE_CHECKING:
    from slackwater.runtime.events.thread_reader import ThreadLog


@dataclass(frozen=True, slots=True)
class Missing:
    """Events that retention has trimmed before the reader had them."""

    since: int
    """The number of the last event that the reader has."""
    first: int
    """The lowest number that is left."""

    def notice(self, command_id: int | None = None) -> dict[str, Any]:
        """The message for the reader."""
        return {
            "type": "error",
            "id": command_id,
            "error": "resume_gap",
            "message": f"The events after {self.since} were trimmed by retention: read the thread's state.",
            "since": self.since,
            "min_available_seq": self.first,
        }


class Feed:
    """A thread's events for one connection. There is no server-side state: a reader who reconnects gets a new feed."""

    def __init__(self, log: ThreadLog, owner: str, thread_id: UUID, since: int | None) -> None:
        """`since`: the number of the last event that the reader has."""
        self._log = log
        self._owner = owner
        self._thread_id = thread_id
        self._since = since
        self._translator = Translator()
        self.cursor = BEGINNING if since is None else EventId(first_fence(since), 0)
        """How far the log was read."""
        self.seq = since or 0
        """The number of the last event that was returned."""
        self.missing: Missing | None = None
        """A gap that the reader must learn of before anything else."""

    async def batches(self) -> AsyncGenerator[list[Envelope]]:
        """The events, without end. Raises StreamCut when this process leaves.

        Waits for a thread that does not exist for this owner.
        """
        while True:
            try:
                async with aclosing(
                    self._log.follow(self._owner, self._thread_id, self.cursor, patient=True)
                ) as read:
                    async for entries in read:
                        batch: list[Envelope] = []
                        for entry in entries:
                            if (
                                entry.name == "gap"
                                and self._since is not None
                                and self.seq < entry.id.fence * SPAN
                            ):
                                self.missing = Missing(self.seq, entry.id.fence * SPAN + 1)
                            batch += [
                                event
                                for event in self._translator.feed(entry)
                                if self._since is None or event.seq > self._since
                            ]
                        self.cursor = entries[-1].id
                        if batch:
                            self.seq = batch[-1].seq
                        yield batch
            except RunGone:
                # Another thread may be made under its id.
                self.cursor, self._since, self.seq, self._translator = BEGINNING, None, 0, Translator()

    @classmethod
    def of_run(cls, log: ThreadLog, owner: str, thread_id: UUID, start: EventId) -> Feed:
        """What a run has said whose log begins after `start`."""
        return cls(log, owner, thread_id, (start.fence - 1) * SPAN)

    @property
    def resting(self) -> bool:
        """The newest run has ended."""
        return self._translator.resting

    def tree(self) -> dict[str, Any] | None:
        """Where the newest run stands."""
        return self._translator.tree()
