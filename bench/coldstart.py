"""What a cold start costs over the imports that it cannot avoid, as the initialisation of a Lambda function does it.

Every figure is a fresh interpreter's, its own start left out. They take turns, and everything has been compiled before.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from bench.lab import PROJECT, ROOT, Lab, clean_environment
from bench.tables import Finding, goal, middle

GOAL = 1.1

BARE = """
import aws_lambda_powertools.logging.formatter, fastapi, fastapi.middleware.cors, mangum, mangum.protocols.http
import orjson, psycopg, psycopg_pool, pydantic_settings
"""
"""What serves HTTP from Postgres on Lambda with this project's libraries, whatever is made of them."""

CONNECT = """
import asyncio, os
async def connect():
    async with psycopg_pool.AsyncConnectionPool(os.environ["SLACKWATER_DATABASE_URI"], min_size=2, max_size=2) as pool:
        await pool.wait()
asyncio.run(connect())
"""

IMPORTS = """
import gc
gc.disable()  # as `handler.main` does it
import app.main, handler.environment, handler.events, handler.extension, handler.http, handler.snapshot
"""

LANGGRAPH = "import langgraph.graph, langgraph.checkpoint.postgres.aio, langgraph.store.postgres.aio"


@dataclass(frozen=True)
class Case:
    name: str
    code: str
    over: str | None = None
    """The case that it is compared with."""
    has_goal: bool = False


CASES = (
    Case("bare imports", BARE),
    Case("all imports of an initialisation", IMPORTS, "bare imports", has_goal=True),
    Case("bare imports, and a pool", BARE + CONNECT),
    Case("the whole initialisation", "import handler.main", "bare imports, and a pool", has_goal=True),
    Case("bare imports, and LangGraph", BARE + LANGGRAPH, "bare imports"),
)

PROGRAM = """
import time
wall, cpu = time.perf_counter(), time.process_time()
{code}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
import os, sys
modules = sorted({{"langgraph", "langchain_core", "langsmith", "langgraph_sdk", "boto3"}} & set(sys.modules))
print(f'{{{{"wall": {{wall * 1000}}, "cpu": {{cpu * 1000}}, "heavy": {{len(modules)}}}}}}', flush=True)
os._exit(0)
"""


def run(lab: Lab) -> list[Finding]:
    rounds = 5 if lab.quick else 15
    environment = {
        **clean_environment(),
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9",
        "SLACKWATER_LAMBDA_EXTENSION": "false",  # there is nobody to register with
        "SLACKWATER_DATABASE_URI": lab.database(),
        "SLACKWATER_API_KEYS": "bench:" + "0" * 64,
        "SLACKWATER_PROJECT": str(PROJECT),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for case in CASES:
        _measure(case, environment)
    cpu: dict[str, list[float]] = {case.name: [] for case in CASES}
    wall: dict[str, list[float]] = {case.name: [] for case in CASES}
    for _ in lab.rounds("coldstart", range(rounds)):
        for case in CASES:
            measured = _measure(case, environment)
            cpu[case.name].append(measured["cpu"])
            wall[case.name].append(measured["wall"])
            if measured["heavy"] and LANGGRAPH not in case.code:
                raise RuntimeError(f"{case.name}: imports LangGraph or boto3")
    finding = Finding(
        "Cold start",
        ("", "CPU ms (median)", "lowest", "ms (median)", "over", "CPU ratio", "ratio", ""),
        notes=[
            f"{rounds} fresh interpreters each, with bytecode. Goal: at most {GOAL:g} of the CPU time, as others' work on the "
            "machine is not in it.",
            f"Bare: {' '.join(BARE.replace('import', '').split())}.",
            "The whole: imports, settings, langgraph.json, schema check, pool, assistants. No graph is imported.",
        ],
    )
    for case in CASES:
        ratios = _ratios(cpu, case), _ratios(wall, case)
        finding.rows.append(
            (
                case.name,
                f"{middle(cpu[case.name]):.0f}",
                f"{min(cpu[case.name]):.0f}",
                f"{middle(wall[case.name]):.0f}",
                case.over or "",
                *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
                goal(ratios[0] <= GOAL) if case.has_goal and ratios[0] is not None else "",
            )
        )
        finding.data[case.name] = {
            "cpu_ms": [round(ms, 1) for ms in cpu[case.name]],
            "wall_ms": [round(ms, 1) for ms in wall[case.name]],
            "cpu_ratio": ratios[0],
            "wall_ratio": ratios[1],
        }
    return [finding]


def _ratios(times: Mapping[str, list[float]], case: Case) -> float | None:
    """The median over the rounds, in each of which both had the same machine."""
    if case.over is None:
        return None
    return middle([mine / other for mine, other in zip(times[case.name], times[case.over], strict=True)])


def _measure(case: Case, environment: Mapping[str, str]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(code=case.code)],
        cwd=ROOT,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        raise RuntimeError(f"{case.name}:\n{done.stderr[-3000:]}")
    measured: dict[str, float] = orjson.loads(done.stdout.splitlines()[-1])
    return measured
