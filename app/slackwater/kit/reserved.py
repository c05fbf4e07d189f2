"""Keys that the server sets itself, taken out of what callers send.

Whoever could set them would choose the identity that a graph sees. They are dropped in silence, as the
official server does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INTERRUPT = "__interrupt__"
"""Under this key LangGraph says what a graph asks of a person."""

CONFIGURABLE_KEYS = frozenset(
    {
        "langgraph_request_id",
        "__langsmith_project__",
        "__langsmith_example_id__",
        "__request_start_time_ms__",
        "__after_seconds__",
        "__otel_traceparent__",
        "__otel_tracestate__",
        "__dd_trace_headers__",
        "__pregel_node_finished",
        "__context_provided__",
    }
)
PREFIXES = ("__pregel", "langgraph_auth_")
"""Of LangGraph's own objects, handed from task to task, and of what it is told of the caller."""

RUN_KEYS = frozenset({"run_id", "thread_id", "graph_id", "assistant_id", "user_id"})
"""What a run is told about itself: only the runtime says it."""

METADATA_KEYS = frozenset({"thread_id", "assistant_id", "run_id", "cron_id", "counters_since_delta_snapshot"})


def clean_configurable(value: Mapping[str, Any]) -> dict[str, Any]:
    """`config.configurable` or `context` without reserved keys."""
    return {
        key: item
        for key, item in value.items()
        if key not in CONFIGURABLE_KEYS and not key.startswith(PREFIXES)
    }


def clean_headers(value: Mapping[str, str]) -> dict[str, str]:
    """Headers that may stand in `config.configurable`: none that says which run, thread or checkpoint it is."""
    return {
        name: text
        for name, text in clean_configurable(value).items()
        if name not in RUN_KEYS and not name.startswith(("checkpoint_", "__"))
    }


def clean_metadata(value: Mapping[str, Any]) -> dict[str, Any]:
    """`metadata` without reserved keys."""
    return {key: item for key, item in value.items() if key not in METADATA_KEYS}


def clean_config(value: Mapping[str, Any]) -> dict[str, Any]:
    """A whole `config` without reserved keys, at its top level, in `configurable` and in `metadata`."""
    config = clean_configurable(value)
    if isinstance(configurable := config.get("configurable"), Mapping):
        config["configurable"] = clean_configurable(configurable)
    if isinstance(metadata := config.get("metadata"), Mapping):
        config["metadata"] = clean_metadata(metadata)
    return config
