"""AWS over HTTP, as far as moto's server plays it, and a role of a real Postgres whose password can be rotated."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.amazon import ACCOUNT, amazon
from support.login import Login

from slackwater.aws import clients

REGION = "eu-west-1"


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with amazon() as url:
        yield url


@pytest.fixture(autouse=True)
def aws(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account without anything in it."""
    urllib.request.urlopen(urllib.request.Request(f"{moto_url}/moto-api/reset", method="POST")).close()
    here = {"AWS_ENDPOINT_URL": moto_url, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
    for name, value in {**ACCOUNT, **here}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(clients, "READ_SECONDS", 60)  # what is answered late is asked for again
    clients.forget()
    yield
    clients.forget()


@pytest.fixture
def secretsmanager() -> Any:
    """The test's own client, as whoever rotates secrets has one."""
    return boto3.client("secretsmanager")


@pytest.fixture
def sqs() -> Any:
    return boto3.client("sqs")


@pytest.fixture
def queue_url(sqs: Any) -> str:
    url: str = sqs.create_queue(QueueName="wakeups")["QueueUrl"]
    return url


@pytest.fixture
def login(database_uri: str, secretsmanager: Any) -> Iterator[Login]:
    """The role `rotating` in the migrated database of the test, its password `one`."""
    with psycopg.connect(database_uri, autocommit=True) as connection:
        row = connection.execute("show hba_file").fetchone()
        assert row is not None
        rules = Path(row[0])
        connection.execute("create role rotating login superuser password 'one'")
        before = rules.read_text()
        rules.write_text(f"local all rotating scram-sha-256\n{before}")
        connection.execute("select pg_reload_conf()")
        _until_passwords_count(database_uri)
        arn = secretsmanager.create_secret(Name="db", SecretString="{}")["ARN"]
        login = Login(database_uri, arn, secretsmanager)
        login.put("one")
        yield login
        login.disconnect()
        rules.write_text(before)
        connection.execute("select pg_reload_conf()")
        connection.execute("drop owned by rotating cascade")
        connection.execute("drop role rotating")


def _until_passwords_count(uri: str) -> None:
    while True:
        try:
            psycopg.connect(make_conninfo(uri, user="rotating", password="wrong")).close()
        except psycopg.OperationalError:
            return
