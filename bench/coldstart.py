"""What a cold start of a Lambda function costs beyond the imports that it cannot avoid.

Every figure is a fresh interpreter's, its own start left out. They take turns, and everything has been compiled before.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from bench.lab import PROJECT, THIS, Lab, Tree, clean_environment
from bench.tables import Finding, Goal, middle, quotients, ranged

GOAL = 1.1

BARE = """
import aws_lambda_powertools.logging.formatter, fastapi, fastapi.middleware.cors, mangum, mangum.protocols.http
import orjson, psycopg, psycopg_pool, pydantic_settings
"""
"""The imports that any program needs to serve HTTP from Postgres on Lambda with these libraries."""

CONNECT = """
import asyncio, os
async def connect():
    async with psycopg_pool.AsyncConnectionPool(os.environ["SLACKWATER_DATABASE_URI"], min_size=2, max_size=2) as pool:
        await pool.wait()
asyncio.run(connect())
"""

IMPORTS = """
import gc
gc.disable()  # as `main` of the package for AWS Lambda does it
import {server}.main, {handler}.environment, {handler}.events, {handler}.extension, {handler}.http
try:
    import {handler}.snapstart
except ModuleNotFoundError:
    import {handler}.snapshot  # as it was called before
"""

LANGGRAPH = "import langgraph.graph, langgraph.checkpoint.postgres.aio, langgraph.store.postgres.aio"


@dataclass(frozen=True)
class Case:
    name: str
    code: str
    """With `{server}` and `{handler}` for the names of a tree's packages."""
    over: str | None = None
    """The case to compare with."""
    has_goal: bool = False


CASES = (
    Case("bare imports", BARE),
    Case("all imports of an initialisation", IMPORTS, "bare imports", has_goal=True),
    Case("bare imports, and a pool", BARE + CONNECT),
    Case("the whole initialisation", "import {handler}.main", "bare imports, and a pool", has_goal=True),
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
    environments = {tree.name: _environment(lab, tree) for tree in lab.trees}
    measured: dict[tuple[str, str], list[dict[str, float]]] = {}
    for case in CASES:
        for tree in lab.trees:
            _measure(case, tree, environments[tree.name])  # compiles
            measured[case.name, tree.name] = []
    for _ in lab.rounds("coldstart", range(lab.few(15))):
        for case in CASES:
            for tree in lab.trees:
                found = _measure(case, tree, environments[tree.name])
                measured[case.name, tree.name].append(found)
                if found["heavy"] and LANGGRAPH not in case.code:
                    raise RuntimeError(f"{case.name}: imports LangGraph or boto3")
    finding = Finding(
        "Cold start",
        ("", "", "CPU ms", "ms (median)", "over", "CPU ratio", "ratio"),
        notes=[
            f"{lab.few(15)} fresh interpreters each, with bytecode: median (lowest–highest). Others' work on the machine is not in "
            "the CPU time.",
            f"Bare: {' '.join(BARE.replace('import', '').split())}.",
            "The whole: imports, settings, langgraph.json, schema check, pool, assistants. No graph is imported.",
        ],
    )
    for (case_name, tree_name), times in measured.items():
        case = next(case for case in CASES if case.name == case_name)
        cpu, wall = ([one[clock] for one in times] for clock in ("cpu", "wall"))
        ratios: dict[str, float] = {}
        if case.over is not None:
            base = measured[case.over, tree_name]
            ratios = {
                clock: middle(quotients(mine, [one[clock] for one in base]))
                for clock, mine in (("cpu", cpu), ("wall", wall))
            }
        finding.rows.append(
            (
                case.name,
                tree_name,
                ranged(cpu),
                f"{middle(wall):.0f}",
                case.over or "",
                *(f"{ratios[clock]:.2f}" if ratios else "" for clock in ("cpu", "wall")),
            )
        )
        finding.data[f"{case.name}, {tree_name}"] = {
            "cpu_ms": [round(ms, 1) for ms in cpu],
            "wall_ms": [round(ms, 1) for ms in wall],
            "ratios": ratios,
        }
        if case.has_goal and tree_name == THIS.name:
            finding.goals.append(
                Goal(f"cold start: {case.name}, CPU over {case.over}", ratios["cpu"], GOAL, unit=" times")
            )
    return [finding]


def _environment(lab: Lab, tree: Tree) -> dict[str, str]:
    environment = {
        **clean_environment(),
        **tree.environment,
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9",
        "SLACKWATER_LAMBDA_EXTENSION": "false",  # there is nobody to register with
        "SLACKWATER_DATABASE_URI": lab.database(tree),
        "SLACKWATER_API_KEYS": "bench:" + "0" * 64,
        "SLACKWATER_PROJECT": str(PROJECT),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def _measure(case: Case, tree: Tree, environment: Mapping[str, str]) -> dict[str, float]:
    server, handler = tree.packages
    code = case.code.format(server=server, handler=handler)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(code=code)],
        cwd=tree.root,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        raise RuntimeError(f"{case.name}:\n{done.stderr[-3000:]}")
    measured: dict[str, float] = orjson.loads(done.stdout.splitlines()[-1])
    return measured
