"""Files over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from slackwater.identity.principal import CurrentPrincipal
from slackwater.kit.ids import parse_canonical
from slackwater.web.http import CurrentServices, JsonRoute, json_response
from slackwater.workspace.files import service
from slackwater.workspace.files.models import Complete, Presign

router = APIRouter(prefix="/api/threads", tags=["files"], route_class=JsonRoute)


async def upload(
    thread_id: str, request: Request, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Upload files: a form whose parts are read as they arrive. All of them are kept, or none."""
    thread = parse_canonical(thread_id, "thread")
    return json_response(await service.upload(services, principal, thread, request))


# Its body is no JSON, and has bounds of its own.
router.add_api_route("/{thread_id}/uploads", upload, methods=["POST"], route_class_override=APIRoute)


@router.get("/{thread_id}/uploads/limits")
async def limits(thread_id: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """How much one request may upload."""
    await service.require_reader(services, principal, parse_canonical(thread_id, "thread"))
    return json_response(service.limits(services))


@router.get("/{thread_id}/uploads/list")
async def list_(thread_id: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """What was uploaded."""
    return json_response(await service.list_(services, principal, parse_canonical(thread_id, "thread")))


@router.delete("/{thread_id}/uploads/{filename}")
async def delete(
    thread_id: str, filename: str, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Delete an upload, and what it was converted to."""
    thread = parse_canonical(thread_id, "thread")
    return json_response(await service.delete(services, principal, thread, filename))


@router.post("/{thread_id}/uploads/presign")
async def presign(
    thread_id: str, body: Presign, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """URLs by which files are uploaded to S3 directly."""
    return json_response(
        await service.presign(services, principal, parse_canonical(thread_id, "thread"), body)
    )


@router.post("/{thread_id}/uploads/complete")
async def complete(
    thread_id: str, body: Complete, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Make files of what was uploaded by URLs."""
    return json_response(
        await service.complete(services, principal, parse_canonical(thread_id, "thread"), body)
    )


@router.get("/{thread_id}/artifacts/{path:path}")
async def artifact(
    thread_id: str,
    path: str,
    request: Request,
    services: CurrentServices,
    principal: CurrentPrincipal,
    download: bool = False,
) -> Response:
    """A file of the thread, or a part of it."""
    thread = parse_canonical(thread_id, "thread")
    return await service.artifact(services, principal, thread, path, request, download=download)
