"""`slackwater serve` when it cannot: one sentence on stderr, and an exit code that says what kind of thing is wrong."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from support.command import SLACKWATER, Answer, run_command, settings_only
from support.server import fleet_of

from slackwater.errors import ExitCode, SettingsError
from slackwater.web.listener import listen

GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
graph = StateGraph(TypedDict("State", {"text": str})).add_node("node", print).add_edge(START, "node").compile()
"""

Serve = Callable[..., Answer]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that is in order."""
    (tmp_path / "agent.py").write_text(GRAPH)
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"agent": "./agent.py:graph"}}))
    return tmp_path


@pytest.fixture
def serve(project: Path, database_uri: str) -> Serve:
    """Tries to serve it."""
    return partial(run_command, project, "serve", "--port", "0", SLACKWATER_DATABASE_URI=database_uri)


def test_beyond_loopback_nobody_is_served_without_a_key(serve: Serve) -> None:
    answer = serve("--host", "0.0.0.0")

    assert answer.code == ExitCode.SETTINGS
    assert answer.sentence == (
        "Without an API key only loopback is served, not 0.0.0.0: run `slackwater keys new NAME` and put its "
        "output into SLACKWATER_API_KEYS, or use --host 127.0.0.1."
    )


@pytest.mark.parametrize(
    "setting",
    [
        {"SLACKWATER_HARD_RESERVE_SECONDS": "2"},
        {"SLACKWATER_GRACE_SECONDS": "1"},
        {"SLACKWATER_LEASE_SECONDS": "1"},
        {"SLACKWATER_DATABASE_URI": "mysql://db/app"},
        {"SLACKWATER_API_KEYS": "alice"},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_settings_that_make_no_sense_stop_the_start(serve: Serve, setting: dict[str, str]) -> None:
    answer = serve(**setting)

    assert answer.code == ExitCode.SETTINGS
    assert next(iter(setting)) in answer.sentence
    assert answer.out == ""


def test_an_address_that_is_taken(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = serve("--port", taken.getsockname()[1])

    assert answer.code == ExitCode.SETTINGS
    assert "choose another --port or --host" in answer.sentence


async def test_a_connection_may_be_idle_for_longer_than_a_client_keeps_it(
    project: Path, database_uri: str, tmp_path: Path
) -> None:
    async with fleet_of(database_uri, tmp_path, project) as fleet:
        (server,) = await fleet.start()
        address = urlsplit(server.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for idle_seconds in (0, 6):  # uvicorn's own 5 are also what httpx keeps a connection for
            await asyncio.sleep(idle_seconds)
            writer.write(b"HEAD /ok HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            await reader.readuntil(b"\r\n\r\n")
        writer.close()


def test_two_that_start_on_one_port(project: Path, database_uri: str, unused_tcp_port: int) -> None:
    """Both may bind it. Who comes second to listen must not have opened anything by then: it would claim runs."""
    command = [SLACKWATER, "serve", "--port", str(unused_tcp_port)]
    environment = settings_only(project, SLACKWATER_DATABASE_URI=database_uri)
    both = [
        subprocess.Popen(
            command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        deadline = time.monotonic() + 60
        while all(process.poll() is None for process in both) and time.monotonic() < deadline:
            time.sleep(0.01)
        loser = next(process for process in both if process.poll() is not None)
        (winner,) = (process for process in both if process is not loser)
        answer = Answer(loser.returncode, *loser.communicate())
        assert winner.stdout is not None
        ready = winner.stdout.readline()
    finally:
        for process in both:
            process.terminate()
            process.communicate(timeout=30)

    assert (answer.code, answer.out) == (ExitCode.SETTINGS, "")
    assert answer.sentence.startswith(
        f"Cannot listen on 127.0.0.1:{unused_tcp_port} (Address already in use)"
    )
    assert ready.startswith(f"slackwater.ready url=http://127.0.0.1:{unused_tcp_port}")
    assert winner.returncode == ExitCode.CLEAN


def test_a_port_that_somebody_else_has_bound_is_taken_once_he_listens() -> None:
    """The moment between the two calls, which two processes seldom share."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with (
            listen("127.0.0.1", port, change="--port"),
            pytest.raises(OSError, match="Address already in use"),
        ):
            other.listen()
        other.listen()
        with pytest.raises(SettingsError, match=rf"Cannot listen on 127.0.0.1:{port}"):
            listen("127.0.0.1", port, change="--port")


def test_a_folder_without_a_project(serve: Serve, project: Path) -> None:
    answer = serve("--project", project / "elsewhere")

    assert answer.code == ExitCode.SETTINGS
    assert "give the project's folder with --project" in answer.sentence


def test_a_graph_that_does_not_import(serve: Serve, project: Path) -> None:
    (project / "agent.py").write_text("import nowhere_to_be_found\n")

    answer = serve()

    assert answer.code == ExitCode.GRAPH
    assert answer.sentence == (
        "Graph 'agent' (./agent.py:graph) cannot be imported: ModuleNotFoundError: No module named 'nowhere_to_be_found'"
    )


def test_a_schema_that_is_not_there(serve: Serve, empty_database_uri: str) -> None:
    answer = serve("--database-uri", empty_database_uri)

    assert answer.code == ExitCode.SCHEMA
    assert answer.sentence == "The database has no Slackwater schema: run `slackwater migrate`."


def test_a_schema_of_a_later_release(serve: Serve, database_uri: str) -> None:
    with psycopg.connect(database_uri, autocommit=True) as connection:
        connection.execute("insert into slackwater.migrations (name) values ('999_later')")

    answer = serve()

    assert answer.code == ExitCode.SCHEMA
    assert "is newer than this release (it has 999_later)" in answer.sentence


def test_a_database_that_cannot_be_reached(serve: Serve) -> None:
    answer = serve("--database-uri", "postgresql://me:s3cret@127.0.0.1:1/nothing")

    assert answer.code == ExitCode.SCHEMA
    assert "127.0.0.1:1 cannot be used" in answer.sentence
    assert "s3cret" not in answer.err


def test_plain_uvicorn_says_the_same_sentence(project: Path, empty_database_uri: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "slackwater.main:app", "--port", "0"],
        cwd=project,
        env=settings_only(project, SLACKWATER_DATABASE_URI=empty_database_uri, SLACKWATER_LOG_FORMAT="json"),
        capture_output=True,
        text=True,
        timeout=60,
    )

    logged = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert done.returncode != 0
    assert [(line["event"], line["message"]) for line in logged] == [
        ("start.failed", "The database has no Slackwater schema: run `slackwater migrate`.")
    ]
    assert "Traceback" not in done.stderr
