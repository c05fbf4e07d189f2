"""Accounts beside the other ways to say who calls, and below a prefix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from support.api import Api
from support.page import AUTH, PASSWORD

from slackwater.errors import SettingsError
from slackwater.identity.accounts.account import Device, Opened
from slackwater.settings import Settings

Serve = Callable[..., Any]
ON = {"accounts": True, "setup": "open"}


async def registered(api: Api) -> Opened:
    assert api.services.accounts is not None
    email = f"{uuid4().hex}@example.org"
    return await api.services.accounts.register(email, PASSWORD, Device("203.0.113.9"))


async def token_of(api: Api, opened: Opened) -> str:
    assert api.services.sessions is not None
    return (await api.services.sessions.issue(opened)).token


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_with_accounts_nobody_is_let_in_for_being_on_this_machine(serve: Serve) -> None:
    async with serve(**ON) as api:
        for peer in ("127.0.0.1", "203.0.113.9"):
            http = api.client(peer=peer, host="agents.example.org")
            answer = await http.post("/threads/search", json={})
            assert (answer.status_code, answer.json()["detail"]["code"]) == (401, "not_authenticated")
            assert (await http.get(f"{AUTH}/setup-status")).status_code == 200
        # Without keys, a header that means another server's is nobody's
        stray = bearer(await token_of(api, await registered(api))) | {"x-api-key": "lsv2_of_another"}
        assert (await api.client().get(f"{AUTH}/me", headers=stray)).status_code == 200


async def test_a_key_counts_before_a_session(serve: Serve) -> None:
    async with serve(**ON, names=("alice",)) as api:
        token = await token_of(api, await registered(api))
        both = {"cookie": f"access_token={token}", "x-api-key": api.secrets["alice"]}
        http = api.client()
        thread = (await http.post("/threads", json={}, headers=both)).json()["thread_id"]
        assert (await api.client("alice").get(f"/threads/{thread}")).status_code == 200
        assert (await http.get(f"/threads/{thread}", headers=bearer(token))).status_code == 404
        wrong = await http.get(f"{AUTH}/me", headers=both | {"x-api-key": "sw_wrong"})
        assert (wrong.status_code, wrong.json()) == (
            401,
            {"detail": "Send a valid key in the x-api-key header."},
        )
        # A key has no account; one that may do everything administers those of others
        assert (await api.client("alice").get(f"{AUTH}/me")).status_code == 403
        (user,) = (await api.client("alice").get(f"{AUTH}/users")).json()
        change = await api.client("alice").patch(f"{AUTH}/users/{user['id']}", json={"disabled": True})
        assert (change.status_code, change.json()["disabled"]) == (200, True)


async def test_the_projects_own_auth_is_asked_for_whoever_has_not_logged_in(
    serve: Serve, project: Callable[..., Path]
) -> None:
    async with serve(**ON, project=project()) as api:
        http = api.client()
        mine = bearer(await token_of(api, await registered(api)))
        assert (await http.get(f"{AUTH}/me", headers=mine)).status_code == 200
        thread = (await http.post("/threads", json={}, headers=mine)).json()["thread_id"]
        assert (await http.get(f"/threads/{thread}", headers=bearer("bob"))).status_code == 404
        assert (await http.post("/threads", json={}, headers=bearer("bob"))).status_code == 200
        assert (await http.get(f"{AUTH}/me", headers=bearer("bob"))).status_code == 403
        refused = await http.get(f"/threads/{thread}", headers=bearer("4"))
        assert (refused.status_code, refused.json()["detail"]) == (401, "who are you?")


@pytest.mark.parametrize("prefix", ["/api", "/agents"])
async def test_pages_find_accounts_where_they_are_whatever_the_prefix_is(serve: Serve, prefix: str) -> None:
    async with serve(**ON, mount_prefix=prefix) as api:
        mine = bearer(await token_of(api, await registered(api)))
        http = api.client()
        assert (await http.get(f"{AUTH}/setup-status")).json()["needs_setup"] is True
        assert (await http.get(f"{AUTH}/me", headers=mine)).status_code == 200
        assert (await http.get(f"{AUTH}/me")).status_code == 401
        assert (await http.post(f"{prefix}/threads/search", json={}, headers=mine)).json() == []
        # Where `slackwater users setup` of a server with a prefix leads to
        assert (await http.get(f"{prefix}{AUTH}/setup-status")).status_code == 200


async def test_who_ends_their_own_session_is_not_cut_off_for_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the change of the password and the answer, which has the next session in it."""
    async with serve(**ON) as api:
        opened = await registered(api)
        sessions = api.services.sessions
        assert sessions is not None
        watched: list[Any] = []
        issue = sessions.issue

        async def issue_and_look(opened: Opened) -> Any:
            watched.append(dict(sessions.valid._open))
            return await issue(opened)

        issued = await issue(opened)
        monkeypatch.setattr(sessions, "issue", issue_and_look)
        answer = await api.client().post(
            f"{AUTH}/change-password",
            json={"current_password": PASSWORD, "new_password": "staple horse correct"},
            headers={"cookie": f"access_token={issued.token}", "x-csrf-token": issued.csrf},
        )
        assert (answer.status_code, watched) == (200, [{}])


async def test_a_last_administrator_stays_one(serve: Serve) -> None:
    async with serve(**ON, names=("root",)) as api:
        http, root = api.client(), api.client("root")
        body = {"email": "maria@example.org", "password": PASSWORD}
        admin = (await http.post(f"{AUTH}/initialize", json=body)).json()
        path = f"{AUTH}/users/{admin['id']}"
        for change in ({"disabled": True}, {"role": "user"}, {"role": "user", "disabled": True}):
            answer = await root.patch(path, json=change)
            assert answer.status_code == 409, change
        other = await registered(api)
        assert (
            await root.patch(f"{AUTH}/users/{other.account.user_id}", json={"role": "admin"})
        ).status_code == 200
        assert (await root.patch(path, json={"role": "user", "disabled": True})).status_code == 200
        rows = await api.database.fetch(
            "select action, subject, actor, detail from slackwater.audit where action like 'user.%' order by action"
        )
        assert [(row["action"], row["actor"]) for row in rows] == [
            ("user.disabled", "root"),
            ("user.registered", other.account.owner),
            ("user.role_changed", "root"),
            ("user.role_changed", "root"),
        ]


def test_a_server_with_accounts_may_be_reached_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for accounts in (True, False):
        settings = Settings.load(accounts=accounts)
        assert settings.loopback_only is not accounts
        if accounts:
            settings.check_bind("0.0.0.0")
        else:
            with pytest.raises(SettingsError):
                settings.check_bind("0.0.0.0")
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")
    Settings.load(accounts=True).check_lambda()
    with pytest.raises(SettingsError):
        Settings.load().check_lambda()


async def test_a_card_names_all_that_a_caller_may_show(serve: Serve) -> None:
    async with serve(names=("alice",), accounts=True) as api:
        card = (await api.client("alice").get("/a2a/chat")).json()
    assert card["security"] == [{"apiKey": []}, {"bearer": []}]
    assert card["securityRequirements"] == [
        {"schemes": {name: {"list": []}}} for name in ("apiKey", "bearer")
    ]
    assert card["securitySchemes"]["bearer"]["scheme"] == "bearer"
