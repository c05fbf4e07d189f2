"""Everything of the runtime that needs LangGraph. Import it through `app.runtime.engine`, which waits until it must."""

from __future__ import annotations

from langgraph.store.base import InvalidNamespaceError

from app.runtime.clock import advance_past
from app.runtime.control import Control
from app.runtime.draft import DraftSaver
from app.runtime.executor import execute
from app.runtime.outcome import conclude, settle
from app.runtime.saver import PooledSaver, RunSaver
from app.runtime.start import command_of, is_one_answer, pending_nodes
from app.runtime.store import GatedStore, OwnedStore, open_store

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
