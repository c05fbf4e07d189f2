"""SnapStart: one initialised process is copied many times, each copy hours later and elsewhere.

What the copies must not share is what makes a process one: its connections, its name as an owner of leases, its random
numbers. All of it is left before the snapshot and made anew after each restore.
"""

from __future__ import annotations

import os
import random
from typing import Protocol

from app.aws import clients
from app.errors import SettingsError


class Suspendable(Protocol):
    """What `register` copies: the environment. Both methods block until they are done."""

    def suspend(self) -> None:
        """Let go of everything that a copy could not use."""

    def resume(self) -> None:
        """Begin again, as somebody else."""


def register(environment: Suspendable) -> None:
    """Take part in snapshots, if this environment is made for one. Raises SettingsError where it must not serve."""
    if "AWS_LAMBDA_MAX_CONCURRENCY" in os.environ:
        raise SettingsError(
            "This function takes several invocations at a time (AWS_LAMBDA_MAX_CONCURRENCY), for which the runtime forks "
            "the process; that is not supported: give it no capacity provider, and let Lambda start more environments."
        )
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start":
        return
    from snapshot_restore_py import (  # type: ignore[import-untyped]
        register_after_restore,
        register_before_snapshot,
    )

    register_before_snapshot(environment.suspend)
    register_after_restore(_restored, environment)


def _restored(environment: Suspendable) -> None:
    random.seed()  # the copies would jitter in step, and LangGraph's ids are made of it, too
    clients.forget()
    environment.resume()
