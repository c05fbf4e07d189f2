"""Routes that are built when they are first asked for are the routes that there would have been."""

from __future__ import annotations

from importlib import import_module

import httpx
import pytest
from fastapi.routing import APIRoute

from slackwater.api.system import docs
from slackwater.main import create_app
from slackwater.web.application import Application
from slackwater.web.route_table import FIXED, MODULES, TABLE, Entry, entry_of, modules_for


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
    assert built(create_app()) == {module.split(".")[-2] for module in MODULES.values()} - {"accounts"}


@pytest.mark.parametrize("kind", ["provisioned-concurrency", "snap-start"])
def test_so_does_an_environment_whose_start_nobody_waits_for(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", kind)

    assert built(create_app()) == {module.split(".")[-2] for module in MODULES.values()} - {"accounts"}


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


def test_each_route_has_exactly_one_entry_in_the_table_and_each_entry_a_route() -> None:
    """The one that says most of its path: an entry that is in the wrong place would never be asked."""
    for route in routes():
        parts = route.path.strip("/").split("/")
        covering = [entry for entry in TABLE if entry.covers(parts)]
        most = max(map(said, covering))
        closest = [entry for entry in covering if said(entry) == most]

        assert closest == [entry_of(route.path)], route.path
        assert route in import_module(MODULES[closest[0].resource]).router.routes, route.path

    documented = {entry_of(path) for path in create_app().openapi()["paths"]}
    assert None not in documented
    # Those that no document has: FastAPI's own, what Studio looks for, and what is called otherwise elsewhere.
    assert {entry.path for entry in TABLE if entry not in documented} == {
        *("/docs", "/docs/oauth2-redirect", "/openapi.json"),
        *(f"/docs/{name}" for name in docs.FILES),
        "/ui/**",
        "/.well-known/agent.json",
    }


def said(entry: Entry) -> int:
    """How much of a path an entry says."""
    return len([part for part in entry.path.split("/") if part not in ("", "*", "**")])


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
        ("/threads/x/stream/events/more", {"threads"}),
        ("/threads/x/runs/crons", {"crons", "runs"}),
        ("/runs/crons/search", {"crons", "runs"}),
        # A prefix that is called like a resource.
        ("/store/threads/x", {"store", "threads"}),
    ],
)
def test_no_more_modules_are_built_than_may_have_the_route(path: str, modules: set[str]) -> None:
    assert modules_for(path) == {MODULES[name] for name in modules}
