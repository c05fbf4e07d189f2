"""Routes that are built when they are first asked for are the routes that there would have been."""

from __future__ import annotations

import re
from importlib import import_module

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from slackwater.identity.permissions import Permission
from slackwater.main import create_app
from slackwater.web.application import Application, methods_and_path
from slackwater.web.route_table import (
    FIXED,
    MODULES,
    OPTIONAL,
    TABLE,
    Feature,
    RouteWithoutRule,
    entry_of,
    modules_for,
    permission_of,
)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Application:
    """An application as on Lambda."""
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")
    monkeypatch.delenv("AWS_LAMBDA_INITIALIZATION_TYPE", raising=False)
    return create_app()


def paths(app: Application) -> set[str]:
    return set(app.openapi()["paths"])


def built(app: Application) -> set[str]:
    return {name.split(".")[-2] for name in app._built}


async def get(app: Application, path: str, method: str = "GET") -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.request(method, path)


def test_a_container_builds_them_all_at_its_start() -> None:
    assert built(create_app()) == {module.split(".")[-2] for module in MODULES.values()} - OPTIONAL.keys()


@pytest.mark.parametrize("kind", ["provisioned-concurrency", "snap-start"])
def test_so_does_an_environment_whose_start_nobody_waits_for(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", kind)

    assert built(create_app()) == {module.split(".")[-2] for module in MODULES.values()} - OPTIONAL.keys()


@pytest.mark.parametrize("features", [frozenset[Feature](), frozenset(Feature)])
async def test_where_all_are_built_requests_look_for_none(
    monkeypatch: pytest.MonkeyPatch, features: frozenset[Feature]
) -> None:
    app = create_app()
    app.serve(features)
    looked: list[str] = []
    monkeypatch.setattr("slackwater.web.route_table.modules_for", looked.append)

    await get(app, "/threads/x")

    assert looked == []


async def test_a_request_builds_those_of_its_resource(late: Application) -> None:
    assert built(late) == set()

    # Whatever comes of it: there is nobody behind the door.
    await get(late, "/health")
    assert built(late) == {"system"}
    await get(late, "/stage/threads/x")
    assert built(late) == {"system", "threads"}
    await get(late, "/assistants/search")
    assert built(late) == {"system", "threads", "assistants"}


async def test_the_runs_of_a_thread_need_no_routes_of_threads(late: Application) -> None:
    await get(late, "/threads/x/runs")
    assert built(late) == {"runs"}


async def test_they_are_the_same(late: Application) -> None:
    eager = paths(create_app())  # the document knows all of them, built or not

    assert (await get(late, "/health")).json() == {"status": "alive"}
    assert (await get(late, "/health", "DELETE")).status_code == 405
    assert set((await get(late, "/openapi.json")).json()["paths"]) == eager
    assert {"/threads/{thread_id}/runs", "/assistants/search", "/ok"} <= eager


def routes() -> list[APIRoute]:
    found = [route for module in MODULES.values() for route in import_module(module).router.routes]
    return [route for route in found if isinstance(route, APIRoute)]


def test_no_fixed_name_is_taken_for_an_id() -> None:
    by_id = [route for route in routes() if route.path.endswith("_id}")]
    for route in routes():
        name = route.path.rpartition("/")[2]
        if any(
            other.path_regex.match(route.path) for other in by_id if other is not route and "{" not in name
        ):
            assert name in FIXED, route.path


def test_every_route_is_found_by_its_path() -> None:
    """One that is not would answer 404 on Lambda only."""
    for module in MODULES.values():
        for route in import_module(module).router.routes:
            assert module in modules_for(route.path), route.path
            assert module in modules_for("/stage" + route.path), route.path


def shape(path: str) -> str:
    """A route's path as the table has it."""
    return re.sub(r"{[^}]+}", "*", path.replace("{path}", "**")).rstrip("/") or "/"


def test_each_route_has_a_rule_of_its_own_and_each_rule_a_route() -> None:
    app = create_app()
    app.serve(Feature)
    served = {
        (method, shape(path))
        for methods, path in map(methods_and_path, app.router.routes)
        for method in methods
    }
    ruled = {(method, entry.path) for entry in TABLE for method in entry.needs}
    public = {entry.path for entry in TABLE if entry.public}

    assert {(method, path) for method, path in served if path not in public} == ruled
    assert public <= {path for _, path in served}
    assert not public & {path for _, path in ruled}
    assert len({entry.path for entry in TABLE}) == len(TABLE)


def test_each_route_is_in_the_module_that_the_table_names() -> None:
    for name, module in MODULES.items():
        for _, path in map(methods_and_path, import_module(module).router.routes):
            entry = entry_of(path)
            assert entry is not None
            assert entry.resource == name, path


def test_what_has_the_place_of_an_id_needs_what_the_route_needs_that_answers() -> None:
    assert permission_of("POST", "/threads/search") is Permission.THREADS_READ
    for odd in ("search", "x", "*", "{thread_id}"):
        assert permission_of("DELETE", f"/threads/{odd}") is Permission.THREADS_DELETE
        assert permission_of("POST", f"/threads/{odd}/runs") is Permission.RUNS_CREATE
    assert permission_of("DELETE", "/threads/x/runs/crons/") is Permission.RUNS_DELETE
    assert permission_of("PUT", "/threads/x") is None


def test_an_application_with_a_route_that_has_no_rule_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    more = APIRouter()
    more.add_api_route("/threads/{thread_id}", lambda: None, methods=["PUT"])
    system = import_module(MODULES["system"]).router
    monkeypatch.setattr(system, "routes", [*system.routes, *more.routes])

    with pytest.raises(RouteWithoutRule, match=r"PUT /threads/\{thread_id\}"):
        create_app()


async def test_nor_are_the_others_of_its_module(late: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    more = APIRouter()
    more.add_api_route("/infos", lambda: "secret", methods=["GET"])
    system = import_module(MODULES["system"]).router
    monkeypatch.setattr(system, "routes", [*system.routes, *more.routes])

    for path in ("/infos", "/infos", "/ok"):
        assert (await get(late, path)).status_code == 500


@pytest.mark.parametrize(
    ("path", "modules"),
    [
        ("/", {"system"}),
        ("/stage/", {"system"}),
        ("/nothing/here", {"system"}),
        ("/threads", {"threads"}),
        ("/threads/", {"threads"}),
        ("/threads/x/runs", {"runs"}),
        ("/threads/x/runs/", {"runs"}),
        ("/threads/x/history", {"threads"}),
        ("/threads/x/commands", {"protocol"}),
        ("/stage/threads/x/stream/events", {"protocol"}),
        ("/threads/x/stream/events/more", {"system"}),
        ("/threads/x/runs/crons", {"crons", "runs"}),
        ("/runs/crons/search", {"crons", "runs"}),
        # A prefix that is called like a resource.
        ("/store/threads/x", {"threads"}),
    ],
)
def test_no_more_modules_are_built_than_may_have_the_route(path: str, modules: set[str]) -> None:
    assert modules_for(path) == {MODULES[name] for name in modules}
