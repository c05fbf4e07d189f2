"""Everything of the runtime that needs LangGraph. Import it through `slackwater.runtime.execution.engine`, which waits until it must."""

from __future__ import annotations

from langgraph.store.base import InvalidNamespaceError

from slackwater.runtime.execution.checkpointer import PooledSaver, RunSaver
from slackwater.runtime.execution.clock import advance_past
from slackwater.runtime.execution.control import Control
from slackwater.runtime.execution.draft import DraftSaver
from slackwater.runtime.execution.executor import execute
from slackwater.runtime.execution.outcome import conclude, settle
from slackwater.runtime.execution.start import command_of, is_one_answer, pending_nodes
from slackwater.runtime.execution.store import GatedStore, OwnedStore, open_store

__all__ = [
    "Control",
    "DraftSaver",
    "GatedStore",
    "InvalidNamespaceError",
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
