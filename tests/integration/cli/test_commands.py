"""Help, keys, migrate: what needs no run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from support.command import Answer

from slackwater import __version__
from slackwater.identity.keys import ApiKey, find_owner
from slackwater.kit.ids import uuid7
from slackwater.postgres import schema
from slackwater.postgres.pool import Database

Slackwater = Callable[..., Answer]


def test_help_names_every_command_and_what_the_exit_codes_mean(slackwater: Slackwater) -> None:
    answer = slackwater("--help")

    assert answer.code == 0
    for command in ("serve", "migrate", "runs", "doctor", "keys", "limits"):
        assert f"│ {command} " in answer.out
    assert "4 a graph" in answer.out


def test_version(slackwater: Slackwater) -> None:
    assert slackwater("--version").out == f"slackwater {__version__}\n"


def test_an_unknown_command_and_no_command_at_all_are_wrong_arguments(slackwater: Slackwater) -> None:
    assert slackwater("swim").code == 2
    assert slackwater().code == 2


def test_a_new_key_opens_what_its_line_closes(slackwater: Slackwater) -> None:
    answer = slackwater("keys", "new", "alice")

    secret = re.search(r"sw_\S+", answer.out)
    line = re.search(r"SLACKWATER_API_KEYS=(\S+)", answer.out)
    assert answer.code == 0
    assert secret is not None
    assert line is not None
    assert find_owner([ApiKey.parse(line[1])], secret[0]) == "alice"
    assert secret[0] not in line[1]


def test_a_key_cannot_have_the_name_of_nobodys_owner(slackwater: Slackwater) -> None:
    for name in ("system", "local", "a b", ""):
        answer = slackwater("keys", "new", name)
        assert answer.code == 2
        assert "key name" in answer.sentence


async def test_migrate_shows_what_it_has_applied(slackwater: Slackwater, empty_database_uri: str) -> None:
    first = slackwater("migrate", "--database-uri", empty_database_uri)
    again = slackwater("migrate", "--json", SLACKWATER_DATABASE_URI=empty_database_uri)

    assert first.code == 0
    assert "applied 001_gateway\n" in first.out
    assert again.json == {"applied": []}
    database = Database(empty_database_uri, max_size=2, statement_seconds=5, name="test")
    await schema.check(database)


def test_migrate_takes_the_direct_connection(slackwater: Slackwater, empty_database_uri: str) -> None:
    answer = slackwater(
        "migrate",
        DATABASE_URI="postgresql://nobody@127.0.0.1:1/nothing",
        SLACKWATER_MIGRATION_DATABASE_URI=empty_database_uri,
    )

    assert answer.code == 0
    assert "applied 001_gateway\n" in answer.out


def test_a_database_that_is_not_there_is_one_sentence(slackwater: Slackwater) -> None:
    uri = "postgresql://me:s3cret@127.0.0.1:1/nothing"
    for command in (["migrate"], ["runs", "list"]):
        answer = slackwater(*command, "--database-uri", uri)
        assert answer.code == 3
        assert "127.0.0.1:1 cannot be used" in answer.sentence
        assert "s3cret" not in answer.err


def test_without_any_database_no_command_sets_one_up(slackwater: Slackwater) -> None:
    answer = slackwater("runs", "list")

    assert answer.code == 3
    assert "SLACKWATER_DATABASE_URI is not set" in answer.sentence


def test_a_wrong_setting_is_one_sentence_that_names_it(slackwater: Slackwater) -> None:
    answer = slackwater("runs", "list", SLACKWATER_LEASE_SECONDS="soon")

    assert answer.code == 2
    assert "SLACKWATER_LEASE_SECONDS" in answer.sentence


def test_keys_are_created_listed_and_revoked_by_commands(slackwater: Slackwater, database_uri: str) -> None:
    at = ("--database-uri", database_uri)
    created = json.loads(
        slackwater(
            "keys", "create", "alice", "--scope", "read", "--days", "30", "--note", "ci", "--json", *at
        ).out
    )
    assert created["secret"].startswith(created["prefix"])
    assert (created["owner"], created["scopes"], created["note"]) == ("alice", ["read"], "ci")
    listed = slackwater("keys", "list", *at).out
    assert created["key_id"] in listed
    assert created["secret"] not in listed
    assert "expires " in listed
    assert (
        f"Revoked: {created['prefix']}… of alice" in slackwater("keys", "revoke", created["key_id"], *at).out
    )
    assert "revoked " in slackwater("keys", "list", "--owner", "alice", *at).out
    assert slackwater("keys", "list", "--owner", "bob", *at).out == "No keys.\n"
    absent = slackwater("keys", "revoke", str(uuid7()), *at)
    assert (absent.code, "there is no key" in absent.err) == (1, True)
    wrong = slackwater("keys", "create", "system", *at)
    assert (wrong.code, "is reserved" in wrong.err) == (2, True)


def test_limits_are_set_listed_and_unset_by_commands(slackwater: Slackwater, database_uri: str) -> None:
    at = ("--database-uri", database_uri)
    assert slackwater("limits", "list", *at).out == "No limits.\n"
    made = slackwater("limits", "set", "alice", "--requests-per-minute", "30", *at)
    assert made.out == "alice: requests_per_minute 30\n"
    assert slackwater("limits", "set", "bob", "--requests-per-minute", "0", *at).code == 0
    assert slackwater("limits", "list", *at).out == (
        "alice: requests_per_minute 30\nbob: requests_per_minute without limit\n"
    )
    (shown,) = slackwater("limits", "list", "--owner", "alice", "--json", *at).json
    assert (shown["owner"], shown["requests_per_minute"]) == ("alice", 30)
    assert (
        slackwater("limits", "unset", "alice", "requests_per_minute", *at).out
        == "alice: as in the settings\n"
    )
    assert slackwater("limits", "list", "--owner", "alice", *at).out == "No limits.\n"
    absent = slackwater("limits", "unset", "alice", *at)
    assert (absent.code, "alice has no limits" in absent.err) == (1, True)
    for wrong in (
        ("set", "alice"),
        ("set", "alice", "--requests-per-minute", "-1"),
        ("unset", "alice", "apples"),
    ):
        assert slackwater("limits", *wrong, *at).code == 2
