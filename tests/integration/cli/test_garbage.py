"""What the garbage collector of a process that serves has to look through."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
from support.server import fleet_of

from slackwater.kit.garbage import YOUNG

PROJECT = """
import gc
from typing import TypedDict
from langgraph.graph import START, StateGraph
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
graph = StateGraph(TypedDict("State", {"text": str})).add_node("node", print).add_edge(START, "node").compile()
async def collector(request):
    return JSONResponse({"kept": gc.get_freeze_count(), "young": gc.get_threshold()[0], "on": gc.isenabled()})
app = Starlette(routes=[Route("/collector", collector)])
"""


async def test_what_has_been_imported_is_kept_out_of_it(database_uri: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "agent.py").write_text(PROJECT)
    (project / "langgraph.json").write_text(
        json.dumps({"graphs": {"agent": "./agent.py:graph"}, "http": {"app": "./agent.py:app"}})
    )
    async with fleet_of(database_uri, tmp_path, project) as fleet, httpx.AsyncClient() as client:
        (server,) = await fleet.start()
        answer = (await client.get(f"{server.url}/collector")).json()
    assert answer["on"]
    assert answer["young"] == YOUNG
    assert answer["kept"] > 100_000
