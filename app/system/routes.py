"""Whether the process lives, is ready, and what it is. Needs no credentials and says nothing about anyone's data.

`/docs` and `/openapi.json` are FastAPI's own.
"""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Response

from app import __version__
from app.http import CurrentServices, json_response
from app.runtime.states import Phase
from app.system import queries

router = APIRouter(tags=["system"])


@router.get("/")
@router.get("/ok")
async def ok(services: CurrentServices, check_db: bool = False) -> Response:
    """That the server answers; with `?check_db=1` also whether its database does (503 if not)."""
    if not check_db:
        return json_response({"ok": True, "services": {}})
    healthy = await queries.answers(services.database)
    return json_response(
        {"ok": healthy, "services": {"database": "healthy" if healthy else "unhealthy"}},
        200 if healthy else 503,
    )


@router.get("/info")
async def info() -> Response:
    """What is running here, in the words that the official clients and Studio look for."""
    return json_response(
        {
            "version": __version__,
            "langgraph_py_version": version("langgraph"),
            "flags": {
                "assistants": True,
                "crons": False,
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
        }
    )


@router.get("/health")
async def health() -> Response:
    """That the process lives, whatever its database does: for a platform that would restart it otherwise."""
    return json_response({"status": "alive"})


@router.get("/ready")
async def ready(services: CurrentServices) -> Response:
    """200 while requests may be sent here, 503 before and after: for a load balancer."""
    phase = services.runtime.phase
    status = Phase.DRAINING if phase is Phase.CLOSED else phase
    return json_response({"status": status.value}, 200 if phase is Phase.READY else 503)
