"""Everything in the runtime that needs LangGraph. Use it through `slackwater.runtime.execution.engine`, which imports it when needed."""

from __future__ import annotations

from langgraph.store.base import InvalidNamespaceError

from slackwater.runtime.execution.checkpointer import PooledSaver, RunSaver
from slackwater.runtime.execution.clock import advance_past
from slackwater.runtime.execution.control import Control
from slackwater.runtime.execution.executor import execute
from slackwater.runtime.execution.new_thread import NewThreadSaver
from slackwater.runtime.execution.outcome import conclude, settle
from slackwater.runtime.execution.start import command_of, is_one_answer, pending_nodes
from slackwater.runtime.execution.store import GatedStore, OwnedStore, open_store

__all__ = [
    "Control",
    "GatedStore",
    "InvalidNamespaceError",
    "NewThreadSaver",
    "OwnedStore",
    "PooledSaver",
    "RunSaver",
    "advance_past",
    "command_of",
    "conclude",
    "execute",
    "is_one_answer",
    "open_store",
    "pending_nodes",
    "settle",
]
