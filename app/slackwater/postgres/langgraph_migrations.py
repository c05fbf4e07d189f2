"""How many migrations the installed LangGraph has."""

from __future__ import annotations

from importlib.metadata import version

PACKAGE = "langgraph-checkpoint-postgres"

KNOWN = {"3.2.0": (9, 3)}
"""The numbers of the last migrations (checkpoints, store) in the versions that this release was built with.

Only to save time: asking LangGraph means importing it, which takes longer than the rest of a start on Lambda.
"""


def last_migrations() -> tuple[int, int]:
    """The numbers of LangGraph's last migrations, of its checkpoint tables and of its store tables."""
    return KNOWN.get(version(PACKAGE)) or ask_langgraph()


def ask_langgraph() -> tuple[int, int]:
    """The same, read from LangGraph itself."""
    from langgraph.checkpoint.postgres.base import MIGRATIONS as CHECKPOINT_MIGRATIONS
    from langgraph.store.postgres.base import MIGRATIONS as STORE_MIGRATIONS

    return len(CHECKPOINT_MIGRATIONS) - 1, len(STORE_MIGRATIONS) - 1
