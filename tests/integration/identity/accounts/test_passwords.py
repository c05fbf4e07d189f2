"""Passwords: what hashes they are compared with, how much work that is, and how much of it at once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
from collections.abc import AsyncIterator
from typing import Any

import bcrypt
import pytest
from people import HERE, MARIA, OTHER, SECRET, MakeAccounts, caught
from pwdlib.hashers.argon2 import Argon2Hasher

from slackwater.identity.accounts import passwords as module
from slackwater.identity.accounts import service
from slackwater.identity.accounts.errors import PasswordsCrowded, WrongCredentials
from slackwater.identity.accounts.passwords import Passwords
from slackwater.identity.accounts.service import Accounts
from slackwater.postgres.pool import Database

SALT = bcrypt.gensalt(4)


def v2(password: str) -> str:
    return (
        "$dfv2$" + bcrypt.hashpw(base64.b64encode(hashlib.sha256(password.encode()).digest()), SALT).decode()
    )


def bare(password: str) -> str:
    return bcrypt.hashpw(password.encode()[:72], SALT).decode()


def v1(password: str) -> str:
    return "$dfv1$" + bare(password)


def weak(password: str) -> str:
    return Argon2Hasher(time_cost=1, memory_cost=1024, parallelism=2).hash(password)


class Work:
    """What Argon2 was asked to do: `hash`, or `verify` with these parameters."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.at_once = self.most = 0
        self._lock = threading.Lock()
        for name in ("hash", "verify"):
            monkeypatch.setattr(Argon2Hasher, name, self._counting(name, getattr(Argon2Hasher, name)))

    def _counting(self, name: str, real: Any) -> Any:
        def counted(hasher: Argon2Hasher, password: bytes, *more: Any) -> Any:
            with self._lock:
                self.done.append(" ".join([name, *(str(each).split("$")[3] for each in more)]))
                self.at_once += 1
                self.most = max(self.most, self.at_once)
            try:
                return real(hasher, password, *more)
            finally:
                with self._lock:
                    self.at_once -= 1

        return counted

    def taken(self) -> list[str]:
        done, self.done = self.done, []
        return done


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


@pytest.fixture
async def passwords() -> AsyncIterator[Passwords]:
    passwords = Passwords()
    await passwords.warm()
    yield passwords
    passwords.close()


async def test_a_hash_is_salted_and_says_with_what_it_was_made(passwords: Passwords) -> None:
    one, other = await passwords.hash(SECRET), await passwords.hash(SECRET)
    assert one != other
    assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    for stored in (one, other):
        assert (await passwords.verify(SECRET, stored)) == module.Verdict(True)
        assert not (await passwords.verify(OTHER, stored)).matches


@pytest.mark.parametrize("kind", [v2, v1, bare, weak])
async def test_an_older_hash_is_replaced_by_the_next_login(
    accounts: Accounts, database: Database, kind: Any
) -> None:
    long = SECRET + "x" * 80
    await accounts.register(MARIA, long, HERE)
    await database.execute("update slackwater.users set password = %s", [kind(long)])
    assert await caught(accounts.login(MARIA, OTHER, HERE)) is WrongCredentials

    # Two at the same time are both right, although each sees the other's new hash.
    assert await asyncio.gather(*(caught(accounts.login(MARIA, long, HERE)) for _ in range(2))) == [None] * 2

    (row,) = await database.fetch("select password, token_version from slackwater.users")
    assert row["password"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert row["token_version"] == 0  # no session has ended
    assert await caught(accounts.login(MARIA, long, HERE)) is None
    assert await database.fetch("select password from slackwater.users") == [{"password": row["password"]}]


@pytest.mark.parametrize(
    "stored",
    [
        *(
            "",
            "x",
            "$",
            "plain",
            "$argon2id$",
            "$argon2id$v=19$m=19456,t=2,p=1$",
            "$argon2id$v=19$m=1,t=1,p=1$a$b",
        ),
        *(
            "$dfv2$",
            "$dfv2$x",
            "$dfv2$plain",
            "$dfv1$",
            "$2b$",
            "$2b$12$short",
            "$dfv2$$argon2id$",
            "$dfv3$x",
        ),
        "$argon2id$v=19$m=19456,t=2,p=1$" + "é" * 22 + "$" + "é" * 43,
        "$2b$99$" + "a" * 53,
        "$2b$04$" + "!" * 53,
        None,
    ],
)
async def test_what_is_no_hash_is_no_password_and_no_error(passwords: Passwords, stored: str | None) -> None:
    for password in (SECRET, "", stored or "x"):
        assert await passwords.verify(password, stored) == module.NO


@pytest.mark.parametrize("kind", [v2, v1, bare, weak])
async def test_an_empty_password_is_none_also_where_somebody_has_stored_its_hash(
    passwords: Passwords, kind: Any
) -> None:
    assert await passwords.verify("", kind("")) == module.NO


async def test_no_user_costs_the_same_work_as_a_wrong_password(
    accounts: Accounts, database: Database, work: Work
) -> None:
    await accounts.warm()
    await accounts.register(MARIA, SECRET, HERE)
    await accounts.register("gone@example.com", SECRET, HERE)
    await service.set_disabled(database, "gone@example.com", True)
    await accounts.external("idp", "1", "elsewhere@example.com", HERE, provision=True)
    work.taken()
    wrong = [
        (MARIA, OTHER),
        (MARIA, ""),
        (MARIA, "x" * 2000),
        ("nobody@example.com", SECRET),
        ("no address", SECRET),
        ("gone@example.com", SECRET),
        ("elsewhere@example.com", SECRET),
    ]
    for number, (email, password) in enumerate(wrong):
        device = HERE.__class__(f"198.51.100.{number}")
        assert await caught(accounts.login(email, password, device)) is WrongCredentials
        assert work.taken() == ["verify m=19456,t=2,p=1"], email


async def test_the_first_login_of_a_process_costs_no_more_for_a_user_who_is_there(
    made: MakeAccounts, work: Work
) -> None:
    await made().register(MARIA, SECRET, HERE)
    costs = []
    for number, email in enumerate((MARIA, "nobody@example.com")):
        work.taken()
        await caught(made().login(email, OTHER, HERE.__class__(f"198.51.100.{number}")))
        costs.append(work.taken())
    assert costs[0] == costs[1]


async def test_a_locked_account_costs_no_work(accounts: Accounts, work: Work) -> None:
    for _ in range(5):
        await caught(accounts.login(MARIA, OTHER, HERE))
    work.taken()
    await caught(accounts.login(MARIA, SECRET, HERE))
    assert work.taken() == []


async def test_only_a_few_are_hashed_at_once_and_only_some_may_wait(
    accounts: Accounts, work: Work, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 6)
    await accounts.warm()
    results = await asyncio.gather(
        *(
            caught(accounts.login(f"u{n}@example.com", OTHER, HERE.__class__(f"192.0.2.{n}")))
            for n in range(10)
        )
    )
    assert sorted(map(str, results)) == sorted(map(str, [WrongCredentials] * 6 + [PasswordsCrowded] * 4))
    assert work.most <= module.AT_ONCE
    # Whoever was sent away has not lost a try, and there is room again.
    rows = await database.fetch("select 1 from slackwater.login_attempts where kind = 'account'")
    assert len(rows) == 6
    assert await caught(accounts.login("u9@example.com", OTHER, HERE)) is WrongCredentials
    assert (PasswordsCrowded().status, PasswordsCrowded.headers) == (503, {"Retry-After": "1"})


async def test_whoever_leaves_while_they_wait_leaves_their_place(
    accounts: Accounts, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    await accounts.warm()
    for n in range(5):
        login = asyncio.create_task(
            accounts.login(f"u{n}@example.com", OTHER, HERE.__class__(f"192.0.2.{n}"))
        )
        await asyncio.sleep(0)
        login.cancel()
        await asyncio.wait({login})
    assert await caught(accounts.login(MARIA, OTHER, HERE)) is WrongCredentials
