"""What a run asks of its graph, and what its graph gets: config, durability."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig

from slackwater.graphs.config import config_of
from slackwater.runtime.execution.attempt import Attempt

if TYPE_CHECKING:
    from slackwater.graphs.registry import Graph

log = logging.getLogger(__name__)


def run_config(attempt: Attempt) -> RunnableConfig:
    """The config that the graph gets: the request's, with the ids of the run in configurable and metadata."""
    run = attempt.run
    return config_of(
        owner=run.owner,
        graph_id=run.graph_id,
        assistant_id=run.assistant_id,
        thread_id=run.thread_id,
        run_id=run.run_id,
        stored=run.kwargs.get("config"),
        metadata={**run.metadata, "run_attempt": run.attempt},
        user=run.kwargs.get("user"),
    )


def durability(kwargs: Mapping[str, Any], graph: Graph) -> str:
    """The durability to run with. Two of LangGraph's own combinations lose work or crash, and are coerced.

    `exit` drops what a subgraph has done when it is drained inside, and `sync` fails inside a subgraph that was
    compiled with `checkpointer=False` (both langgraph 1.2.22).
    """
    asked = str(kwargs.get("durability") or "async")
    if asked == "async":
        return asked
    nested = [sub for _, sub in graph.get_subgraphs(recurse=True)]
    if (asked == "exit" and nested) or (
        asked == "sync" and any(getattr(sub, "checkpointer", None) is False for sub in nested)
    ):
        log.info(
            "durability %s is unsafe with this graph's subgraphs: async",
            asked,
            extra={"event": "run.durability"},
        )
        return "async"
    return asked
