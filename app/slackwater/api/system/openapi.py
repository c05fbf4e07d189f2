"""What the routes of the system answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from slackwater.errors import NotFound
from slackwater.web.openapi.pieces import Operation, Response, Shape

TAG = "Liveness, readiness, versions and metrics of the process."


class Checked(Shape):
    """What was checked."""

    database: Literal["healthy", "unhealthy"] = "healthy"


class Ok(Shape):
    """Whether the server and its dependencies respond."""

    ok: bool
    services: Checked


class Flags(Shape):
    """The features of this server."""

    assistants: bool
    crons: bool
    langsmith: bool
    langsmith_tracing_replicas: bool
    langsmith_tracing_session_on_runs: bool


class Host(Shape):
    """Where the server runs; hosted servers have more keys."""

    kind: str
    project_id: str | None
    host_revision_id: str | None
    revision_id: str | None
    tenant_id: str | None


class Info(Shape):
    """The server and its versions."""

    version: str
    langgraph_py_version: str
    flags: Flags
    host: Host


class Alive(Shape):
    """The process is alive."""

    status: Literal["alive", "healthy"]
    """`healthy` with the gateway, whose clients look for that."""
    service: str = "slackwater"
    """Only with the gateway."""


class Readiness(Shape):
    """Whether requests may be sent here."""

    status: Literal["starting", "ready", "draining"]
    services: Checked | None = None
    """What a process that is `starting` again waits for: a database that accepts writes."""


_OK = {
    200: Response("The server responds.", Ok, {"ok": True, "services": {"database": "healthy"}}),
    503: Response(
        "With `check_db`: the database does not respond.",
        Ok,
        {"ok": False, "services": {"database": "unhealthy"}},
    ),
}
_CHECK = {"check_db": {"description": "Whether to check the database, too."}}

OPERATIONS: Mapping[str, Operation] = {
    "GET /": Operation(id="root", responses=_OK, parameters=_CHECK, public=True, stored=False),
    "GET /ok": Operation(id="ok", responses=_OK, parameters=_CHECK, public=True, stored=False),
    "GET /info": Operation(
        id="info",
        responses={
            200: Response(
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
        responses={200: Response("The process is alive.", Alive, {"status": "alive"})},
        public=True,
        stored=False,
    ),
    "GET /ready": Operation(
        id="ready",
        responses={
            200: Response("Requests may be sent here.", Readiness, {"status": "ready"}),
            503: Response(
                "The process is starting or stopping, or its database accepts no writes at the moment.",
                Readiness,
                {"status": "draining"},
            ),
        },
        public=True,
        stored=False,
    ),
    "GET /metrics": Operation(
        id="metrics",
        responses={
            200: Response(
                "The metrics, in the format that `Accept` requests.",
                str,
                "# HELP slackwater_runs_total Runs that ended.\n",
                media_type="text/plain",
            )
        },
        errors=(NotFound,),
        stored=False,
    ),
}
