"""SnapStart: one initialised process is copied many times, each copy possibly hours later and on another machine.

Copies must not share connections, the worker id under which leases are owned, or the state of random number generators.
All of it is dropped before the snapshot and created again after each restore.
"""

from __future__ import annotations

import logging
import os
import random
from importlib import import_module
from typing import Protocol

from slackwater.aws import clients
from slackwater.errors import StartError
from slackwater.graphs.registry import Graphs
from slackwater.settings import Settings

log = logging.getLogger(__name__)


class Suspendable(Protocol):
    """What `register` takes: the environment. Both methods block until they are done."""

    def suspend(self) -> None:
        """Close everything that a copy could not use."""

    def resume(self) -> None:
        """Start again under a new worker id; if that fails, the next invocation tries again. Raises nothing."""


def enabled() -> bool:
    """Whether this process is initialised for a snapshot."""
    return os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"


def register(environment: Suspendable) -> None:
    """Register the snapshot hooks, if SnapStart is enabled."""
    if not enabled():
        return
    from snapshot_restore_py import (  # type: ignore[import-untyped]
        register_after_restore,
        register_before_snapshot,
    )

    register_before_snapshot(_before_snapshot, environment)
    register_after_restore(_after_restore, environment)


def _before_snapshot(environment: Suspendable) -> None:
    try:
        # Part of the snapshot, as it takes seconds to import: the start itself imports none of it before the first run.
        for name in ("slackwater.runtime.execution.loaded", "boto3"):
            import_module(name)
        Graphs.load(Settings.load().project)
    except StartError as problem:
        # As in any other environment: the other graphs are served.
        log.error("not in the snapshot: %s", problem.message, extra={"event": "snapshot.incomplete"})
    environment.suspend()


def _after_restore(environment: Suspendable) -> None:
    random.seed()  # else all copies would draw the same jitter, and LangGraph the same ids
    clients.forget()
    environment.resume()
