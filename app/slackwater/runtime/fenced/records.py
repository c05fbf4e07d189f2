"""The messages and token counts of one attempt, until the fenced writer stores them.

A message belongs to a task of the graph, and is stored with the task's writes: whatever a task has said is in the table just
when the task does not run again. Token counts are stored as soon as anything is, since their tokens are spent either way.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from slackwater.kit.tokens import Tokens
from slackwater.postgres.arrays import BoolArray, IntArray, JsonbArray, LongArray, TextArray, UuidArray
from slackwater.runtime.fenced.statements import Insert

log = logging.getLogger(__name__)

PER_FENCE = 1_000_000
"""Rows that one attempt may store. Fences grow from one attempt of a thread to the next, and so do `seq`s made of them."""

MESSAGES = Insert(
    "messages_put",
    "slackwater.messages",
    "m",
    {
        "thread_id": UuidArray,
        "seq": LongArray,
        "run_id": UuidArray,
        "event_type": TextArray,
        "category": TextArray,
        "content": JsonbArray,
        "metadata": JsonbArray,
    },
    "(thread_id, seq) do nothing",
)
USAGE = Insert(
    "usage_put",
    "slackwater.token_usage",
    "t",
    {
        "run_id": UuidArray,
        "call_id": UuidArray,
        "thread_id": UuidArray,
        "owner": TextArray,
        "model": TextArray,
        "caller": TextArray,
        "input_tokens": LongArray,
        "output_tokens": LongArray,
        "total_tokens": LongArray,
        "cached_tokens": LongArray,
        "reasoning_tokens": LongArray,
        "repeated": BoolArray,
        "task": TextArray,
        "place": IntArray,
    },
    "(run_id, call_id) do nothing",
)

Tasks = tuple[str, ...]
"""The ids of a task and of those that it runs inside, the outermost first; empty outside of all tasks."""


def tasks_of(namespace: str) -> Tasks:
    """The tasks that a namespace of checkpoints is of."""
    return tuple(part.rpartition(":")[2] for part in namespace.split("|")) if namespace else ()


Rows = Mapping[Insert, Collection[Sequence[Any]]]

NO_ROWS: Rows = MappingProxyType({})


def size_of(rows: Rows) -> int:
    """Approximate size of the messages in bytes."""
    return sum(len(row[-2]) + len(row[-1]) for row in rows.get(MESSAGES, ()))


class SaidMessage(NamedTuple):
    """A row before it has its place in the thread."""

    event_type: str
    category: str
    content: bytes
    metadata: bytes
    id: str | None = None
    """The message's own, which is in `content` too."""

    @property
    def size(self) -> int:
        return len(self.content) + len(self.metadata)


class Usage(NamedTuple):
    """The tokens of one call."""

    call_id: UUID
    model: str
    caller: str
    tokens: Tokens
    repeated: bool
    task: str
    place: int


@dataclass(slots=True)
class TakenRecords:
    """Rows that go with one statement; the same whenever it is sent again."""

    messages: list[tuple[object, ...]] = field(default_factory=list)
    usage: list[Usage] = field(default_factory=list)


class Records:
    """Callbacks add to it, in any thread; the writer takes from it."""

    def __init__(self, thread_id: UUID, run_id: UUID, owner: str, fence: int) -> None:
        self._thread_id = thread_id
        self._run_id = run_id
        self._owner = owner
        self._fence = fence
        self._next = fence * PER_FENCE + 1
        self._end = (fence + 1) * PER_FENCE
        self._is_full = False
        self._lock = threading.Lock()
        self._pending: list[tuple[Tasks, SaidMessage]] = []
        self._finished: dict[str, int] = {}
        """The supersteps of tasks that have ended while what they have said is still pending."""
        self._ending: list[SaidMessage] = []
        """What is said last, if the run ends now."""
        self._usage: list[Usage] = []
        self._last = TakenRecords()

    # For callbacks

    def say(self, tasks: Tasks, message: SaidMessage) -> None:
        """Keep a message until its task is stored."""
        with self._lock:
            self._pending.append((tasks, message))

    def say_last(self, message: SaidMessage) -> None:
        """Keep a message for the end of the run: it is of no use if that does not come."""
        with self._lock:
            self._ending.append(message)

    def book(self, usage: Usage) -> None:
        """Keep the tokens of a call for the next statement."""
        with self._lock:
            self._usage.append(usage)

    def unsay(self, task: str) -> list[SaidMessage]:
        """A task begins again, or stops until it is answered: the state has nothing of what it has said."""
        return self._pop(lambda tasks: task in tasks)

    def finish(self, task: str, step: int) -> None:
        """A task of this superstep has ended."""
        with self._lock:
            if any(task in tasks for tasks, _ in self._pending):
                self._finished[task] = step

    # For the checkpointer

    def of_task(self, task: str) -> list[SaidMessage]:
        """Take what a task has said, whose writes are about to be put."""
        return self._pop(lambda tasks: task in tasks) if self._pending else []

    def of_finished(self, within: Tasks, step: int) -> list[SaidMessage]:
        """Take what ended tasks have said, as a checkpoint with all their writes is about to be put.

        It is of the graph inside the tasks `within`, after this superstep. What has ended later follows by `of_task`.
        """
        depth = len(within)

        def are_in(tasks: Tasks) -> bool:
            return tasks[:depth] == within and any(
                self._finished.get(task, step + 1) <= step for task in tasks[depth : depth + 1]
            )

        return self._pop(are_in) if self._pending else []

    def _pop(self, which: Callable[[Tasks], bool]) -> list[SaidMessage]:
        found: list[SaidMessage] = []
        left: list[tuple[Tasks, SaidMessage]] = []
        with self._lock:
            for item in self._pending:
                if which(item[0]):
                    found.append(item[1])
                else:
                    left.append(item)
            self._pending = left
            if self._finished:
                open_ = {task for tasks, _ in left for task in tasks}
                self._finished = {task: step for task, step in self._finished.items() if task in open_}
        return found

    # For the writer

    @property
    def loose_bytes(self) -> int:
        """Approximate size of what the next statement takes besides the messages of its tasks."""
        if not self._pending:
            return 0
        with self._lock:
            return sum(message.size for tasks, message in self._pending if not tasks)

    def take(self, messages: Iterable[SaidMessage]) -> TakenRecords:
        """Rows for a statement: those of `messages`, of what was said outside of tasks, and all token counts."""
        loose: list[SaidMessage] = []
        usage: list[Usage] = []
        if self._pending or self._usage:
            with self._lock:
                usage, self._usage = self._usage, []
                loose = [message for tasks, message in self._pending if not tasks]
                if loose:
                    self._pending = [item for item in self._pending if item[0]]
        return TakenRecords([*self._placed((*loose, *messages))], usage)

    def untake(self, taken: TakenRecords) -> None:
        """The statement was refused, and the tasks run again: their tokens are spent all the same."""
        with self._lock:
            self._usage[:0] = taken.usage

    def all(self) -> list[SaidMessage]:
        """Take everything that was said: the run ends here."""
        with self._lock:
            pending, self._pending = self._pending, []
            ending, self._ending = self._ending, []
        return [*(message for _, message in pending), *ending]

    def last(self, *, ends: bool) -> Rows:
        """Rows for the statement that settles the run, the same whenever it is asked for again.

        `ends`: the run ends with what was said last. Otherwise the tasks that have said it run again.
        """
        if ends:
            taken = self.take(self.all())
            self._last.messages += taken.messages
        else:
            with self._lock:
                usage, self._usage = self._usage, []
            taken = TakenRecords(usage=usage)
        self._last.usage += taken.usage
        return self.rows(TakenRecords(self._last.messages if ends else [], self._last.usage))

    def rows(self, taken: TakenRecords) -> Rows:
        """By table, without empty collections."""
        found: dict[Insert, Collection[Sequence[Any]]] = {}
        if taken.messages:
            found[MESSAGES] = taken.messages
        if taken.usage:
            # A call's id is the caller's to choose. Two of one statement would not see each other.
            found[USAGE] = {usage.call_id: self._booked(usage) for usage in taken.usage}.values()
        return found

    def _placed(self, messages: Iterable[SaidMessage]) -> Iterable[tuple[object, ...]]:
        # Only here, as rows are sent: whoever has read up to a `seq` has missed none before it.
        for message in messages:
            if self._next >= self._end:
                self._tell_full()
                return
            yield self._thread_id, self._next, self._run_id, *message[:4]
            self._next += 1

    def _tell_full(self) -> None:
        if not self._is_full:
            log.warning(
                "this attempt has stored as many messages as it may: the rest is in the state alone",
                extra={"event": "messages.full", "run_id": str(self._run_id), "fence": self._fence},
            )
        self._is_full = True

    def _booked(self, usage: Usage) -> tuple[object, ...]:
        return (
            self._run_id,
            usage.call_id,
            self._thread_id,
            self._owner,
            usage.model,
            usage.caller,
            *usage.tokens,
            usage.repeated,
            usage.task,
            usage.place,
        )
