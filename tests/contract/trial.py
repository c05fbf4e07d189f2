"""One trial of a server by Schemathesis."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.server import ROOT

GRAPHS = ("echo", "chat", "hitl", "fail", "store", "subgraph", "flow")
"""Those of tests/graphs that runs may be made of: none takes long, whatever its input is."""


REQUESTS = ("RunCreate", "CronCreate", "AssistantCreate", "AssistantPatch")


def at_home(document: dict[str, Any]) -> dict[str, Any]:
    """The document as it would be if it knew what is served: the assistants of requests are graphs that there are."""
    known: dict[str, Any] = json.loads(json.dumps(document).replace('"agent"', f'"{GRAPHS[0]}"'))
    for name in REQUESTS:
        properties = known["components"]["schemas"][name]["properties"]
        for key, schema in list(properties.items()):
            if key == "graph_id" or (key == "assistant_id" and schema.get("format") != "uuid"):
                assert "string" in json.dumps(schema), (name, key)
                branches: list[dict[str, Any]] = [{"enum": list(GRAPHS)}]
                branches += [{"type": "null"}] if "null" in json.dumps(schema) else []
                branches += [{"type": "string", "format": "uuid"}] if key == "assistant_id" else []
                properties[key] = {"anyOf": branches}
    for item in known["paths"].values():
        for parameter in (p for shown in item.values() for p in shown.get("parameters", ())):
            if parameter["name"] == "Idempotency-Key":
                del parameter["example"]  # or they would all be deliveries of the same request
            if parameter["name"] == "assistant_id" and "format" not in parameter["schema"]:
                parameter["schema"] = {
                    "anyOf": [{"enum": list(GRAPHS)}, {"type": "string", "format": "uuid"}]
                }
    return known


@dataclass(frozen=True, slots=True)
class Findings:
    """What Schemathesis has found."""

    status: int
    """Its exit code: 0 if there is nothing to object to."""
    text: str
    """What it has printed."""
    tried: frozenset[str]
    """The operations that it has sent requests to."""


async def try_out(url: str, key: str, folder: Path, *options: str) -> Findings:
    """Let Schemathesis loose on the server at `url`."""
    async with httpx.AsyncClient(
        verify=False, timeout=60
    ) as client:  # it is made now, and takes a second of CPU
        document = (await client.get(f"{url}/openapi.json")).json()
    (folder / "openapi.json").write_text(json.dumps(at_home(document)))
    report = folder / "report.ndjson"
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "schemathesis.cli",
            "--config-file",
            str(Path(__file__).with_name("schemathesis.toml")),
        ),
        *("run", str(folder / "openapi.json"), "--url", url, "--header", f"x-api-key: {key}"),
        *("--report-ndjson-path", str(report), *options),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    tried = set()
    for line in report.read_text().splitlines():
        if scenario := json.loads(line).get("ScenarioFinished"):
            tried.add(scenario["recorder"]["label"])
    return Findings(process.returncode or 0, out.decode(), frozenset(tried))
