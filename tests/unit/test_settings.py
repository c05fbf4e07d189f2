from __future__ import annotations

from pathlib import Path

import pytest

from slackwater.errors import ExitCode, SettingsError
from slackwater.identity.keys import new_key
from slackwater.settings import Settings

KEY = new_key("alice")[1]


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No `.env` and no variables but the test's."""
    import os

    for name in [name for name in os.environ if name.startswith("SLACKWATER_")]:
        monkeypatch.delenv(name)
    for name in ("DATABASE_URI", "POSTGRES_URI", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_defaults_fit_together() -> None:
    settings = Settings.load()

    assert (settings.host, settings.port, settings.database_uri) == ("127.0.0.1", 2024, None)
    assert (settings.grace_seconds, settings.drain_reserve_seconds, settings.hard_reserve_seconds) == (
        25,
        2,
        0.5,
    )
    assert (settings.lease_seconds, settings.poll_seconds, settings.sweep_seconds) == (30, 1, 5)
    assert (settings.max_handovers, settings.max_concurrent_runs) == (1000, 64)


def test_an_argument_beats_the_environment_which_beats_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(
        "SLACKWATER_PORT=1\nSLACKWATER_LEASE_SECONDS=40\nSLACKWATER_HOST=localhost\n"
    )
    monkeypatch.setenv("SLACKWATER_PORT", "2")
    monkeypatch.setenv("SLACKWATER_HOST", "::1")

    settings = Settings.load(port=3, host=None)

    assert (settings.port, settings.host, settings.lease_seconds) == (3, "::1", 40)


@pytest.mark.parametrize("name", ["SLACKWATER_DATABASE_URI", "DATABASE_URI", "POSTGRES_URI", "DATABASE_URL"])
@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+asyncpg"])
def test_a_database_is_understood_as_people_have_it(
    monkeypatch: pytest.MonkeyPatch, name: str, scheme: str
) -> None:
    monkeypatch.setenv(name, f"{scheme}://me:pw@db/app?sslmode=require")

    assert Settings.load().database_uri == "postgresql://me:pw@db/app?sslmode=require"


def test_a_conninfo_of_words_is_a_database_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACKWATER_DATABASE_URI", "host=/tmp dbname=app")

    assert Settings.load().database_uri == "host=/tmp dbname=app"


def test_our_own_name_of_the_database_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://theirs/x")
    monkeypatch.setenv("SLACKWATER_DATABASE_URI", "postgresql://ours/x")

    assert Settings.load().database_uri == "postgresql://ours/x"
    assert Settings.load(database_uri="postgresql://argument/x").database_uri == "postgresql://argument/x"


def test_several_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    other = new_key("bob")[1]
    monkeypatch.setenv("SLACKWATER_API_KEYS", f"{KEY.name}:{KEY.sha256}, {other.name}:{other.sha256},")

    assert Settings.load().api_keys == (KEY, other)


WRONG = {
    "hard reserve beyond the drain reserve": (
        {"SLACKWATER_HARD_RESERVE_SECONDS": "3"},
        "SLACKWATER_HARD_RESERVE_SECONDS (3) is part of SLACKWATER_DRAIN_RESERVE_SECONDS (2) and must be smaller: "
        "lower the first.",
    ),
    "drain reserve beyond the grace period": (
        {"SLACKWATER_GRACE_SECONDS": "2"},
        "SLACKWATER_DRAIN_RESERVE_SECONDS (2) is part of SLACKWATER_GRACE_SECONDS (2) and must be smaller: raise the "
        "second.",
    ),
    "a lease that a poll may miss": (
        {"SLACKWATER_LEASE_SECONDS": "2"},
        "SLACKWATER_POLL_SECONDS (1) must be at most a third of SLACKWATER_LEASE_SECONDS (2): raise the lease.",
    ),
    "another database": (
        {"DATABASE_URL": "mysql://me:pw@db/app"},
        "SLACKWATER_DATABASE_URI: only postgresql:// is supported, not mysql://.",
    ),
    "a key that is none": (
        {"SLACKWATER_API_KEYS": "alice:hunter2"},
        "SLACKWATER_API_KEYS: each key must be name:sha256hex, as printed by `slackwater keys new NAME`.",
    ),
    "a port that is none": (
        {"SLACKWATER_PORT": "99999"},
        "SLACKWATER_PORT: input should be less than or equal to 65535 (it is '99999').",
    ),
    "a time that is none": (
        {"SLACKWATER_GRACE_SECONDS": "soon"},
        "SLACKWATER_GRACE_SECONDS: input should be a valid number, unable to parse string as a number (it is 'soon').",
    ),
    "no time at all": (
        {"SLACKWATER_GRACE_SECONDS": "0"},
        "SLACKWATER_GRACE_SECONDS: input should be greater than 0 (it is '0').",
    ),
    "times without an end": (
        {"SLACKWATER_GRACE_SECONDS": "inf"},
        "SLACKWATER_GRACE_SECONDS: input should be a finite number (it is 'inf').",
    ),
    "a pool without room for two": (
        {"SLACKWATER_POOL_MAX_SIZE": "1"},
        "SLACKWATER_POOL_MAX_SIZE: input should be greater than or equal to 2 (it is '1').",
    ),
    "hand-overs to a queue that nobody named": (
        {"SLACKWATER_HANDOVER": "sqs"},
        "SLACKWATER_HANDOVER=sqs needs SLACKWATER_QUEUE_URL: set it, or choose invoke or sweep.",
    ),
    "a function that would invoke itself and is none": (
        {"SLACKWATER_HANDOVER": "invoke"},
        "SLACKWATER_HANDOVER=invoke is for AWS Lambda, where the function invokes itself: unset it here.",
    ),
    "a queue that is in order": (
        {"SLACKWATER_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/runs.fifo"},
        "SLACKWATER_QUEUE_URL is a FIFO queue, which delivers wake-ups one at a time: use a standard queue.",
    ),
    "a secret and a token": (
        {"SLACKWATER_DATABASE_SECRET_ARN": "arn:x", "SLACKWATER_DATABASE_IAM": "true"},
        "SLACKWATER_DATABASE_SECRET_ARN and SLACKWATER_DATABASE_IAM cannot be used together: unset one of them.",
    ),
    "a password beside a secret": (
        {"SLACKWATER_DATABASE_SECRET_ARN": "arn:x", "DATABASE_URL": "postgresql://me:pw@db/app"},
        "The database URI has a password, which SLACKWATER_DATABASE_SECRET_ARN would replace: remove it "
        "from the URI, or unset SLACKWATER_DATABASE_SECRET_ARN.",
    ),
    "a password beside a token": (
        {"SLACKWATER_DATABASE_IAM": "true", "SLACKWATER_DATABASE_URI": "host=db user=me password=pw"},
        "The database URI has a password, which SLACKWATER_DATABASE_IAM would replace: remove it from the "
        "URI, or unset SLACKWATER_DATABASE_IAM.",
    ),
    "a token for nowhere": (
        {"SLACKWATER_DATABASE_IAM": "true"},
        "SLACKWATER_DATABASE_IAM=true needs SLACKWATER_DATABASE_URI with the user and host that the token is for: "
        "postgresql://USER@HOST/NAME.",
    ),
    "pages that the gateway does not wait for": (
        {"SLACKWATER_STREAM_PAGE_SECONDS": "29"},
        "SLACKWATER_STREAM_PAGE_SECONDS (29) must be smaller than SLACKWATER_GATEWAY_LIMIT_SECONDS (29): lower the "
        "first.",
    ),
    "heartbeats that come too late for a page": (
        {"SLACKWATER_GATEWAY": "true", "SLACKWATER_HEARTBEAT_SECONDS": "30"},
        "SLACKWATER_HEARTBEAT_SECONDS (30) must be less than 30 with SLACKWATER_GATEWAY: the proxy of its page gives up after 30 "
        "seconds without a byte.",
    ),
    "an authorizer that nobody knows": (
        {"SLACKWATER_AUTHORIZER": "cognito"},
        "SLACKWATER_AUTHORIZER: input should be 'iam', 'jwt' or 'lambda' (it is 'cognito').",
    ),
    "sessions longer than a month": (
        {"SLACKWATER_SESSION_DAYS": "31"},
        "SLACKWATER_SESSION_DAYS: input should be less than or equal to 30 (it is '31').",
    ),
    "sessions shorter than a day": (
        {"SLACKWATER_SESSION_DAYS": "0"},
        "SLACKWATER_SESSION_DAYS: input should be greater than or equal to 1 (it is '0').",
    ),
    "an unknown word": (
        {"SLACKWATER_WAKE": "shout"},
        "SLACKWATER_WAKE: input should be 'listen' or 'poll' (it is 'shout').",
    ),
}


@pytest.mark.parametrize(("environment", "sentence"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_one_sentence_that_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], sentence: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as raised:
        Settings.load()

    assert raised.value.message == sentence
    assert raised.value.exit_code == ExitCode.SETTINGS


def test_a_wrong_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACKWATER_API_KEYS", "alice:hunter2")
    monkeypatch.setenv("SLACKWATER_DATABASE_URI", "mysql://me:hunter2@db/app")

    for argument in ({}, {"api_keys": (KEY,)}):
        with pytest.raises(SettingsError) as raised:
            Settings.load(**argument)
        assert "hunter2" not in raised.value.message


def test_settings_do_not_show_where_the_database_is() -> None:
    settings = Settings.load(
        database_uri="postgresql://me:hunter2@db:5433/app", migration_database_uri="host=x"
    )

    assert "hunter2" not in repr(settings)
    assert settings.redacted_database() == "db:5433/app"


def test_without_keys_only_loopback_may_be_served() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        Settings.load().check_bind(host)
    for host in ("0.0.0.0", "::", "", "192.168.0.1", "example.com"):
        with pytest.raises(SettingsError, match="slackwater keys new"):
            Settings.load().check_bind(host)
        Settings.load(api_keys=(KEY,)).check_bind(host)


def test_what_a_template_left_out_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Settings.load()
    for name in Settings.model_fields:
        monkeypatch.setenv(f"SLACKWATER_{name.upper()}", "")

    assert Settings.load() == defaults


def test_a_queue_is_there_to_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().handover_by == "sweep"
    assert Settings.load(queue_url="https://sqs.eu-west-1.amazonaws.com/1/runs").handover_by == "sqs"
    assert Settings.load(queue_url="https://x/runs", handover="sweep").handover_by == "sweep"
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    assert Settings.load(queue_url="https://x/runs", handover="invoke").handover_by == "invoke"


def test_an_environment_of_lambda_has_a_small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")

    assert Settings.load().pool_max_size == 4
    assert Settings.load(pool_max_size=7).pool_max_size == 7
    monkeypatch.setenv("SLACKWATER_POOL_MAX_SIZE", "3")
    assert Settings.load().pool_max_size == 3


def test_on_lambda_nothing_is_served_to_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    Settings.load().check_lambda()  # here `check_bind` is the rule
    Settings.load(api_keys_secret_arn="arn:x").check_bind("0.0.0.0")
    with pytest.raises(SettingsError):
        Settings.load(authorizer="jwt").check_bind("0.0.0.0")  # here nobody stands in front

    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    with pytest.raises(SettingsError, match="SLACKWATER_AUTHORIZER") as raised:
        Settings.load().check_lambda()
    assert "slackwater keys new" in raised.value.message
    Settings.load(api_keys=(KEY,)).check_lambda()
    Settings.load(api_keys_secret_arn="arn:x").check_lambda()
    Settings.load(authorizer="iam").check_lambda()


def test_a_secret_names_a_database_without_telling_more() -> None:
    settings = Settings.load(database_secret_arn="arn:aws:secretsmanager:eu-west-1:1:secret:db")

    assert settings.has_database
    assert settings.redacted_database() == "arn:aws:secretsmanager:eu-west-1:1:secret:db"
    assert not Settings.load().has_database
    with_place = Settings.load(database_uri="postgresql://proxy:5433/app", database_secret_arn="arn:x")
    assert with_place.redacted_database() == "proxy:5433/app"


def test_an_environment_that_forks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_MAX_CONCURRENCY", "4")
    Settings.load(api_keys=(KEY,)).check_lambda()  # it is nothing outside of Lambda

    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    with pytest.raises(SettingsError, match="AWS_LAMBDA_MAX_CONCURRENCY"):
        Settings.load(api_keys=(KEY,)).check_lambda()
