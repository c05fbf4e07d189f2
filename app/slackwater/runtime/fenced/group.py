"""Checkpoints and task writes that are queued, as rows, to be stored with one statement."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from slackwater.runtime.events.journal import Event
from slackwater.runtime.fenced.files import StoredFiles
from slackwater.runtime.fenced.records import NO_ROWS, Rows, SaidMessage
from slackwater.runtime.fenced.statements import (
    BLOBS,
    CHECKPOINT_IS_THERE,
    CHECKPOINTS,
    EVENT_IS_THERE,
    INSERTS,
    UPSERTS,
    WRITE_IS_THERE,
    Insert,
)
from slackwater.runtime.queue.lease import Acknowledged

RESUME = "__resume__"
NULL_TASK_ID = "00000000-0000-0000-0000-000000000000"
"""LangGraph's names for a resume value, and for writes without a task; tests/unit/runtime/test_group.py fails if they change."""


@dataclass(slots=True)
class CheckpointPut:
    """A checkpoint to store, and the blobs it refers to."""

    row: tuple[Any, ...]
    blobs: list[tuple[str, str, str, str, str, bytes]]
    head: Any | None
    """The checkpoint itself if it belongs to the root graph; None for a subgraph's."""
    messages: list[SaidMessage] = field(default_factory=list)
    """What was said by tasks whose writes it has."""

    @property
    def size(self) -> int:
        return len(self.row[4]) + len(self.row[5]) + sum(len(blob[5] or b"") for blob in self.blobs)


@dataclass(slots=True)
class WritesPut:
    """The writes of one task."""

    rows: dict[tuple[str, str, str, str, int], tuple[Any, ...]]
    upsert: bool
    root_input: bool
    answers: bool
    """A task has consumed the run's resume value, which must not be offered to the next interrupt."""
    messages: list[SaidMessage] = field(default_factory=list)
    """What the task has said."""

    @property
    def size(self) -> int:
        return sum(len(row[8] or b"") for row in self.rows.values())


@dataclass(slots=True)
class Group:
    """The contents of one statement."""

    checkpoints: list[CheckpointPut] = field(default_factory=list)
    writes: list[WritesPut] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    files: StoredFiles | None = None
    """What nodes have changed among the files of the thread, before these checkpoints."""
    said: list[SaidMessage] = field(default_factory=list)
    """By tasks whose writes are in it, in the order in which these were put."""
    records: Rows = field(default_factory=lambda: NO_ROWS)
    """What goes with it of messages and token counts, since it was taken."""

    def __bool__(self) -> bool:
        return bool(self.checkpoints or self.writes or self.waiting or self.files)

    @property
    def size(self) -> int:
        """Approximate size in bytes."""
        puts = sum(put.size for put in self.checkpoints) + sum(put.size for put in self.writes)
        return puts + sum(message.size for message in self.said)

    def add(self, put: CheckpointPut | WritesPut) -> None:
        """Add a checkpoint or a task's writes to the group."""
        if isinstance(put, CheckpointPut):
            self.checkpoints.append(put)
        else:
            self.writes.append(put)
        self.said += put.messages

    @property
    def heads(self) -> list[Any]:
        """The checkpoints of the root graph."""
        return [checkpoint.head for checkpoint in self.checkpoints if checkpoint.head]

    @property
    def has_answers(self) -> bool:
        """Whether a task has consumed the run's resume value."""
        return any(writes.answers for writes in self.writes)

    @property
    def has_root_input(self) -> bool:
        return any(writes.root_input for writes in self.writes)

    def touched(self, checkpoints: AbstractSet[tuple[str, str]]) -> set[tuple[str, str]]:
        """The members of `checkpoints` (namespace, id) that the group's tasks write to."""
        if not checkpoints:
            return set()
        return {(key[1], key[2]) for writes in self.writes for key in writes.rows} & checkpoints

    def rows(self) -> dict[Insert, Collection[Sequence[Any]]]:
        """The rows by target, without duplicate keys."""
        answers = self.has_answers
        upserts: dict[Any, tuple[Any, ...]] = {}
        inserts: dict[Any, tuple[Any, ...]] = {}
        for writes in self.writes:
            for key, row in writes.rows.items():
                if answers and row[3] == NULL_TASK_ID and row[6] == RESUME:
                    continue
                if writes.upsert:
                    upserts[key] = row
                else:
                    inserts.setdefault(key, row)
        found = {
            BLOBS: {blob[:4]: blob for checkpoint in self.checkpoints for blob in checkpoint.blobs},
            CHECKPOINTS: {checkpoint.row[:3]: checkpoint.row for checkpoint in self.checkpoints},
            UPSERTS: upserts,
            INSERTS: inserts,
        }
        return {insert: rows.values() for insert, rows in found.items() if rows} | dict(self.records)

    def parameters(self) -> tuple[tuple[Insert, ...], dict[str, Any]]:
        """The inserts that are needed, and their parameters."""
        params: dict[str, Any] = {}
        rows = self.rows()
        for insert, values in rows.items():
            insert.add(params, values)
        return tuple(rows), params

    def newest(self, events: Sequence[Event]) -> Acknowledged | None:
        """A row that is stored only if the whole group and `events` are."""
        if events:
            return Acknowledged(EVENT_IS_THERE, {"event_seq": events[-1].id.seq})
        if self.checkpoints:
            return Acknowledged(
                CHECKPOINT_IS_THERE, dict(zip(_PUT_KEY, self.checkpoints[-1].row[:3], strict=True))
            )
        for writes in reversed(self.writes):
            for key, row in writes.rows.items():
                if row[3] != NULL_TASK_ID or row[6] != RESUME:  # `rows` may leave that one out
                    put = dict(zip((*_PUT_KEY, "put_task", "put_idx"), key, strict=True))
                    return Acknowledged(
                        WRITE_IS_THERE, {**put, "put_blob": row[8] if writes.upsert else None}
                    )
        return None


_PUT_KEY = ("put_thread", "put_ns", "put_id")
