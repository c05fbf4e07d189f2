"""Secrets: how to log in to the database, also after a rotation, and who may call."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from support.login import Login

from slackwater.aws import clients, secrets
from slackwater.aws.database import conninfo_of
from slackwater.aws.secrets import SecretConninfo, SecretError, encryption_of, with_secret_keys
from slackwater.errors import SchemaError
from slackwater.identity.keys import new_key
from slackwater.postgres import schema
from slackwater.postgres.conninfo import connect, resolve
from slackwater.postgres.pool import Database
from slackwater.settings import Settings


@asynccontextmanager
async def opened(conninfo: Any) -> AsyncIterator[Database]:
    database = Database(conninfo, max_size=4, statement_seconds=20.0, name="rotation")
    await database.open()
    try:
        yield database
    finally:
        await database.close(2.0)


async def who(database: Database) -> str:
    row = await database.fetch_one("select current_user::text as name")
    assert row is not None
    return str(row["name"])


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "error connecting" in record.getMessage()]


async def test_the_secret_says_where_the_database_is_and_how_to_log_in(login: Login) -> None:
    async with opened(SecretConninfo(login.arn)) as database:
        assert await who(database) == "rotating"
        await schema.check(database)


async def test_a_secret_may_be_a_uri(login: Login, secretsmanager: Any) -> None:
    parts = conninfo_to_dict(login.admin)
    uri = f"postgresql://rotating:one@/{parts['dbname']}?host={parts['host']}&port={parts['port']}"
    secretsmanager.put_secret_value(SecretId=login.arn, SecretString=uri)

    async with opened(SecretConninfo(login.arn)) as database:
        assert await who(database) == "rotating"


async def test_connections_after_a_rotation_are_made_with_the_new_password(
    login: Login, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(SecretConninfo(login.arn)) as database:
        # GIVEN a pool in use, and its password in the cache
        await asyncio.gather(*(database.fetch("select pg_sleep(0.05)") for _ in range(4)))

        # WHEN the password is rotated, and the connections are lost
        login.rotate("two")
        login.disconnect()

        # THEN nobody notices: the password is read again in the attempt that was refused
        with caplog.at_level(logging.WARNING, "psycopg.pool"):
            names = await asyncio.gather(*(who(database) for _ in range(8)))
        assert names == ["rotating"] * 8
        assert refusals(caplog) == []


async def test_a_rotation_that_has_not_reached_the_secret_is_waited_for(login: Login) -> None:
    """It is in the database seconds before."""
    async with opened(SecretConninfo(login.arn)) as database:
        await who(database)
        await nothing_is_being_connected(database)
        login.rotate("two", in_secret=False)
        login.disconnect()
        waiting = asyncio.create_task(who(database))
        await asyncio.sleep(0.5)
        assert not waiting.done()

        login.put("two")

        assert await waiting == "rotating"


async def nothing_is_being_connected(database: Database) -> None:
    """What logs in while the password is rotated may still do so with the old one."""
    while (stats := database.pool.get_stats())["pool_available"] < stats["pool_size"]:
        await asyncio.sleep(0.01)


async def test_the_idle_connections_are_swapped_too(login: Login) -> None:
    async with opened(SecretConninfo(login.arn)) as database:
        old = await pids(database)
        login.rotate("two")

        # WHEN one connection has to be replaced
        with psycopg.connect(login.admin, autocommit=True) as admin:
            admin.execute("select pg_terminate_backend(%s)", (max(old),))

        # THEN those of the old password are gone, too, once they have come back
        async with asyncio.timeout(10):
            while old & await pids(database):
                pass


async def pids(database: Database) -> set[int]:
    """The sessions of the pool, all of them at once."""
    rows = await asyncio.gather(
        *(database.fetch_one("select pg_backend_pid() as pid, pg_sleep(0.3)") for _ in range(4))
    )
    return {row["pid"] for row in rows if row}


async def test_many_refused_at_once_read_the_secret_once(
    login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    conninfo = SecretConninfo(login.arn)
    await connect_and_leave(conninfo)
    fetched: list[bool] = []
    fetch = secrets._fetch
    monkeypatch.setattr(secrets, "_fetch", lambda arn, force: (fetched.append(force), fetch(arn, force))[1])
    login.rotate("two")

    await asyncio.gather(*(connect_and_leave(conninfo) for _ in range(6)))

    assert fetched.count(True) == 1


async def connect_and_leave(conninfo: SecretConninfo) -> None:
    async with await connect(psycopg.AsyncConnection, conninfo):
        pass


async def test_a_wrong_secret_is_not_asked_for_at_every_attempt(
    login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    login.put("wrong")
    conninfo = SecretConninfo(login.arn)
    fetched: list[bool] = []
    fetch = secrets._fetch
    monkeypatch.setattr(secrets, "_fetch", lambda arn, force: (fetched.append(force), fetch(arn, force))[1])

    for _ in range(5):
        with pytest.raises(psycopg.OperationalError):
            await connect_and_leave(conninfo)

    assert fetched.count(True) == 1


async def test_another_failure_is_no_reason_to_read_the_secret_again(
    login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    login.put("one", host="/nowhere")
    conninfo = SecretConninfo(login.arn)
    fetched: list[bool] = []
    fetch = secrets._fetch
    monkeypatch.setattr(secrets, "_fetch", lambda arn, force: (fetched.append(force), fetch(arn, force))[1])

    with pytest.raises(psycopg.OperationalError):
        await connect_and_leave(conninfo)

    assert True not in fetched


async def test_the_uri_says_the_way_and_the_secret_the_login(login: Login) -> None:
    """RDS's own secrets say nothing but the login, and a proxy has another address than the instance."""
    parts = conninfo_to_dict(login.admin)
    login.put("one", host="instance.example", dbname="other", username="rotating")
    uri = f"postgresql://ignored@/{parts['dbname']}?host={parts['host']}&port={parts['port']}&application_name=me"
    settings = Settings.load(database_uri=uri, database_secret_arn=login.arn)
    conninfo = conninfo_of(settings)
    assert conninfo is not None

    said = conninfo_to_dict(await resolve(conninfo))

    assert {name: said[name] for name in ("user", "password", "host", "dbname", "application_name")} == {
        "user": "rotating",
        "password": "one",
        "host": parts["host"],
        "dbname": parts["dbname"],
        "application_name": "me",
    }


async def test_migrations_go_the_direct_way_with_the_same_login(login: Login) -> None:
    settings = Settings.load(
        database_uri="postgresql://pooler.example/app",
        migration_database_uri="postgresql://direct.example/app",
        database_secret_arn=login.arn,
    )
    conninfo = conninfo_of(settings, settings.migration_database_uri)
    assert conninfo is not None
    said = conninfo_to_dict(await resolve(conninfo))
    assert (said["host"], said["user"], said["password"]) == ("direct.example", "rotating", "one")

    # AND a URI that is complete stays as it is
    settings = Settings.load(
        database_secret_arn=login.arn, migration_database_uri="postgresql://a:b@direct/app"
    )
    assert conninfo_of(settings, settings.migration_database_uri) == "postgresql://a:b@direct/app"


UNFIT = {
    "nothing": ("{}", 'it must contain "username" and "password"'),
    "no json": ('{"username": hunter2', "is not valid JSON"),
    "no login": ("postgresql://db/app", "has no user and password"),
    "another text": ("hunter2", "is neither RDS's JSON nor a URI"),
    "no host": ('{"username": "me", "password": "hunter2"}', "has no host: set SLACKWATER_DATABASE_URI"),
}


@pytest.mark.parametrize(("text", "words"), UNFIT.values(), ids=UNFIT)
async def test_an_unfit_secret_is_one_sentence_that_does_not_repeat_it(
    secretsmanager: Any, text: str, words: str
) -> None:
    arn = secretsmanager.create_secret(Name="unfit", SecretString=text)["ARN"]

    with pytest.raises(SecretError) as raised:
        await SecretConninfo(arn)()

    assert words in raised.value.message
    assert arn in raised.value.message
    assert "hunter2" not in raised.value.message


async def test_a_secret_that_cannot_be_read_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, database_uri: str
) -> None:
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:nothing-abcdef"
    with pytest.raises(SecretError, match=r"cannot be read .*secretsmanager:GetSecretValue"):
        await SecretConninfo(arn)()

    # AND one that is only named needs a region from elsewhere
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    clients.forget()
    with pytest.raises(SecretError, match="region"):
        await SecretConninfo("nothing")()
    assert clients.region_of(arn) == "eu-west-1"


async def test_a_login_that_is_refused_for_good_is_a_sentence_without_the_password(login: Login) -> None:
    login.put("hunter2")

    with pytest.raises(SchemaError) as raised:
        await schema.status(SecretConninfo(login.arn))

    assert "cannot be used" in raised.value.message
    assert "hunter2" not in raised.value.message


@pytest.mark.parametrize("as_json", [False, True])
async def test_keys_may_be_in_a_secret(secretsmanager: Any, as_json: bool) -> None:
    keys = [new_key(name)[1] for name in ("alice", "bob", "carol")]
    texts = [f"{key.name}:{key.sha256}" for key in keys[:2]]
    text = json.dumps(texts) if as_json else f"{', '.join(texts)}\n"
    arn = secretsmanager.create_secret(Name="keys", SecretString=text)["ARN"]

    settings = await with_secret_keys(Settings.load(api_keys=(keys[2],), api_keys_secret_arn=arn))

    assert settings.api_keys == (keys[2], keys[0], keys[1])


@pytest.mark.parametrize(
    "text", ["", "[]", "alice:hunter2", '["alice:hunter2"]', '[{"hunter2": 1}]', "[hunter2"]
)
async def test_a_secret_without_keys_lets_nobody_in(secretsmanager: Any, text: str) -> None:
    arn = secretsmanager.create_secret(Name="keys", SecretString=text or " ")["ARN"]

    with pytest.raises(SecretError) as raised:
        await with_secret_keys(Settings.load(api_keys_secret_arn=arn))

    assert arn in raised.value.message
    assert "hunter2" not in raised.value.message


async def test_what_encrypts_signing_keys_may_be_in_a_secret(secretsmanager: Any) -> None:
    old, new = "A" * 43 + "=", "B" * 42 + "A="
    arn = secretsmanager.create_secret(Name="encryption", SecretString=f"{new},{old}\n")["ARN"]
    settings = Settings.load(encryption_key_secret_arn=arn)
    expected = Settings.load(encryption_key=f"{new},{old}")
    assert (await encryption_of(settings)).keys == (await encryption_of(expected)).keys
    assert (await encryption_of(Settings.load())).first is None
    # WHEN it is changed, whoever starts next has it
    secretsmanager.put_secret_value(SecretId=arn, SecretString=new)
    assert list((await encryption_of(settings)).keys) == [(await encryption_of(expected)).first]
    # WHEN it is something else, what it is stays out of the sentence
    secretsmanager.put_secret_value(SecretId=arn, SecretString="hunter2")
    with pytest.raises(SecretError) as wrong:
        await encryption_of(settings)
    assert wrong.value.message.startswith(f"The secret {arn} must be 32 random bytes in base64")
    assert "hunter2" not in wrong.value.message
