"""`slackwater doctor`: each line says what is wrong and what to do, and the exit code is what `serve` would say."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psycopg
import pytest
from support.command import Answer

from slackwater.identity.keys import new_key

GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
graph = StateGraph(TypedDict("State", {"text": str})).add_node("node", print).add_edge(START, "node").compile()
"""

Doctor = Callable[..., Answer]


@pytest.fixture
def doctor(slackwater: Callable[..., Answer], tmp_path: Path, database_uri: str) -> Doctor:
    """Examines a project that is in order, on a database that is."""
    (tmp_path / "agent.py").write_text(GRAPH)
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"agent": "./agent.py:graph"}}))
    return partial(slackwater, "doctor", SLACKWATER_DATABASE_URI=database_uri)


def lines(answer: Answer) -> dict[str, list[str]]:
    """The report: what each level says."""
    found: dict[str, list[str]] = {}
    for line in answer.out.splitlines():
        level, _, text = line.partition(" ")
        found.setdefault(level, []).append(text.strip())
    return found


def test_a_project_that_is_in_order(doctor: Doctor, tmp_path: Path) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())

    answer = doctor()

    assert answer.code == 0, answer
    assert {line.split()[0] for line in lines(answer)["ok"]} == {
        "stopping",
        "keys",
        "graphs",
        "database",
        "schema",
    }
    assert "failed" not in lines(answer)
    assert "25 s from SIGTERM to the exit: 23 s for nodes to finish" in answer.out
    assert [
        name for name in sorted(path.name for path in tmp_path.iterdir()) if name != "__pycache__"
    ] == before


def test_models_of_the_gateway_that_cannot_be_had(doctor: Doctor, tmp_path: Path) -> None:
    models = [
        {"name": "fast", "model": "openai:gpt-5-mini", "args": {"api_key": "$THE_KEY"}},
        {"name": "slow", "model": "openai:gpt-5", "args": {"api_key": "$NO_KEY"}},
        {"name": "other", "model": "groq:llama"},
    ]
    channels = [
        {"name": name, "kind": "webhook", "owner": "ann", "assistant": "agent", "secret": secret}
        for name, secret in (("in", "$THE_SECRET"), ("out", "$NO_SECRET"))
    ]
    (tmp_path / "langgraph.json").write_text(
        json.dumps(
            {"graphs": {"agent": "./agent.py:graph"}, "gateway": {"models": models, "channels": channels}}
        )
    )
    assert "gateway.models" not in doctor().out

    (tmp_path / "blobs").touch()  # where a folder is to be
    answer = doctor(
        SLACKWATER_GATEWAY="true",
        THE_KEY="sk-secret",
        THE_SECRET="sk-secret of both",
        SLACKWATER_BLOBS=f"file:{tmp_path}/blobs",
    )

    assert answer.code == 2
    found = lines(answer)
    assert "gateway   gateway.models: fast is openai:gpt-5-mini." in found["ok"]
    assert "slow: the environment has no NO_KEY" in found["failed"][0]
    assert "gateway   gateway.channels: in starts runs of agent for ann." in found["ok"]
    assert "out: the environment has no NO_SECRET" in found["failed"][1]
    assert "other cannot be used: ImportError" in found["warning"][0]
    assert "langchain-groq" in found["warning"][0]
    assert f"file:{tmp_path}/blobs does not answer: NotADirectoryError" in found["warning"][1]
    assert "sk-secret" not in answer.out


def test_without_a_database_uri_nothing_is_set_up(
    slackwater: Callable[..., Answer], doctor: Doctor, tmp_path: Path
) -> None:
    answer = slackwater("doctor")

    assert answer.code == 0
    assert "embedded: `slackwater serve` creates it" in answer.out
    assert not (tmp_path / ".slackwater").exists()


def test_a_graph_that_does_not_import_shows_the_whole_traceback(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text("import somewhere_else\n")

    answer = doctor()

    assert answer.code == 4
    assert (
        "Graph 'agent' (./agent.py:graph) cannot be imported: ModuleNotFoundError"
        in lines(answer)["failed"][0]
    )
    assert "Traceback (most recent call last):" in answer.out
    assert 'agent.py", line 1' in answer.out
    assert "schema" in answer.out  # the rest is examined all the same


def test_no_project_at_all(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "langgraph.json").unlink()

    answer = doctor()

    assert answer.code == 2
    assert "give the project's folder with --project" in lines(answer)["failed"][0]


def test_keys_of_langgraph_json_that_have_no_effect_are_told(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "langgraph.json").write_text(
        json.dumps({"graphs": {"agent": "./agent.py:graph"}, "ui": {"agent": "./ui.tsx"}})
    )

    answer = doctor()

    assert answer.code == 0
    assert "these keys have no effect: ui" in lines(answer)["warning"][0]


def test_a_schema_that_is_not_there(doctor: Doctor, empty_database_uri: str) -> None:
    answer = doctor("--database-uri", empty_database_uri)

    assert answer.code == 3
    assert "run `slackwater migrate`" in lines(answer)["failed"][0]


def test_a_database_that_cannot_be_reached(doctor: Doctor) -> None:
    answer = doctor("--database-uri", "postgresql://me:s3cret@127.0.0.1:1/nothing")

    assert answer.code == 3
    assert "cannot be used" in lines(answer)["failed"][0]
    assert "s3cret" not in answer.out + answer.err


def test_a_host_for_others_without_a_key(doctor: Doctor) -> None:
    without = doctor("--host", "0.0.0.0")
    key = new_key("alice")[1]
    with_key = doctor(SLACKWATER_HOST="0.0.0.0", SLACKWATER_API_KEYS=f"{key.name}:{key.sha256}")

    assert without.code == 2
    assert "slackwater keys new" in lines(without)["failed"][0]
    assert with_key.code == 0
    assert "holders of these keys: alice" in with_key.out


def test_a_host_for_others_with_accounts(doctor: Doctor) -> None:
    answer = doctor(SLACKWATER_HOST="0.0.0.0", SLACKWATER_ACCOUNTS="true", SLACKWATER_REGISTRATION="closed")

    assert answer.code == 0
    assert "0.0.0.0 is served to users who log in; registration is closed." in answer.out
    assert "only this machine" not in answer.out


def test_settings_that_contradict_each_other(doctor: Doctor) -> None:
    answer = doctor(SLACKWATER_GRACE_SECONDS="1")

    assert answer.code == 2
    assert "SLACKWATER_DRAIN_RESERVE_SECONDS" in lines(answer)["failed"][0]


def test_more_connections_than_the_server_has(doctor: Doctor) -> None:
    answer = doctor(SLACKWATER_POOL_MAX_SIZE="1000")

    assert answer.code == 0
    assert "lower SLACKWATER_POOL_MAX_SIZE" in lines(answer)["warning"][0]


def test_the_report_for_programs(doctor: Doctor) -> None:
    findings = doctor("--json").json

    assert {finding["level"] for finding in findings} == {"ok"}
    assert set(findings[0]) == {"level", "about", "text", "detail", "exit_code"}


@pytest.mark.pgbouncer
def test_a_transaction_pooler_in_between(
    doctor: Doctor, pgbouncer: Callable[..., str], database_uri: str
) -> None:
    uri = pgbouncer()

    answer = doctor("--database-uri", uri)
    advised = doctor(
        "--database-uri", uri, SLACKWATER_WAKE="poll", SLACKWATER_MIGRATION_DATABASE_URI=database_uri
    )

    assert answer.code == advised.code == 0
    wake, migration = lines(answer)["warning"]
    assert "set SLACKWATER_WAKE=poll" in wake
    assert "set SLACKWATER_MIGRATION_DATABASE_URI" in migration
    assert "warning" not in lines(advised)


@pytest.mark.pgbouncer
def test_a_session_pooler_is_welcome(doctor: Doctor, pgbouncer: Callable[..., str]) -> None:
    answer = doctor("--database-uri", pgbouncer(pool_mode="session"))

    assert answer.code == 0
    assert "warning" not in lines(answer)


@pytest.mark.pgbouncer
def test_migrate_through_a_transaction_pooler_is_refused(
    slackwater: Callable[..., Answer], pgbouncer: Callable[..., str]
) -> None:
    answer = slackwater("migrate", "--database-uri", pgbouncer())

    assert answer.code == 3
    assert "SLACKWATER_MIGRATION_DATABASE_URI" in answer.sentence


HTTP = {
    "app": "./web.py:app",
    "mount_prefix": "/agents",
    "disable_store": True,
    "cors": {"allow_origins": ["https://a.example"]},
    "colour": "blue",
}
WEB = """
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount

app = Starlette(routes=[Mount("/", PlainTextResponse("hi"))], middleware=[Middleware(CORSMiddleware)])
"""


def test_what_http_arranges_is_told(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(WEB)
    content = {"graphs": {"agent": "./agent.py:graph"}, "http": HTTP}
    (tmp_path / "langgraph.json").write_text(json.dumps(content))

    answer = doctor()

    assert answer.code == 0, answer
    assert (
        "http      ./web.py:app in front of the API; everything under /agents; without store."
        in lines(answer)["ok"]
    )
    warnings = "\n".join(lines(answer)["warning"])
    assert "http: these keys have no effect: colour" in warnings
    assert "mounts something at /" in warnings
    assert "cors does not list content-location in expose_headers" in warnings
    assert "CORSMiddleware" not in warnings


def test_an_application_of_ones_own_that_does_not_import(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text("import gone")
    content = {"graphs": {"agent": "./agent.py:graph"}, "http": {"app": "./web.py:app"}}
    (tmp_path / "langgraph.json").write_text(json.dumps(content))

    answer = doctor()

    assert answer.code == 4
    assert "http.app (./web.py:app) cannot be imported: ModuleNotFoundError" in "\n".join(
        lines(answer)["failed"]
    )
    assert "Traceback (most recent call last):" in answer.out


def test_the_keys_that_sign_tokens(
    doctor: Doctor, slackwater: Callable[..., Answer], database_uri: str
) -> None:
    database = {"SLACKWATER_DATABASE_URI": database_uri}
    key = {"SLACKWATER_DATABASE_KEYS": "true", "SLACKWATER_ENCRYPTION_KEY": "A" * 43 + "="}
    plain = {"SLACKWATER_DATABASE_KEYS": "true"}

    def about(answer: Answer) -> list[str]:
        return [line for line in answer.out.splitlines() if line.split()[1:2] == ["signing"]]

    # GIVEN nothing is signed
    assert about(doctor()) == about(doctor(**plain)) == []
    # GIVEN a key that is not encrypted
    assert slackwater("token", "alice", **database).code == 0
    (line,) = about(doctor(**plain))
    assert line.startswith("warning")
    assert "openssl rand -base64 32" in line
    # GIVEN one that is
    with psycopg.connect(database_uri, autocommit=True) as connection:
        connection.execute("delete from slackwater.signing_keys")
    assert slackwater("token", "alice", **database, **key).code == 0
    (line,) = about(doctor(**key))
    assert line.startswith("ok")
    for other in (plain, {**key, "SLACKWATER_ENCRYPTION_KEY": "B" * 42 + "A="}):
        answer = doctor(**other)
        (line,) = about(answer)
        assert (answer.code, line.split()[0]) == (2, "failed")
        assert "slackwater signing rotate --now" in line
