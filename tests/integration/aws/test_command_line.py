"""The commands log in as the server does, and say in a sentence what AWS has refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.command import Answer, run_command
from support.login import Login

from slackwater.identity.keys import new_key

GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
graph = StateGraph(TypedDict("State", {"text": str})).add_node("node", print).add_edge(START, "node").compile()
"""


@pytest.fixture
def account(moto_url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def doctor(folder: Path, *arguments: str, **settings: str) -> Answer:
    (folder / "agent.py").write_text(GRAPH)
    (folder / "langgraph.json").write_text(json.dumps({"graphs": {"agent": "./agent.py:graph"}}))
    return run_command(folder, "doctor", *arguments, **settings)


def test_doctor_uses_the_secrets(
    tmp_path: Path, account: dict[str, str], login: Login, secretsmanager: Any
) -> None:
    key = new_key("alice")[1]
    keys = secretsmanager.create_secret(Name="keys", SecretString=f"{key.name}:{key.sha256}")["ARN"]

    answer = doctor(
        tmp_path,
        "--host=0.0.0.0",
        **account,
        SLACKWATER_DATABASE_SECRET_ARN=login.arn,
        SLACKWATER_API_KEYS_SECRET_ARN=keys,
    )

    assert answer.code == 0, answer
    assert "0.0.0.0 is served to holders of these keys: alice." in answer.out
    assert f"{login.arn} answers: Postgres" in answer.out


def test_doctor_says_which_secret_cannot_be_read(tmp_path: Path, account: dict[str, str]) -> None:
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:{}-abcdef"

    answer = doctor(
        tmp_path,
        **account,
        SLACKWATER_DATABASE_SECRET_ARN=arn.format("db"),
        SLACKWATER_API_KEYS_SECRET_ARN=arn.format("keys"),
    )

    assert answer.code == 2
    failed = [line for line in answer.out.splitlines() if line.startswith("failed")]
    assert [line.split()[1] for line in failed] == ["keys", "database"]
    for name, line in zip(("keys", "db"), failed, strict=True):
        assert f"The secret {arn.format(name)} cannot be read" in line
        assert "secretsmanager:GetSecretValue" in line


def test_migrate_logs_in_with_the_secret(tmp_path: Path, account: dict[str, str], login: Login) -> None:
    with psycopg.connect(login.admin, autocommit=True) as connection:
        connection.execute("drop schema slackwater cascade")

    answer = run_command(tmp_path, "migrate", **account, SLACKWATER_DATABASE_SECRET_ARN=login.arn)

    assert answer.code == 0, answer
    assert "applied 001_gateway" in answer.out


def test_migrate_that_cannot_log_in_is_one_sentence(
    tmp_path: Path, account: dict[str, str], login: Login
) -> None:
    login.put("hunter2")

    answer = run_command(tmp_path, "migrate", **account, SLACKWATER_DATABASE_SECRET_ARN=login.arn)

    assert answer.code == 3
    assert "cannot be used" in answer.sentence
    assert "hunter2" not in answer.out + answer.err
