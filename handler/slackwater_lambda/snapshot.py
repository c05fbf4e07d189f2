"""SnapStart: one initialised process is copied many times, each copy hours later and elsewhere.

What the copies must not share is what makes a process one: its connections, its name as an owner of leases, its random
numbers. All of it is left before the snapshot and made anew after each restore.
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
    """What `register` copies: the environment. Both methods block until they are done."""

    def suspend(self) -> None:
        """Let go of everything that a copy could not use."""

    def resume(self) -> None:
        """Begin again, as somebody else; if that cannot be, with the next invocation. Raises nothing."""


def is_taken() -> bool:
    """Whether this process is initialised to be copied."""
    return os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"


def register(environment: Suspendable) -> None:
    """Take part in snapshots, if this environment is made for one."""
    if not is_taken():
        return
    from snapshot_restore_py import (  # type: ignore[import-untyped]
        register_after_restore,
        register_before_snapshot,
    )

    register_before_snapshot(_before, environment)
    register_after_restore(_restored, environment)


def _before(environment: Suspendable) -> None:
    try:
        # The copies begin with what takes seconds to import: nothing of it is asked for before the first run is.
        for name in ("slackwater.runtime.execution.loaded", "boto3"):
            import_module(name)
        Graphs.load(Settings.load().project)
    except StartError as problem:
        # As in any other environment: its other graphs are served.
        log.error("not in the snapshot: %s", problem.message, extra={"event": "snapshot.incomplete"})
    environment.suspend()


def _restored(environment: Suspendable) -> None:
    random.seed()  # the copies would jitter in step, and LangGraph's ids are made of it, too
    clients.forget()
    environment.resume()
