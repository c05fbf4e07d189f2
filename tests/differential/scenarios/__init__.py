"""What is asked of both servers, by resource."""

from __future__ import annotations

from importlib import import_module

from tests.differential.scenario import SCENARIOS, Scenario

MODULES = ("system", "assistants", "threads", "runs", "streams", "crons", "store", "agents", "protocol")
GUARDED = ("users",)
"""Those of the project with an `auth` of its own."""


def all_scenarios(project: str = "project") -> list[Scenario]:
    """Those that are played on servers of this project."""
    for module in (*MODULES, *GUARDED):
        import_module(f"{__name__}.{module}")
    return [known for known in SCENARIOS if known.project == project]
