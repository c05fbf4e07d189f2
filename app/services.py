"""What a process has opened, once, for everybody in it."""

from __future__ import annotations

from dataclasses import dataclass

from app.bodies import Room
from app.graphs.registry import Graphs
from app.postgres.pool import Database
from app.runtime.runtime import Runtime
from app.settings import Settings
from app.stopping import Stopping
from app.webhooks.policy import Policy


@dataclass(frozen=True, slots=True)
class Services:
    """Every request finds it in its state."""

    settings: Settings
    database: Database
    graphs: Graphs
    runtime: Runtime
    stopping: Stopping
    webhooks: Policy
    bodies: Room
    answers: Room
