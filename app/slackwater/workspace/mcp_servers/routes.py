"""The configuration of MCP servers over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Response

from slackwater.identity.principal import CurrentPrincipal
from slackwater.web.http import CurrentServices, JsonRoute, json_response
from slackwater.workspace.mcp_servers import service
from slackwater.workspace.mcp_servers.models import McpConfigPut

router = APIRouter(prefix="/api/mcp", tags=["mcp_servers"], route_class=JsonRoute)

IfMatch = Annotated[
    str | None, Header(description="The `ETag` of what was read: 409 if anything has changed since.")
]


@router.get("/config")
async def get(services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """The MCP servers that graphs have tools of, without secrets; for who may not change them, without where they are."""
    said, etag = await service.get(services, principal)
    return json_response(said, headers={"ETag": etag})


@router.put("/config")
async def put(
    body: McpConfigPut,
    services: CurrentServices,
    principal: CurrentPrincipal,
    if_match: IfMatch = None,
) -> Response:
    """Replace them: `***` stands for a value that is stored."""
    said, etag = await service.put(services, principal, body, if_match)
    return json_response(said, headers={"ETag": etag})
