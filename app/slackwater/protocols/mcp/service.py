"""The rules of MCP: each assistant that a caller sees is a tool, and each call of one is a run without a thread.

No process remembers anything of a client: there are no sessions, and what a call comes to is read from its run.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from slackwater import __version__
from slackwater.api.assistants import service as assistants
from slackwater.api.assistants.models import AssistantSearch
from slackwater.api.assistants.row import AssistantRow
from slackwater.api.runs import service as runs
from slackwater.api.runs.models import RunCreate
from slackwater.errors import GraphBroken
from slackwater.graphs import topology
from slackwater.identity.principal import Principal
from slackwater.kit import json_format
from slackwater.protocols.jsonrpc import INVALID_PARAMS, RpcError
from slackwater.protocols.mcp import tools
from slackwater.protocols.mcp.models import VERSIONS, CallTool
from slackwater.runtime.events.run_reader import StreamCut

if TYPE_CHECKING:
    from slackwater.services import Services

PAGE = 100
"""Tools in one answer to `tools/list`."""

_ALL = 1000


@dataclass(frozen=True, slots=True)
class Called:
    """The run that a call has started."""

    thread_id: UUID
    run_id: UUID

    @property
    def join(self) -> str:
        return f"/threads/{self.thread_id}/runs/{self.run_id}/join"


def initialize(asked: str | None) -> dict[str, Any]:
    """What this server is, in the version that the client asks for if it is spoken here."""
    return {
        "protocolVersion": asked if asked in VERSIONS else VERSIONS[-1],
        "capabilities": {"tools": {"listChanged": False}},
        "serverInfo": {"name": "Slackwater", "version": __version__},
    }


async def list_tools(services: Services, principal: Principal, cursor: str | None) -> dict[str, Any]:
    """One page of tools; the cursor is how many came before. Graphs that do not import are left out: none could be called."""
    if cursor is not None and not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 10):
        raise RpcError(INVALID_PARAMS, "params.cursor: was not made by this server")
    begin = int(cursor or 0)
    named = list((await _named(services, principal)).items())
    page = []
    schemas: dict[tuple[str, bytes], dict[str, Any] | None] = {}
    for name, assistant in named[begin : begin + PAGE]:
        of_graph = (assistant.graph_id, json_format.dumps(assistant.config))
        if of_graph not in schemas:
            try:
                schemas[of_graph] = await input_schema(services, principal, assistant)
            except GraphBroken:
                continue  # its import has logged why
            await asyncio.sleep(0)  # each schema takes milliseconds: let others run in between
        page.append(tools.tool(name, assistant, schemas[of_graph]))
    answer: dict[str, Any] = {"tools": page}
    if begin + PAGE < len(named):
        answer["nextCursor"] = str(begin + PAGE)
    return answer


async def call_tool(
    services: Services, principal: Principal, call: CallTool, idempotency_key: str | None
) -> Called:
    """Start the run of a call. Raises RpcError for a tool that is not there, and what a run's request may be refused for."""
    assistant = (await _named(services, principal)).get(call.name)
    if assistant is None:
        raise RpcError(INVALID_PARAMS, f"Unknown tool: {call.name}")
    schema = await input_schema(services, principal, assistant)
    body = RunCreate(
        assistant_id=str(assistant.assistant_id), input=tools.input_of(call.arguments or {}, schema)
    )
    created = await runs.create(services, principal, None, body, idempotency_key, told=True)
    return Called(created.thread_id, created.run_id)


async def find(services: Services, principal: Principal, called: Called) -> bool:
    """Whether the run of a call is still there, for this caller."""
    principal = await runs.reader_of(services, principal, called.thread_id, called.run_id)
    return await runs.find(services, principal, called.thread_id, called.run_id) is not None


async def result(
    services: Services, principal: Principal, called: Called, *, until: float | None
) -> dict[str, Any]:
    """What a call comes to, when its run has ended, wherever.

    Raises StreamCut when this process leaves before, or at the monotonic second `until`.
    """
    if until is not None and until <= time.monotonic():
        raise StreamCut
    body = await runs.body(services, principal, called.thread_id, called.run_id, until=until)
    row = await runs.find(services, principal, called.thread_id, called.run_id)
    return tools.result(orjson.loads(body), row["status"] if row else None)


async def input_schema(
    services: Services, principal: Principal, assistant: AssistantRow
) -> dict[str, Any] | None:
    """The JSON schema of what the assistant's graph takes; None if there is none. Raises GraphBroken."""
    async with assistants.open_graph_of(services, principal, assistant) as graph:
        return topology.input_schema(graph)


async def _named(services: Services, principal: Principal) -> dict[str, AssistantRow]:
    """Every assistant that the caller sees, by its tool's name."""
    rows: list[AssistantRow] = []
    while True:
        query = AssistantSearch(limit=_ALL, offset=len(rows), sort_by="created_at", sort_order="asc")
        found = await assistants.search(services, principal, query)
        rows += found[:_ALL]
        if len(found) <= _ALL:
            return tools.names(rows)
