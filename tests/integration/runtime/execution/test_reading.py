"""Checkpoints are read without a thread: those belong to the nodes of graphs."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint

from slackwater.postgres.pool import Database
from slackwater.runtime.execution.checkpointer import PooledSaver


async def test_a_checkpoint_is_read_while_every_thread_is_taken(database: Database) -> None:
    # GIVEN a checkpoint with writes, and a sync node that has the only thread
    saver = PooledSaver(database)
    config: RunnableConfig = {"configurable": {"thread_id": str(UUID(int=1)), "checkpoint_ns": ""}}
    stored = await saver.aput(config, empty_checkpoint(), {"source": "loop", "step": 1}, {})
    await saver.aput_writes(stored, [("channel", {"some": ["value"]})], "task")
    released = threading.Event()
    threads = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(threads)
    node = asyncio.ensure_future(asyncio.to_thread(released.wait, 20))
    # WHEN
    try:
        found = await asyncio.wait_for(saver.aget_tuple(config), 5)
    finally:
        released.set()
        await node
    # THEN
    assert found is not None
    assert found.pending_writes == [("task", "channel", {"some": ["value"]})]
