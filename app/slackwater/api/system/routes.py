"""Whether the process lives, is ready, and what it is: needs no credentials and says nothing about anyone's data.

And its figures, which say how much everybody does, and so need a key when there are keys.

`/openapi.json` is FastAPI's own.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import version

from fastapi import APIRouter, Request, Response

from slackwater import __version__
from slackwater.api.system import docs, queries
from slackwater.errors import NotFound
from slackwater.kit.imports import run_in_import_thread
from slackwater.runtime.queue.states import Phase
from slackwater.web.http import CurrentServices, json_response
from slackwater.web.route_table import Feature

router = APIRouter(tags=["system"])


@router.get("/")
@router.get("/ok")
async def ok(services: CurrentServices, check_db: bool = False) -> Response:
    """Check that the server responds; with `?check_db=1`, also its database (503 if it does not)."""
    if not check_db:
        return json_response({"ok": True, "services": {}})
    healthy = await queries.answers(services.database)
    return json_response(
        {"ok": healthy, "services": {"database": "healthy" if healthy else "unhealthy"}},
        200 if healthy else 503,
    )


@router.get("/info")
async def info() -> Response:
    """Versions and features, with the keys that the official clients and Studio look for."""
    return json_response(
        {
            "version": __version__,
            "langgraph_py_version": version("langgraph"),
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
        }
    )


@router.get("/health")
async def health(request: Request) -> Response:
    """Liveness: check that the process is alive, whatever its database does, for platforms that restart it if not."""
    # Asked of the application: it is alive before its lifespan has opened anything.
    if Feature.GATEWAY in (getattr(request.app, "features", None) or ()):
        return json_response({"status": "healthy", "service": "slackwater"})
    return json_response({"status": "alive"})


@router.get("/ready")
async def ready(services: CurrentServices) -> Response:
    """Readiness, for load balancers: 200 while requests may be sent here, 503 before and after and while the database accepts no writes.

    It reports the last known state of the database: a probe executes no statement.
    """
    phase = services.runtime.phase
    if phase is Phase.READY and services.database.fault is not None:
        waiting = {"status": Phase.STARTING.value, "services": {"database": "unhealthy"}}
        return json_response(waiting, 503)
    status = Phase.DRAINING if phase is Phase.CLOSED else phase
    return json_response({"status": status.value}, 200 if phase is Phase.READY else 503)


@router.get("/docs", include_in_schema=False)
async def show_docs(request: Request) -> Response:
    """The page that shows the API."""
    return docs.page(request)


@router.get("/docs/oauth2-redirect", include_in_schema=False)
async def return_to_docs() -> Response:
    """Where an authorization server sends the browser back to."""
    return docs.redirect_page()


@router.get("/docs/swagger-ui.css", include_in_schema=False)
@router.get("/docs/swagger-ui-bundle.js", include_in_schema=False)
@router.get("/docs/oauth2-redirect.js", include_in_schema=False)
@router.get("/docs/start.js", include_in_schema=False)
async def docs_file(request: Request) -> Response:
    """What the page loads."""
    return docs.file(request, request.url.path.rpartition("/")[2])


@router.get("/metrics")
async def metrics(request: Request, services: CurrentServices) -> Response:
    """The metrics of this process in Prometheus format. On AWS Lambda they are in CloudWatch instead."""
    if services.settings.on_lambda:
        raise NotFound("On AWS Lambda, metrics are in CloudWatch.")
    text, media_type = await run_in_import_thread(partial(_exposition, request.headers.get("accept", "")))
    return Response(text, media_type=media_type)


def _exposition(accept: str) -> tuple[bytes, str]:
    from slackwater.telemetry import prometheus

    return prometheus.text(accept)
