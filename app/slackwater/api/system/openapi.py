"""What the routes of the system answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from slackwater.errors import NotFound
from slackwater.web.openapi.pieces import Answer, Operation, Shape

TAG = "Whether the process lives, is ready, and what it is."


class Checked(Shape):
    """What was looked at."""

    database: Literal["healthy", "unhealthy"] = "healthy"


class Ok(Shape):
    """That the server answers, and whether what it needs does."""

    ok: bool
    services: Checked


class Flags(Shape):
    """What there is here."""

    assistants: bool
    crons: bool
    langsmith: bool
    langsmith_tracing_replicas: bool
    langsmith_tracing_session_on_runs: bool


class Host(Shape):
    """Where it runs, in words that hosted servers have more to say in."""

    kind: str
    project_id: str | None
    host_revision_id: str | None
    revision_id: str | None
    tenant_id: str | None


class Info(Shape):
    """What is running here."""

    version: str
    langgraph_py_version: str
    flags: Flags
    host: Host


class Alive(Shape):
    """That the process lives."""

    status: Literal["alive"]


class Readiness(Shape):
    """Whether requests may be sent here."""

    status: Literal["starting", "ready", "draining"]
    services: Checked | None = None
    """What it waits for, if it is `starting` again: a database that takes writes."""


_OK = {
    200: Answer("It answers.", Ok, {"ok": True, "services": {"database": "healthy"}}),
    503: Answer(
        "With `check_db`: its database does not answer.",
        Ok,
        {"ok": False, "services": {"database": "unhealthy"}},
    ),
}
_CHECK = {"check_db": {"description": "Whether to ask the database, too."}}
_TYPES = ("text/plain; version=0.0.4; charset=utf-8", "text/plain; version=1.0.0; charset=utf-8")

OPERATIONS: Mapping[str, Operation] = {
    "GET /": Operation(id="root", answers=_OK, parameters=_CHECK, public=True, stored=False),
    "GET /ok": Operation(id="ok", answers=_OK, parameters=_CHECK, public=True, stored=False),
    "GET /info": Operation(
        id="info",
        answers={
            200: Answer(
                "Versions and features.",
                Info,
                {
                    "version": "0.1.0",
                    "langgraph_py_version": "1.2.22",
                    "flags": {
                        "assistants": True,
                        "crons": True,
                        "langsmith": False,
                        "langsmith_tracing_replicas": False,
                        "langsmith_tracing_session_on_runs": False,
                    },
                    "host": {
                        "kind": "self-hosted",
                        "project_id": None,
                        "host_revision_id": None,
                        "revision_id": None,
                        "tenant_id": None,
                    },
                },
            )
        },
        public=True,
        stored=False,
    ),
    "GET /health": Operation(
        id="health",
        answers={200: Answer("It lives.", Alive, {"status": "alive"})},
        public=True,
        stored=False,
    ),
    "GET /ready": Operation(
        id="ready",
        answers={
            200: Answer("It is.", Readiness, {"status": "ready"}),
            503: Answer(
                "Not yet, not any more, or its database takes no writes just now.",
                Readiness,
                {"status": "draining"},
            ),
        },
        public=True,
        stored=False,
    ),
    "GET /metrics": Operation(
        id="metrics",
        answers={
            200: Answer(
                "The figures, in the format that `Accept` asks for.",
                str,
                "# HELP slackwater_runs_total Runs that have ended.\n",
                media_type="text/plain",
            )
        },
        errors=(NotFound,),
        stored=False,
    ),
}
