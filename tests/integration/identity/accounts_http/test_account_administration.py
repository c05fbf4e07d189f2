"""What administrators may do, and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support.page import AUTH, Page

from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database

Open = Callable[..., Page]


async def administrator(page: Open, database: Database) -> Page:
    one = page()
    await one.register()
    await database.execute("update slackwater.users set role = 'admin' where email = %s", [one.email])
    await one.login()
    return one


async def listed(one: Page, email: str) -> dict[str, Any]:
    answer = await one.get(f"{AUTH}/users")
    assert answer.status_code == 200
    (found,) = [user for user in answer.json() if user["email"] == email]
    return dict(found)


async def test_users_are_the_affair_of_administrators(page: Open, database: Database) -> None:
    one, user = await administrator(page, database), page()
    shown = (await user.register()).json()
    path = f"{AUTH}/users/{shown['id']}"
    assert (await user.get(f"{AUTH}/users")).status_code == 403
    assert (await user.call("PATCH", path, json={"role": "admin"})).status_code == 403
    assert (await user.get("/metrics")).status_code == 403
    assert await listed(one, user.email) == {**shown, "disabled": False}
    assert (await one.get("/metrics")).status_code == 200


async def test_a_disabled_user_is_refused_until_they_are_let_in_again(page: Open, database: Database) -> None:
    one, user = await administrator(page, database), page()
    shown = (await user.register()).json()
    path = f"{AUTH}/users/{shown['id']}"
    assert (await user.me()).status_code == 200  # which the process knows now
    answer = await one.call("PATCH", path, json={"disabled": True})
    assert (answer.status_code, answer.json()) == (200, {**shown, "disabled": True})
    assert (await user.me()).status_code == 401
    # They are refused like somebody who is not there
    assert (await page().login(email=user.email)).status_code == 401
    assert (await one.call("PATCH", path, json={"disabled": False})).json()["disabled"] is False
    assert (await user.login()).status_code == 200


async def test_a_role_is_given_and_taken_away(page: Open, database: Database) -> None:
    one, user = await administrator(page, database), page()
    shown = (await user.register()).json()
    path = f"{AUTH}/users/{shown['id']}"
    assert (await user.get(f"{AUTH}/users")).status_code == 403
    assert (await one.call("PATCH", path, json={"role": "admin"})).json()["system_role"] == "admin"
    # The process that was told knows it at once
    assert (await user.get(f"{AUTH}/users")).status_code == 200
    assert (await one.call("PATCH", path, json={"role": "user"})).json()["system_role"] == "user"
    assert (await user.get(f"{AUTH}/users")).status_code == 403
    for wrong in ({"role": "root"}, {"disabled": "yes"}):
        assert (await one.call("PATCH", path, json=wrong)).status_code == 422
    assert (await one.call("PATCH", f"{AUTH}/users/{uuid7()}", json={"disabled": True})).status_code == 404
