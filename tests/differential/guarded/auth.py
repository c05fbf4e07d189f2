"""One `Auth` object with a handler at every level and every kind of answer: who calls decides which.

A token is `Bearer NAME.SCENARIO`. Each handler tells what it was told, and does what `ROLES` has under the name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import told
from langgraph_sdk import Auth

auth = Auth()

Context = Auth.types.AuthContext


class Person:
    """A user that is an object, not a dict."""

    def __init__(self, identity: str, permissions: list[str], team: str) -> None:
        self.identity, self.permissions, self.team = identity, permissions, team

    def dict(self) -> dict[str, Any]:
        return {"identity": self.identity, "permissions": self.permissions, "team": self.team}


@auth.authenticate
async def authenticate(
    authorization: str | None,
    headers: dict[bytes, bytes],
    method: str,
    path: str,
    query_params: Any,
    scope: dict[str, Any],
    path_params: dict[str, str] | None = None,
    extra: str = "default",
) -> Any:
    scheme, _, token = (authorization or "").partition(" ")
    name, _, scenario = token.partition(".")
    if scheme == "Forbidden":
        raise Auth.exceptions.HTTPException(403, "not you")
    if scheme != "Bearer" or not scenario:
        raise Auth.exceptions.HTTPException(401, f"who are you, at {path}?")
    if headers.get(b"x-tell"):
        told.tell(
            scenario,
            resource="nothing",
            action="authenticate",
            method=method,
            path=path,
            query=dict(query_params),
            type=scope["type"],
            extra=extra,
            tell=headers[b"x-tell"].decode(),
        )
    identity = f"{name}-{scenario}"
    permissions = ["read"] if name == "reader" else ["read", "write", name]
    match name:
        case "word":
            return identity
        case "person":
            return Person(identity, permissions, "red")
        case "pair":
            return permissions, {"identity": identity, "team": "red"}
    team = "blue" if name in ("bob", "ben") else "red"
    return {
        "identity": identity,
        "display_name": name.title(),
        "permissions": permissions,
        "team": team,
        "org": {"name": "acme", "seats": 3},
        "tags": ["a", "b"],
    }


# What handlers answer, by the name of the user


def own(ctx: Context, value: dict[str, Any]) -> Any:
    """The example that everybody begins with."""
    value.setdefault("metadata", {})["owner"] = ctx.user.identity
    return {"owner": ctx.user.identity}


def own_only_written(ctx: Context, value: dict[str, Any]) -> Any:
    if ctx.action in ("create", "create_run"):
        value.setdefault("metadata", {})["owner"] = ctx.user.identity
        return None
    return {"owner": {"$eq": ctx.user.identity}}


def member(ctx: Context, value: dict[str, Any]) -> Any:
    return {"members": {"$contains": ctx.user.identity}}


def all_members(ctx: Context, value: dict[str, Any]) -> Any:
    return {"members": {"$contains": [ctx.user.identity, "everybody"]}}


def nested(ctx: Context, value: dict[str, Any]) -> Any:
    return {
        "$or": [
            {"owner": ctx.user.identity},
            {"$and": [{"team": {"$eq": "red"}}, {"public": True}]},
        ],
        "scenario": scenario_of(ctx),
    }


def both(ctx: Context, value: dict[str, Any]) -> Any:
    return {"$and": [{"team": "red"}, {"members": {"$contains": "x"}}], "scenario": scenario_of(ctx)}


def reads(ctx: Context, value: dict[str, Any]) -> Any:
    writes = ctx.action not in ("read", "search", "get", "list_namespaces")
    assert not writes or "write" in ctx.permissions, f"{ctx.user.identity} may only read"
    return {"team": "red", "scenario": scenario_of(ctx)}


def sees_all(ctx: Context, value: dict[str, Any]) -> Any:
    """All that is of the scenario: what is of others is none of its business."""
    if isinstance(value.get("metadata"), dict) and ctx.action in ("create", "create_run"):
        value["metadata"]["scenario"] = scenario_of(ctx)
    return {"scenario": scenario_of(ctx)}


def blind(ctx: Context, value: dict[str, Any]) -> Any:
    """May write, and read nothing."""
    return ctx.action not in ("read", "search", "get", "list_namespaces")


def unseeing(ctx: Context, value: dict[str, Any]) -> Any:
    """May write, and finds nothing."""
    return {"never": True} if ctx.action in ("read", "search") else None


def refuses(ctx: Context, value: dict[str, Any]) -> Any:
    return False


def asserts(ctx: Context, value: dict[str, Any]) -> Any:
    assert ctx.user.identity == ""


def teapot(ctx: Context, value: dict[str, Any]) -> Any:
    raise Auth.exceptions.HTTPException(418, f"no {ctx.action} of {ctx.resource}", {"x-pot": "short"})


def busy(ctx: Context, value: dict[str, Any]) -> Any:
    raise Auth.exceptions.HTTPException(429, headers={"retry-after": "7"})


def breaks(ctx: Context, value: dict[str, Any]) -> Any:
    raise RuntimeError("a secret")


def nonsense(ctx: Context, value: dict[str, Any]) -> Any:
    return "yes"


def empty(ctx: Context, value: dict[str, Any]) -> Any:
    return {}


def alone(ctx: Context, value: dict[str, Any]) -> Any:
    return {"$or": [{"owner": ctx.user.identity}]}


def deep(ctx: Context, value: dict[str, Any]) -> Any:
    inner = {"$or": [{"$and": [{"$or": [{"a": 1}, {"b": 1}]}, {"c": 1}]}, {"d": 1}]}
    return {"$and": [inner, {"e": 1}]}


def changes(ctx: Context, value: dict[str, Any]) -> Any:
    """What a handler may change of a request."""
    if isinstance(value.get("metadata"), dict):
        value["metadata"] |= {"owner": ctx.user.identity, "changed": ctx.action}
    if ctx.action == "create_run":
        config = value["kwargs"].setdefault("config", {})
        config.setdefault("configurable", {}).update(model="small", user_id="set")
        config.setdefault("tags", []).append("changed")
        if isinstance(value["kwargs"].get("input"), dict):
            value["kwargs"]["input"]["text"] = "changed"
    for part in ("config", "context"):
        if isinstance(value.get(part), dict):
            value[part]["changed"] = ctx.action
    if isinstance(value.get("payload"), dict) and isinstance(value["payload"].get("input"), dict):
        value["payload"]["input"]["text"] = "changed"
    return {"owner": ctx.user.identity}


ROLES: dict[str, Callable[[Context, dict[str, Any]], Any]] = {
    "alice": own,
    "bob": own,
    "word": own,
    "person": own,
    "pair": own,
    "carol": own_only_written,
    "ann": member,
    "ben": member,
    "lead": all_members,
    "nested": nested,
    "both": both,
    "reader": reads,
    "admin": sees_all,
    "blind": blind,
    "unseeing": unseeing,
    "refused": refuses,
    "asserted": asserts,
    "teapot": teapot,
    "busy": busy,
    "broken": breaks,
    "nonsense": nonsense,
    "empty": empty,
    "alone": alone,
    "deep": deep,
    "changer": changes,
}


def scenario_of(ctx: Context) -> str:
    return ctx.user.identity.partition("-")[2]


def answer(level: str, ctx: Context, value: dict[str, Any]) -> Any:
    name, _, scenario = ctx.user.identity.partition("-")
    told.tell(
        scenario,
        level=level,
        resource=ctx.resource,
        action=ctx.action,
        permissions=ctx.permissions,
        who=[ctx.user.identity, ctx.user.display_name, ctx.user.is_authenticated],
        value=value,
    )
    return ROLES[name](ctx, value)


@auth.on
async def everything(ctx: Context, value: dict[str, Any]) -> Any:
    return answer("everything", ctx, value)


@auth.on(actions="delete")
async def every_delete(ctx: Context, value: dict[str, Any]) -> Any:
    return answer("every delete", ctx, value)


@auth.on.threads
async def every_thread(ctx: Context, value: dict[str, Any]) -> Any:
    return answer("threads", ctx, value)


@auth.on.threads.create
async def new_thread(ctx: Context, value: Auth.types.on.threads.create.value) -> Any:
    return answer("threads create", ctx, value)


@auth.on.threads.create_run
async def new_run(ctx: Context, value: Auth.types.on.threads.create_run.value) -> Any:
    return answer("threads create_run", ctx, value)


@auth.on(resources=["assistants", "crons"], actions=["read", "search"])
async def seen(ctx: Context, value: dict[str, Any]) -> Any:
    return answer("assistants and crons, read and search", ctx, value)


@auth.on.crons.create
async def new_cron(ctx: Context, value: Auth.types.on.crons.create.value) -> Any:
    return answer("crons create", ctx, value)


def scoped(ctx: Context, value: dict[str, Any]) -> None:
    namespace = tuple(value["namespace"]) if value.get("namespace") else ()
    if not namespace or namespace[0] != ctx.user.identity:
        namespace = (ctx.user.identity, *namespace)
    value["namespace"] = namespace


@auth.on.store
async def stored(ctx: Context, value: dict[str, Any]) -> Any:
    found = answer("store", ctx, value)
    scoped(ctx, value)
    return found


@auth.on.store.put
async def put(ctx: Context, value: Auth.types.on.store.put.value) -> Any:
    found = answer("store put", ctx, value)
    scoped(ctx, value)
    return found
