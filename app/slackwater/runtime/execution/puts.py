"""What LangGraph puts into a checkpointer, as rows, laid out as the stock saver does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import RESUME, _DeltaSnapshot

from slackwater.postgres import jsonb
from slackwater.runtime.fenced.group import NULL_TASK_ID, CheckpointPut, WritesPut


def checkpoint_put(
    serde: SerializerProtocol,
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    new_versions: ChannelVersions,
    *,
    is_head: bool,
) -> CheckpointPut:
    """`is_head`: it is the run's own, of its thread's root graph."""
    configurable = config["configurable"]
    thread_id, namespace = str(configurable["thread_id"]), configurable.get("checkpoint_ns", "")
    blobs, stored = _split(serde, checkpoint, new_versions)
    return CheckpointPut(
        row=(
            thread_id,
            namespace,
            checkpoint["id"],
            configurable.get("checkpoint_id"),
            jsonb.dumps(stored),
            jsonb.dumps(get_serializable_checkpoint_metadata(config, metadata)),
        ),
        blobs=[(thread_id, namespace, *blob) for blob in blobs],
        head=checkpoint if is_head else None,
    )


def writes_put(
    serde: SerializerProtocol,
    config: RunnableConfig,
    writes: Sequence[tuple[str, Any]],
    task_id: str,
    task_path: str,
    *,
    base_id: str | None = None,
) -> WritesPut:
    """`base_id`: the checkpoint that the run forks from."""
    configurable = config["configurable"]
    key = (
        str(configurable["thread_id"]),
        configurable.get("checkpoint_ns", ""),
        configurable["checkpoint_id"],
    )
    rows = {}
    for position, (channel, value) in enumerate(writes):
        index = WRITES_IDX_MAP.get(channel, position)
        rows[(*key, task_id, index)] = (
            *key,
            task_id,
            task_path,
            index,
            channel,
            *serde.dumps_typed(value),
        )
    return WritesPut(
        rows=rows,
        upsert=all(channel in WRITES_IDX_MAP for channel, _ in writes),
        # A fork's command waits on the checkpoint that it forks from, where a later start would not find it.
        root_input=task_id == NULL_TASK_ID and key[1] == "" and key[2] == base_id,
        answers=task_id != NULL_TASK_ID and any(channel == RESUME for channel, _ in writes),
    )


def _split(
    serde: SerializerProtocol, checkpoint: Checkpoint, new_versions: ChannelVersions
) -> tuple[list[tuple[str, str, str, bytes]], dict[str, Any]]:
    """Blobs to store apart, and the checkpoint with what is stored inline."""
    values: dict[str, Any] = {}
    blobs: dict[str, Any] = {}
    for channel, value in checkpoint["channel_values"].items():
        if isinstance(value, _DeltaSnapshot):
            blobs[channel], values[channel] = value, True
        elif value is None or isinstance(value, str | int | float | bool):
            values[channel] = value
        else:
            blobs[channel] = value
    rows = [
        (channel, str(version), *serde.dumps_typed(blobs[channel]))
        for channel, version in new_versions.items()
        if channel in blobs
    ]
    return rows, {**checkpoint, "channel_values": values}
