"""What a key may do: each permission needs one scope, and a page says which request needs which."""

from __future__ import annotations

from contextlib import suppress

import pytest

from scripts import permissions
from slackwater.errors import Forbidden
from slackwater.identity.accounts.account import Role
from slackwater.identity.permissions import Permission
from slackwater.identity.principal import Principal
from slackwater.identity.scopes import KeyScope, granted
from slackwater.identity.sessions import scopes_of
from slackwater.kit.ids import uuid7


def allowed(*scopes: KeyScope) -> set[Permission]:
    """What a key with these scopes may do."""
    return allowed_to(Principal("alice", scopes=granted(scopes)))


def allowed_to(principal: Principal) -> set[Permission]:
    found = set()
    for permission in Permission:
        with suppress(Forbidden):
            principal.require(permission)
            found.add(permission)
    return found


def test_who_is_refused_is_told_which_scope_they_need() -> None:
    with pytest.raises(Forbidden, match="'metrics'"):
        Principal("alice", scopes=granted([KeyScope.RUN])).require(Permission.METRICS_READ)


def test_a_key_that_reads_changes_nothing() -> None:
    assert {permission.action for permission in allowed(KeyScope.READ)} == {"read"}
    assert Permission.METRICS_READ not in allowed(KeyScope.READ)


def test_a_key_that_runs_does_all_but_what_concerns_others() -> None:
    others = {Permission.METRICS_READ, *(p for p in Permission if p.action == "manage")}
    assert allowed(KeyScope.RUN) == set(Permission) - others


def test_a_key_for_metrics_is_for_nothing_else() -> None:
    assert allowed(KeyScope.METRICS) == {Permission.METRICS_READ}
    assert allowed(KeyScope.METRICS, KeyScope.READ) == allowed(KeyScope.READ) | {Permission.METRICS_READ}


def test_an_administrator_does_everything() -> None:
    assert allowed(KeyScope.ADMIN) == set(Permission)


def logged_in(role: Role) -> Principal:
    return Principal("account:alice", scopes=scopes_of(role), session_id=uuid7())


@pytest.mark.parametrize(("role", "scope"), [(Role.USER, KeyScope.RUN), (Role.ADMIN, KeyScope.ADMIN)])
def test_who_is_logged_in_does_what_a_key_does(role: Role, scope: KeyScope) -> None:
    assert allowed_to(logged_in(role)) == allowed(scope)


def test_a_user_is_told_that_it_is_for_administrators() -> None:
    with pytest.raises(Forbidden, match="administrators"):
        logged_in(Role.USER).require(Permission.ACCOUNTS_MANAGE)


@pytest.mark.parametrize("permission", Permission)
def test_each_names_a_resource_and_an_action(permission: Permission) -> None:
    assert f"{permission.resource}:{permission.action}" == permission.value
    assert permission.name == f"{permission.resource}_{permission.action}".upper()


def test_the_page_has_the_table_of_the_routes() -> None:
    assert permissions.DOCUMENT.read_text() == permissions.text(), "python -m scripts.permissions"
    assert permissions.table() in permissions.text()
