"""The sandbox provider, used by a node as DeerFlow's tools use one: what they write, the next run reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from uuid import uuid4

import httpx

from tests.support.server import ROOT, fleet_of

GRAPH = """
import operator
from typing import Annotated, Any
from deerflow_sandbox import OutsideTheSandbox, UserDataSandboxProvider
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    said: Annotated[list[Any], operator.add]


def sandbox_of(config):
    provider = UserDataSandboxProvider()
    return provider.get(provider.acquire(config["configurable"]["thread_id"]))


def write(state: State, config: RunnableConfig):
    box = sandbox_of(config)
    box.write_file("/mnt/user-data/outputs/deep/a.txt", "a")
    box.write_file("/mnt/user-data/outputs/deep/a.txt", "b", append=True)
    box.update_file("/mnt/user-data/workspace/b.bin", b"bb")
    refused = []
    for path in ("/etc/passwd", "/mnt/user-data/../x", "/mnt/user-data-x", "/mnt/user-data/workspace/link/passwd"):
        box.execute_command("ln -sfn /etc /mnt/user-data/workspace/link")
        try:
            box.read_file(path)
        except OutsideTheSandbox:
            refused.append(path)
    box.execute_command("rm /mnt/user-data/workspace/link")
    return {"said": [box.execute_command("cat /mnt/user-data/outputs/deep/a.txt && pwd; exit 3"), len(refused)]}


async def read(state: State, config: RunnableConfig):
    box = sandbox_of(config)
    return {"said": [
        box.read_file("/mnt/user-data/outputs/deep/a.txt"),
        box.list_dir("/mnt/user-data"),
        box.glob("/mnt/user-data", "**/*.txt"),
        box.execute_command("true"),
    ]}


graph = (
    StateGraph(State).add_node("write", write).add_node("read", read)
    .add_edge(START, "write").add_edge("write", "read").add_edge("read", END).compile()
)
"""


async def test_what_tools_write_is_there_for_the_next_node(database_uri: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(ROOT / "examples" / "deerflow_sandbox" / "deerflow_sandbox.py", project)
    (project / "agent.py").write_text(GRAPH)
    (project / "langgraph.json").write_text(
        json.dumps({"graphs": {"agent": "./agent.py:graph"}, "dependencies": ["."]})
    )
    env = {"SLACKWATER_GATEWAY": "true", "SLACKWATER_BLOBS": f"file:{tmp_path / 'blobs'}"}
    async with fleet_of(database_uri, tmp_path, project, env) as fleet:
        (server,) = await fleet.start()
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            body = {"assistant_id": "agent", "input": {}, "if_not_exists": "create"}
            answer = await client.post(f"/threads/{uuid4()}/runs/wait", json=body)
    assert answer.json()["said"] == [
        "ab/mnt/user-data/workspace\n\nExit Code: 3",
        4,
        "ab",
        [
            "/mnt/user-data/outputs/",
            "/mnt/user-data/uploads/",
            "/mnt/user-data/workspace/",
            "/mnt/user-data/outputs/deep/",
            "/mnt/user-data/workspace/b.bin",
        ],
        [["/mnt/user-data/outputs/deep/a.txt"], False],
        "(no output)",
    ]
    assert fleet.complaints == []
