"""`slackwater users`, and what `slackwater owners` does with a user."""

from __future__ import annotations

import json

from people import HERE, MARIA, SECRET, Command, caught

from slackwater.identity.accounts.account import Role
from slackwater.identity.accounts.errors import WrongCredentials
from slackwater.identity.accounts.service import Accounts


async def test_users_are_made_listed_disabled_and_given_another_password(
    command: Command, accounts: Accounts
) -> None:
    assert "No users." in (await command("users", "list")).out
    made = await command("users", "create", "Maria@example.com", "--admin")
    password = next(line.strip() for line in made.out.splitlines() if line.startswith("  "))
    opened = await accounts.login(MARIA, password, HERE)
    assert f"belong to {opened.account.owner}" in made.out
    assert (opened.account.role, opened.account.needs_setup) == (Role.ADMIN, True)

    bob = (await command("users", "create", "bob@example.com", "--json")).json
    assert (bob["role"], bob["email"], bob["needs_setup"]) == ("user", "bob@example.com", True)
    assert (await accounts.login("bob@example.com", bob["password"], HERE)).account.owner == bob["owner"]
    again = await command("users", "create", "BOB@example.com")
    assert (again.code, again.sentence) == (1, "Email already registered.")
    assert (await command("users", "create", "bob")).code == 2

    assert (await command("users", "disable", "Bob@example.com")).out == "Disabled: bob@example.com\n"
    rows = (await command("users", "list", "--json")).json
    assert [(row["email"], row["sessions"], row["disabled_at"] is None) for row in rows] == [
        (MARIA, 1, True),
        ("bob@example.com", 0, False),
    ]
    assert not {"password", "token_version"} & rows[0].keys()
    shown = (await command("users", "list")).out
    assert "to choose a password" in shown
    assert "disabled 2" in shown
    assert (await command("users", "enable", "bob@example.com", "--json")).json["disabled"] is False

    reset = (await command("users", "reset", MARIA, "--json")).json
    assert await accounts.find(opened.session_id) is None
    assert (await accounts.login(MARIA, reset["password"], HERE)).account.needs_setup
    for act in ("reset", "disable", "enable"):
        unknown = await command("users", act, "nobody@example.com")
        assert (unknown.code, unknown.sentence) == (1, "there is no user nobody@example.com.")


async def test_the_owner_of_an_account_is_exported_and_erased_with_it(
    command: Command, accounts: Accounts
) -> None:
    opened = await accounts.register(MARIA, SECRET, HERE)
    other = await accounts.external("idp", "1", "bob@example.com", HERE, provision=True)
    exported = await command("owners", "export", other.account.owner)
    rows = [json.loads(line) for line in exported.out.splitlines()]
    tables = {row["table"]: row["row"] for row in rows[:-1]}
    assert tables["users"]["email"] == "bob@example.com"
    assert tables["external_identities"]["subject"] == "1"
    assert tables["sessions"]["session_id"] == str(other.session_id)
    exported = await command("owners", "export", opened.account.owner)
    assert "argon2" not in exported.out

    erased = await command("owners", "erase", opened.account.owner, "--yes", "--json")
    assert erased.json["erased"]["users"] == 1
    assert await accounts.find(opened.session_id) is None
    assert await caught(accounts.login(MARIA, SECRET, HERE)) is WrongCredentials
    assert await accounts.find(other.session_id) is not None
    assert (await accounts.register(MARIA, SECRET, HERE)).account.user_id != opened.account.user_id
