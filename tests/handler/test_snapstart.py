"""SnapStart: one process is copied. The hooks are run as AWS's runtime client runs them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.drills.drill import PROJECT
from tests.handler.scene import KEYS
from tests.support.server import SOURCES

# Two restores in one process: what differs between them differs between two copies.
PROGRAM = """
import json, os, random, sys, time
from awslambdaric.lambda_runtime_hooks_runner import run_after_restore, run_before_snapshot
from slackwater.main import create_app
from slackwater_lambda import snapstart
from slackwater_lambda.environment import Environment
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
snapstart.register(environment)
environment.start(60)
said = {"before": facts(), "langgraph_before": "langgraph.pregel" in sys.modules}
random.seed(1)
run_before_snapshot()
until = time.monotonic() + (20 if snapstart.enabled() else 0)  # the server needs a moment to notice
while sessions() and time.monotonic() < until:
    time.sleep(0.02)
said["in_snapshot"] = sessions()
said["langgraph"] = "langgraph.pregel" in sys.modules
copies = []
for _ in range(2 if snapstart.enabled() else 0):
    random.seed(1)  # what the snapshot holds
    run_after_restore()
    copies.append(facts())
    environment.suspend()
print(json.dumps({**said, "copies": copies}), flush=True)
os._exit(0)
"""


def taken(database_uri: str, kind: str) -> dict[str, Any]:
    """What a process says of its life through a snapshot."""
    said: dict[str, Any] = json.loads(run(PROGRAM, database_uri, kind).splitlines()[-1])
    return said


def run(program: str, database_uri: str, kind: str, **more: str) -> str:
    """What it prints."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SLACKWATER_", "AWS_"))},
        "SLACKWATER_DATABASE_URI": database_uri,
        "SLACKWATER_PROJECT": str(PROJECT),
        "SLACKWATER_API_KEYS": KEYS,
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9",
        "AWS_LAMBDA_INITIALIZATION_TYPE": kind,
        "PYTHONPATH": os.pathsep.join(map(str, SOURCES)),
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


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


RESTORED_WITHOUT = """
import json, os, time
from awslambdaric.lambda_runtime_hooks_runner import run_after_restore, run_before_snapshot
from slackwater.main import create_app
from slackwater_lambda import snapstart
from slackwater_lambda.environment import Environment
from slackwater_lambda.http import HttpAdapter
database, event = os.environ["SLACKWATER_DATABASE_URI"], json.loads(os.environ["EVENT"])

class Context:
    aws_request_id = "r"
    def get_remaining_time_in_millis(self): return 25_000

def ask():
    began = time.monotonic()
    with environment.invocation(Context()) as invocation:
        answer = adapter.respond(event, Context(), invocation)
    headers = answer.get("headers") or {}
    return {
        "status": answer["statusCode"], "body": answer["body"], "retry": headers.get("retry-after"),
        "seconds": time.monotonic() - began,
    }

environment = Environment(create_app())
adapter = HttpAdapter(environment)
snapstart.register(environment)
environment.start(60)
run_before_snapshot()
os.environ["SLACKWATER_DATABASE_URI"] = os.environ["WITHOUT"]
run_after_restore()
answers = [ask(), ask()]
os.environ["SLACKWATER_DATABASE_URI"] = database
answers.append(ask())
print(json.dumps(answers), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("trouble", ["no database", "no answer", "no schema"])
def test_a_copy_that_cannot_start_says_so_and_tries_again(
    database_uri: str, empty_database_uri: str, trouble: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        without = {
            "no database": "postgresql://me@127.0.0.1:1/nothing",
            "no answer": f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/nothing?connect_timeout=2",
            "no schema": empty_database_uri,
        }[trouble]
        event = (Path(__file__).parents[2] / "events" / "http_api_ok.json").read_text()
        done = run(RESTORED_WITHOUT, database_uri, "snap-start", WITHOUT=without, EVENT=event)

    *refused, served = json.loads(done.splitlines()[-1])
    for answer in refused:
        assert (answer["status"], answer["retry"]) == (503, "1")
        assert json.loads(answer["body"])["detail"].endswith(".")
        assert answer["seconds"] < 24
    assert served["status"] == 200


def test_an_environment_that_is_not_made_for_snapshots_takes_part_in_none(database_uri: str) -> None:
    said = taken(database_uri, "on-demand")

    assert said["in_snapshot"] > 0
