"""The store over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Response

from slackwater.api.store import service
from slackwater.api.store.models import ItemDelete, ItemPut, ItemSearch, NamespaceList, check_labels
from slackwater.identity.principal import CurrentPrincipal
from slackwater.web.http import CurrentServices, JsonRoute, json_response

router = APIRouter(prefix="/store", tags=["store"], route_class=JsonRoute)


@router.put("/items", status_code=204)
async def put(body: ItemPut, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Put an item into the store, replacing any existing one."""
    await service.put(services, principal, body)
    return Response(status_code=204)


@router.get("/items")
async def get(
    services: CurrentServices,
    principal: CurrentPrincipal,
    namespace: str = "",
    key: str = "",
    refresh_ttl: bool | None = None,
) -> Response:
    """One item, or null."""
    labels = check_labels(namespace.split("."))
    return json_response(await service.get(services, principal, labels, key, refresh_ttl))


@router.delete("/items", status_code=204)
async def delete(body: ItemDelete, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Delete an item from the store, if it exists."""
    await service.delete(services, principal, body)
    return Response(status_code=204)


@router.post("/items/search")
async def search(body: ItemSearch, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Search the items under a namespace."""
    return json_response({"items": await service.search(services, principal, body)})


@router.post("/namespaces")
async def namespaces(body: NamespaceList, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """List the namespaces."""
    return json_response({"namespaces": await service.namespaces(services, principal, body)})
