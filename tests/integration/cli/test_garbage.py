"""What the garbage collector of a process that serves has to look through, and what it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
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


BURSTS, RUNS, OBJECTS = 6, 200, 1000

# Like runs side by side: each keeps what it has until all are there, and then leaves half of it in a cycle.
CROWD = f"""
import gc
from slackwater.kit import garbage
garbage.freeze()
most = 0
for _ in range({BURSTS}):
    runs = []
    for _ in range({RUNS}):
        run = []
        run += [[run] for _ in range({OBJECTS})]
        runs.append(run)
    for run in runs:
        del run[{OBJECTS} // 2:]
    del run, runs
    most = max(most, len(gc.get_objects()))
print(most)
"""


def test_what_a_burst_of_runs_has_left_is_gone_with_the_next() -> None:
    done = subprocess.run([sys.executable, "-c", CROWD], capture_output=True, text=True, check=True)
    # With what all six leave, there would be three times as many as one has at once.
    assert int(done.stdout) < RUNS * OBJECTS
