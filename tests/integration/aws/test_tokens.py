"""IAM tokens: one for each connection, over TLS only."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

import pytest
from psycopg.conninfo import conninfo_to_dict

from slackwater.aws import clients
from slackwater.aws.database import conninfo_of
from slackwater.aws.tokens import TokenConninfo
from slackwater.errors import SettingsError
from slackwater.postgres.conninfo import resolve
from slackwater.settings import Settings

HOST = "app.abc.us-west-2.rds.amazonaws.com"


async def test_the_password_is_a_token_for_this_user_and_host() -> None:
    settings = Settings.load(database_uri=f"postgresql://worker@{HOST}:6432/app", database_iam=True)
    conninfo = conninfo_of(settings)
    assert conninfo is not None

    said = conninfo_to_dict(await resolve(conninfo))

    assert {name: said[name] for name in ("user", "host", "port", "dbname", "sslmode")} == {
        "user": "worker",
        "host": HOST,
        "port": "6432",
        "dbname": "app",
        "sslmode": "require",
    }
    token = urlsplit(f"https://{said['password']}")
    query = parse_qs(token.query)
    assert token.netloc == f"{HOST}:6432"
    assert (query["Action"], query["DBUser"]) == (["connect"], ["worker"])
    # AND it is signed for where the database is, not for where this process runs
    assert "/us-west-2/rds-db/" in query["X-Amz-Credential"][0]


async def test_each_connection_has_a_token_of_its_own() -> None:
    conninfo = TokenConninfo(f"postgresql://worker@{HOST}/app")

    first = await conninfo()
    await asyncio.sleep(1.1)  # its time is in it, in seconds

    assert await conninfo() != first


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("disable", "require"),
        ("prefer", "require"),
        ("verify-full", "verify-full"),
        ("verify-ca", "verify-ca"),
    ],
)
async def test_a_token_is_never_sent_in_the_clear(given: str, used: str) -> None:
    conninfo = TokenConninfo(f"postgresql://worker@{HOST}/app?sslmode={given}")

    assert conninfo_to_dict(await conninfo())["sslmode"] == used


def test_a_token_is_for_somebody_somewhere() -> None:
    for uri in (f"postgresql://{HOST}/app", "postgresql://worker@/app"):
        with pytest.raises(SettingsError, match="needs a user and a host"):
            TokenConninfo(uri)


async def test_without_credentials_the_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    clients.forget()

    with pytest.raises(SettingsError, match=r"Cannot create an IAM token .*credentials"):
        await TokenConninfo(f"postgresql://worker@{HOST}/app")()
