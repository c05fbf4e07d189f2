"""The config that a graph is opened with. There is one function for it, whoever opens the graph and whatever for.

A factory builds what it builds for the caller that it reads there. So who that is, and of which thread and run, is said
by the principal or the row, and by nothing that somebody has stored in an assistant, a thread or a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from slackwater.identity.custom.user import User
from slackwater.kit.reserved import RUN_KEYS, clean_configurable

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

RUNNABLE_KEYS = ("tags", "recursion_limit", "max_concurrency")
"""What else of a stored config a graph gets, beside `configurable`."""


def config_of(
    *,
    owner: str,
    graph_id: str | None,
    assistant_id: UUID | str | None = None,
    thread_id: UUID | None = None,
    run_id: UUID | None = None,
    stored: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    checkpoint: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    user: Mapping[str, Any] | None = None,
) -> RunnableConfig:
    """The config of a graph for `owner`. Ids that are None are not in it.

    `stored` is a config as an assistant, a thread or a run's request has it, and of its `configurable` no key is used that
    the server sets. Over it come the `headers` of the present request and the keys of a `checkpoint`. `metadata` is the
    run's; without a run there is none. `user` is who the project's own `auth` has said the caller is, if it has one.
    """
    stored = stored or {}
    identity = owner if user is None else str(user["identity"])
    ids = {
        "run_id": run_id,
        "thread_id": thread_id,
        "graph_id": graph_id,
        "assistant_id": assistant_id,
        "user_id": identity,
    }
    known = {name: str(value) for name, value in ids.items() if value is not None}
    config: dict[str, Any] = {
        "configurable": {
            **unreserved(stored.get("configurable")),
            **(headers or {}),
            **(checkpoint or {}),
            **known,
            "langgraph_auth_user_id": identity,
        },
    }
    if user is not None:
        config["configurable"]["langgraph_auth_user"] = User(user)
        config["configurable"]["langgraph_auth_permissions"] = list(user["permissions"])
    for name in RUNNABLE_KEYS:
        if stored.get(name) is not None:
            config[name] = stored[name]
    if run_id is not None:
        config |= {"metadata": {**(metadata or {}), **known}, "run_id": run_id}
        config.setdefault("tags", [])
    return cast("RunnableConfig", config)


def unreserved(configurable: Mapping[str, Any] | None) -> dict[str, Any]:
    """A stored `configurable` without what only the server says."""
    return {
        key: value for key, value in clean_configurable(configurable or {}).items() if key not in RUN_KEYS
    }


def of_a_thread(configurable: Mapping[str, Any] | None) -> dict[str, Any]:
    """A thread's stored `configurable` without what was said for one run only, or is LangGraph's own."""
    return {
        key: value
        for key, value in unreserved(configurable).items()
        if not key.startswith(("checkpoint_", "__"))
    }
