"""What is asked of both servers, by resource."""

from __future__ import annotations

from importlib import import_module

from tests.differential.scenario import SCENARIOS, Scenario

MODULES = ("system", "assistants", "threads", "runs", "streams", "crons", "store", "agents", "protocol")


def all_scenarios() -> list[Scenario]:
    for module in MODULES:
        import_module(f"{__name__}.{module}")
    return SCENARIOS
