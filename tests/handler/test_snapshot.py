"""SnapStart: one process is copied. The hooks are run as AWS's runtime client runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.drills.drill import PROJECT
from tests.handler.scene import KEYS

# Two restores in one process: what differs between them differs between two copies.
PROGRAM = """
import json, os, random, sys, time
from awslambdaric.lambda_runtime_hooks_runner import run_after_restore, run_before_snapshot
from app.main import create_app
from handler import snapshot
from handler.environment import Environment
import psycopg

def sessions():
    with psycopg.connect(os.environ["SLACKWATER_DATABASE_URI"], application_name="watcher") as watcher:
        return watcher.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and application_name like 'slackwater%'"
        ).fetchone()[0]

def facts():
    return {
        "sessions": sessions(),
        "worker": environment.services.runtime.worker_id,
        "random": random.random(),
        "ready": environment.services.runtime.phase.name,
    }

environment = Environment(create_app())
snapshot.register(environment)
environment.start(60)
said = {"before": facts(), "langgraph_before": "langgraph.pregel" in sys.modules}
random.seed(1)
run_before_snapshot()
until = time.monotonic() + 1  # the server needs a moment to notice
while sessions() and time.monotonic() < until:
    time.sleep(0.02)
said["in_snapshot"] = sessions()
said["langgraph"] = "langgraph.pregel" in sys.modules
copies = []
for _ in range(2 if snapshot.is_taken() else 0):
    random.seed(1)  # what the snapshot holds
    run_after_restore()
    copies.append(facts())
    environment.suspend()
print(json.dumps({**said, "copies": copies}))
os._exit(0)
"""


def taken(database_uri: str, kind: str) -> dict[str, Any]:
    """What a process says of its life through a snapshot."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SLACKWATER_", "AWS_"))},
        "SLACKWATER_DATABASE_URI": database_uri,
        "SLACKWATER_PROJECT": str(PROJECT),
        "SLACKWATER_API_KEYS": KEYS,
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9",
        "AWS_LAMBDA_INITIALIZATION_TYPE": kind,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_copies_share_neither_connections_nor_a_name_nor_random_numbers(database_uri: str) -> None:
    said = taken(database_uri, "snap-start")

    # GIVEN a process that is ready
    assert (said["before"]["ready"], said["before"]["sessions"] > 0) == ("READY", True)
    # THEN its snapshot holds no connection, and what takes long to import
    assert said["in_snapshot"] == 0
    assert said["langgraph"]
    # AND each copy is somebody else
    lives = [said["before"], *said["copies"]]
    for fact in ("worker", "random"):
        assert len({life[fact] for life in lives}) == 3
    assert all(copy["ready"] == "READY" and copy["sessions"] > 0 for copy in said["copies"])


def test_an_environment_that_is_not_made_for_snapshots_takes_part_in_none(database_uri: str) -> None:
    said = taken(database_uri, "on-demand")

    assert said["in_snapshot"] > 0
