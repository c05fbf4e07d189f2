"""The configuration of MCP servers over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Response

from slackwater.identity.principal import CurrentPrincipal
from slackwater.web.http import CurrentServices, JsonRoute, json_response
from slackwater.workspace.mcp_servers import service
from slackwater.workspace.mcp_servers.models import McpConfigPut
from slackwater.workspace.versions import IfMatch, Versioned

router = APIRouter(prefix="/api/mcp", tags=["mcp_servers"], route_class=JsonRoute)


@router.get("/config")
async def get(services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """The MCP servers that graphs have tools of, without secrets; for who may not change them, without where they are."""
    return _answer(await service.get(services, principal))


@router.put("/config")
async def put(
    body: McpConfigPut,
    services: CurrentServices,
    principal: CurrentPrincipal,
    if_match: IfMatch = None,
) -> Response:
    """Replace them: `***` stands for a value that is stored."""
    return _answer(await service.put(services, principal, body, if_match))


def _answer(config: Versioned) -> Response:
    return json_response(config.shown, headers={"ETag": config.etag})
