"""Channels over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from slackwater.channels import service
from slackwater.identity.principal import CurrentPrincipal
from slackwater.web.http import CurrentServices, JsonRequest, JsonRoute, json_response

MAX_BYTES = 1024 * 1024
"""Of a request: nobody knows who sends a delivery before it has been read."""


class DeliveryRequest(JsonRequest):
    """A request whose body is small enough to be read for anybody."""

    @property
    def limit(self) -> int:
        return min(MAX_BYTES, super().limit)


class DeliveryRoute(JsonRoute):
    """One of them."""

    request_type = DeliveryRequest


router = APIRouter(prefix="/api/channels", tags=["channels"], route_class=DeliveryRoute)


@router.get("/")
async def status(services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Which channels there are."""
    return json_response(service.status(services))


@router.post("/{name}/webhook")
async def receive(name: str, request: Request, services: CurrentServices) -> Response:
    """Begin or continue the thread of a conversation."""
    status, answer = await service.receive(services, name, request.headers, await request.body())
    return json_response(answer, status)


@router.post("/{name}/restart")
async def restart(name: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Tell a channel once more what it could not be told."""
    return json_response(await service.restart(services, name))
