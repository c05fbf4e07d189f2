"""What a page does, from its first call to its last, and what every answer says, field by field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pwdlib.hashers.bcrypt import BcryptHasher
from support.page import AUTH, PASSWORD, Page, cookies_of

from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database

Open = Callable[..., Page]
WEEK = 7 * 86_400


def detail(answer: httpx.Response) -> Any:
    return answer.json()["detail"]


def code(answer: httpx.Response) -> tuple[int, str]:
    """The status, and the code by which the page knows the error."""
    said = detail(answer)
    assert said.keys() == {"code", "message"}
    return answer.status_code, said["code"]


# Cookies


async def test_registering_logs_in_by_a_cookie_that_no_script_reads(page: Open) -> None:
    """A3: over plain HTTP neither Secure nor Max-Age; the token is in no body."""
    one = page()
    answer = await one.register()
    assert answer.status_code == 201
    body = answer.json()
    assert list(body) == ["id", "email", "system_role", "needs_setup"]
    assert (body["email"], body["system_role"], body["needs_setup"]) == (one.email, "user", False)
    cookies = cookies_of(answer)
    assert cookies.keys() == {"access_token", "csrf_token"}
    assert cookies["access_token"].attributes == {"httponly": True, "path": "/", "samesite": "lax"}
    assert cookies["csrf_token"].attributes == {"path": "/", "samesite": "strict"}
    assert cookies["access_token"].value not in answer.text
    assert cookies["csrf_token"].value not in answer.text
    assert answer.headers["cache-control"] == "no-store"


async def test_over_tls_both_cookies_are_secure_and_last_as_long_as_the_session(page: Open) -> None:
    """A3, and their later fix of a CSRF cookie that was forgotten before the session was."""
    one = page(**{"x-forwarded-proto": "https"})
    answers = [await one.register(), await one.login()]
    for answer in answers:
        cookies = cookies_of(answer)
        ages = {name: int(cookie.attributes["max-age"]) for name, cookie in cookies.items()}
        assert ages["access_token"] == ages["csrf_token"]
        assert 0 <= WEEK - ages["access_token"] < 60
        for cookie in cookies.values():
            assert cookie.attributes["secure"] is True


async def test_a_page_that_changes_the_password_gets_both_cookies_anew(page: Open) -> None:
    """A5: the old cookie is refused, the new one works."""
    one = page()
    await one.register()
    old = one.cookie("access_token")
    assert old is not None
    answer = await one.change_password("staple horse correct")
    assert (answer.status_code, list(answer.json())) == (200, ["message"])
    assert cookies_of(answer).keys() == {"access_token", "csrf_token"}
    assert (await one.me()).status_code == 200
    assert (await one.post("/threads", {})).status_code == 200  # with the new CSRF token
    refused = await page().me(headers={"cookie": f"access_token={old}"})
    assert code(refused) == (401, "token_invalid")
    assert code(await page().login(email=one.email)) == (401, "invalid_credentials")
    assert (await page().login("staple horse correct", one.email)).status_code == 200


async def test_a_change_of_the_password_ends_the_sessions_of_other_browsers_at_once(page: Open) -> None:
    one, other = page(), page()
    await one.register()
    await other.login(email=one.email)
    assert (await other.me()).status_code == 200  # which the process knows now
    await one.change_password("staple horse correct")
    assert (await other.me()).status_code == 401


# Logging in


async def test_logging_in(page: Open) -> None:
    one = page()
    await one.register()
    other = page()
    answer = await other.login(email=one.email)
    assert (answer.status_code, list(answer.json())) == (200, ["expires_in", "needs_setup"])
    assert 0 <= WEEK - answer.json()["expires_in"] < 60
    assert answer.json()["needs_setup"] is False
    assert cookies_of(answer).keys() == {"access_token", "csrf_token"}
    # AND whatever the case of the letters, as people type addresses
    assert (await page().login(email=one.email.upper())).status_code == 200


async def test_who_is_refused_is_told_so_by_a_code(page: Open) -> None:
    """A7"""
    one = page()
    await one.register()
    assert code(await page().login("wrong password", one.email)) == (401, "invalid_credentials")
    unknown = await page().login("wrong password")
    assert code(unknown) == (401, "invalid_credentials")
    assert code(
        await page().call("POST", f"{AUTH}/register", json={"email": one.email, "password": PASSWORD})
    ) == (
        400,
        "email_already_exists",
    )
    refused = await one.change_password("staple horse correct", current="wrong password")
    assert code(refused) == (400, "invalid_credentials")
    other = page()
    await other.register()
    taken = await other.change_password("staple horse correct", new_email=one.email)
    assert code(taken) == (400, "email_already_exists")
    assert (await other.me()).json()["email"] == other.email


@pytest.mark.parametrize("weak", ["short", "password", "PassWord1", "QWERTY123"])
async def test_weak_passwords_are_refused_in_a_way_that_the_page_can_show(page: Open, weak: str) -> None:
    """A8: on register and change-password, in any letter case."""
    one = page()
    changing = page()
    await changing.register()
    for answer in (await one.register(weak), await changing.change_password(weak)):
        assert answer.status_code == 422
        (first, *_) = detail(answer)
        assert first.keys() == {"type", "loc", "msg"}
        assert first["type"] == "value_error"
        assert all(isinstance(part, str) for part in first["loc"])
        assert first["msg"]
    assert (await one.login(weak)).status_code == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "a@example.org"}, "password"),
        ({"password": PASSWORD}, "email"),
        ({"email": 5, "password": PASSWORD}, "email"),
        ({"email": "nobody", "password": PASSWORD}, "email"),
        ({"email": "admin@localhost", "password": PASSWORD}, "email"),
        ([], "body"),
    ],
)
async def test_what_is_not_valid_is_shown_by_the_page(page: Open, body: Any, field: str) -> None:
    answer = await page().post(f"{AUTH}/register", body)
    assert answer.status_code == 422
    first = detail(answer)[0]
    assert (first["type"], first["loc"][-1]) == ("value_error", field)
    assert all(isinstance(part, str) for part in first["loc"])


async def test_a_form_without_its_fields_is_not_valid(page: Open) -> None:
    answer = await page().call("POST", f"{AUTH}/login/local", data={"username": "a@example.org"})
    assert (answer.status_code, detail(answer)[0]["loc"]) == (422, ["body", "password"])
    wrong = await page().call(
        "POST",
        f"{AUTH}/login/local",
        content=b"username=%ff&password=x",
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert wrong.status_code == 422


async def test_nobody_sends_much_before_it_is_known_who_they_are(page: Open) -> None:
    answer = await page().post(f"{AUTH}/register", {"email": "a" * 20_000, "password": PASSWORD})
    assert answer.status_code == 413


async def test_five_failures_lock_also_the_right_password_out(page: Open) -> None:
    """A9"""
    one, other = page(), page()
    await one.register()
    for _ in range(5):
        assert (await other.login("wrong password", one.email)).status_code == 401
    locked = await other.login(email=one.email)
    assert (locked.status_code, detail(locked)) == (429, "Too many login attempts. Try again later.")
    assert int(locked.headers["retry-after"]) > 0


async def test_a_success_before_that_clears_the_count(page: Open) -> None:
    """A9"""
    one, other = page(), page()
    await one.register()
    for _ in range(2):
        for _ in range(4):
            assert (await other.login("wrong password", one.email)).status_code == 401
        assert (await other.login(email=one.email)).status_code == 200


async def test_an_old_hash_is_replaced_when_its_user_logs_in(page: Open, database: Database) -> None:
    """A2"""
    one = page()
    await one.register()
    old = BcryptHasher(rounds=4).hash(PASSWORD)
    await database.execute("update slackwater.users set password = %s where email = %s", [old, one.email])
    assert (await page().login(email=one.email)).status_code == 200
    (row,) = await database.fetch("select password from slackwater.users where email = %s", [one.email])
    assert row["password"].startswith("$argon2id$")
    assert (await page().login(email=one.email)).status_code == 200


# Oneself


async def test_who_one_is(page: Open) -> None:
    one = page()
    registered = (await one.register()).json()
    answer = await one.me()
    assert (answer.status_code, answer.json()) == (200, registered)
    # As Next's server asks, which has only the cookie
    asked = await page().me(headers={"cookie": f"access_token={one.cookie('access_token')}"})
    assert asked.json() == registered


async def test_another_address_is_shown_at_once(page: Open) -> None:
    one = page()
    await one.register()
    assert (
        await one.change_password("staple horse correct", new_email="New." + one.email)
    ).status_code == 200
    assert (await one.me()).json()["email"] == f"new.{one.email}"


async def test_who_has_to_choose_a_password_does_so_with_an_address(page: Open, database: Database) -> None:
    """The page leads whoever `needs_setup` to the form of a new password and address."""
    one = page()
    await one.register()
    await database.execute("update slackwater.users set needs_setup = true where email = %s", [one.email])
    assert (await one.login()).json()["needs_setup"] is True
    assert (await one.me()).json()["needs_setup"] is True
    answer = await one.change_password("staple horse correct", new_email=one.email)
    assert answer.status_code == 200
    assert (await one.me()).json()["needs_setup"] is False


async def test_an_account_is_about_those_who_have_one(page: Open, database: Database) -> None:
    answer = await page().me()
    assert code(answer) == (401, "not_authenticated")


# Logging out


@pytest.mark.parametrize("how", ["fetch", "form"])
async def test_logging_out_ends_the_session_and_deletes_both_cookies(page: Open, how: str) -> None:
    one = page()
    await one.register()
    token = one.cookie("access_token")
    options: dict[str, Any] = {"data": {}} if how == "form" else {}
    answer = await one.logout(**options)
    assert (answer.status_code, list(answer.json())) == (200, ["message"])
    for name, cookie in cookies_of(answer).items():
        assert (name in ("access_token", "csrf_token"), cookie.value) == (True, "")
        assert int(cookie.attributes["max-age"]) == 0 if cookie.attributes.get("max-age") else True
    assert (one.cookie("access_token"), one.cookie("csrf_token")) == (None, None)
    # Who has stolen the token has nothing
    stolen = await page().me(headers={"cookie": f"access_token={token}"})
    assert code(stolen) == (401, "token_invalid")
    assert code(await page().me(headers={"authorization": f"Bearer {token}"})) == (401, "token_invalid")


async def test_logging_out_without_a_session_is_no_mistake(page: Open) -> None:
    assert (await page().logout()).status_code == 200
    junk = await page().logout(headers={"cookie": "access_token=junk"})
    assert (junk.status_code, len(cookies_of(junk))) == (200, 2)


# Sessions of several devices


async def test_one_sees_ones_sessions_and_ends_one_of_them(page: Open, database: Database) -> None:
    laptop, phone = page(**{"user-agent": "Laptop/1"}), page(**{"user-agent": "Phone/2"})
    await laptop.register()
    await phone.login(email=laptop.email)
    listed = (await laptop.get(f"{AUTH}/sessions")).json()
    assert [(each["user_agent"], each["current"]) for each in listed] == [
        ("Phone/2", False),
        ("Laptop/1", True),
    ]
    for each, one in zip(listed, (phone, laptop), strict=True):
        assert each["address"] == one.client.headers["x-real-ip"]
        assert each["created_at"] <= each["last_used_at"] < each["expires_at"]
    # Another's are not there
    other = page()
    await other.register()
    path = f"{AUTH}/sessions/{listed[0]['id']}"
    assert (await other.call("DELETE", path)).status_code == 404
    assert (await phone.me()).status_code == 200
    assert (await laptop.call("DELETE", path)).status_code == 204
    assert (await laptop.call("DELETE", path)).status_code == 404
    assert code(await phone.me()) == (401, "token_invalid")
    assert (await laptop.me()).status_code == 200
    assert (await laptop.call("DELETE", f"{AUTH}/sessions/{uuid7()}")).status_code == 404
    assert (await laptop.call("DELETE", f"{AUTH}/sessions/nothing")).status_code == 422
