"""Accounts: registering, logging in, changing a password, and what ends sessions."""

from __future__ import annotations

from slackwater.identity.accounts.account import Device, Role
from slackwater.identity.accounts.service import Accounts

HERE = Device("203.0.113.5", "Firefox")
SECRET = "correct horse battery"


async def test_who_registers_is_logged_in_and_logs_in_again(accounts: Accounts) -> None:
    opened = await accounts.register("Maria@Example.com", SECRET, HERE)
    account = opened.account
    assert (account.email, account.role, account.needs_setup) == ("maria@example.com", Role.USER, False)
    assert account.owner == f"account:{account.user_id}"
    assert await accounts.find(opened.session_id) == (account, opened.expires_at)

    again = await accounts.login("MARIA@example.com", SECRET, HERE)
    assert again.session_id != opened.session_id
    assert again.account == account
