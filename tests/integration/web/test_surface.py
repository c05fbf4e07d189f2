"""`http` in `langgraph.json` without an application: CORS, a prefix, switches, headers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.api import Api

from slackwater.api.runs import service
from slackwater.api.runs.models import RunCreate
from slackwater.errors import RunsDisabled
from slackwater.identity.principal import Principal

GRAPHS = Path(__file__).parents[2] / "graphs" / "graphs.py"
ORIGIN = {"origin": "http://localhost:5173"}

Serve = Callable[..., Any]


@pytest.fixture
def surface(serve: Serve, tmp_path: Path) -> Serve:
    """Serves a project with this `http` block."""

    @asynccontextmanager
    async def surface(http: dict[str, Any], **settings: Any) -> AsyncIterator[Api]:
        (tmp_path / "graphs.py").write_text(GRAPHS.read_text())
        graphs = {name: f"./graphs.py:{name}" for name in ("echo", "steps", "factory", "chat")}
        webhooks = {"url": {"disable_loopback": False, "require_https": False}}
        (tmp_path / "langgraph.json").write_text(
            json.dumps({"graphs": graphs, "http": http, "webhooks": webhooks})
        )
        async with serve(project=tmp_path, **settings) as api:
            yield api

    return surface


async def preflight(api: Api, origin: str) -> tuple[int, str | None]:
    answer = await api.client().options(
        "/threads", headers={"origin": origin, "access-control-request-method": "POST"}
    )
    return answer.status_code, answer.headers.get("access-control-allow-origin")


async def test_cors_replaces_the_defaults(surface: Serve) -> None:
    cors = {"allow_origins": ["https://a.example"], "allow_methods": ["POST"], "allow_credentials": True}
    async with surface({"cors": cors}, names=("maria",)) as api:
        assert await preflight(api, "https://a.example") == (200, "https://a.example")
        assert await preflight(api, "https://b.example") == (400, None)
        # AND refusals can be read
        answer = await api.client().post("/threads", json={}, headers={"origin": "https://a.example"})
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        assert "access-control-expose-headers" not in answer.headers


async def test_origins_may_come_from_the_environment(surface: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ALLOW_ORIGINS", "https://a.example, https://b.example")
    async with surface({}, names=("maria",)) as api:
        assert await preflight(api, "https://b.example") == (200, "https://b.example")
        assert await preflight(api, "https://c.example") == (400, None)
        answer = await api.client("maria").post("/threads", json={}, headers={"origin": "https://a.example"})
        # THEN the rest is as without it
        assert "Content-Location" in answer.headers["access-control-expose-headers"]
        assert answer.headers["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize(
    "open_to_all",
    [{"allow_origins": ["*"]}, {"allow_origins": ["null"]}, {"allow_origin_regex": "https?://.*"}],
    ids=["wildcard", "sandboxed pages", "expression"],
)
async def test_no_page_calls_with_cookies_if_any_page_may_call(
    surface: Serve, open_to_all: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    origin = "null" if "null" in open_to_all.get("allow_origins", ()) else "https://a.example"
    headers = {"origin": origin, "cookie": "session=1"}
    cors = {**open_to_all, "allow_methods": ["POST"], "allow_credentials": True}
    async with surface({"cors": cors}, names=("maria",)) as api:
        asking = {**headers, "access-control-request-method": "POST"}
        for answer in (
            await api.client("maria").post("/threads", json={}, headers=headers),
            await api.client().options("/threads", headers=asking),
        ):
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] in ("*", origin)
            assert "access-control-allow-credentials" not in answer.headers
    assert "cors.no_credentials" in [getattr(record, "event", None) for record in caplog.records]


async def test_everything_is_below_the_prefix(surface: Serve) -> None:
    async with surface({"mount_prefix": "/agents/v1"}, names=("maria",)) as api:
        http, stranger = api.client("maria"), api.client()
        # THEN the API is there, and its addresses are without the prefix, which the client has in its base URL
        thread = (await http.post("/agents/v1/threads", json={})).json()["thread_id"]
        run = await http.post(
            f"/agents/v1/threads/{thread}/runs/stream", json={"assistant_id": "echo", "input": {"text": "hi"}}
        )
        assert run.headers["location"].startswith(f"/threads/{thread}/runs/")
        assert run.headers["content-location"].startswith(f"/threads/{thread}/runs/")
        # and a redirect, which has to work without, has it
        moved = await http.post("/agents/v1/threads/", json={})
        assert (moved.status_code, moved.headers["location"]) == (
            307,
            "http://127.0.0.1:2024/agents/v1/threads",
        )
        # as have the addresses that others are told
        (chat,) = (await http.post("/agents/v1/assistants/search", json={"graph_id": "chat"})).json()
        agent = f"/agents/v1/a2a/{chat['assistant_id']}"
        card = (await http.get(f"{agent}/.well-known/agent-card.json")).json()
        assert card["url"] == f"http://127.0.0.1:2024{agent}"
        # AND it is closed there as elsewhere
        assert (await stranger.post("/agents/v1/threads", json={})).status_code == 401
        for path in ("", "/", "/ok", "/info", "/docs", "/openapi.json", "/ready", "/health"):
            assert (await stranger.get(f"/agents/v1{path}")).status_code == 200, path
        assert "/agents/v1/openapi.json" in (await stranger.get("/agents/v1/docs")).text
        # AND at the root is only what a platform looks for
        for path in ("/", "/ok", "/ready", "/health"):
            assert (await stranger.get(path)).status_code == 200, path
        assert (await http.get("/metrics")).status_code == 200
        for path in ("/info", "/docs", "/threads", "/agents", "/agents/v10/ok"):
            assert (await http.get(path)).status_code == 404, path


async def test_the_environments_prefix_wins(surface: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUNT_PREFIX", "/b")
    async with surface({"mount_prefix": "/a"}) as api:
        assert (await api.client().post("/b/threads", json={})).status_code == 200
        assert (await api.client().post("/a/threads", json={})).status_code == 404


@pytest.mark.parametrize(
    ("off", "gone", "there"),
    [
        (
            ["assistants", "store", "crons", "mcp", "a2a", "event_streaming"],
            ["/assistants/search", "/store/items/search", "/runs/crons/search", "/threads/x/runs/crons", "/mcp",
             "/a2a/x", "/.well-known/agent-card.json", "/threads/x/commands", "/threads/x/stream/events"],
            ["/threads", "/threads/search", "/runs"],
        ),
        (
            ["threads", "runs"],
            ["/threads", "/runs", "/threads/x/runs", "/runs/crons/search", "/threads/x/commands"],
            ["/assistants/search", "/store/items/search"],
        ),
    ],
)  # fmt: skip
async def test_groups_that_are_switched_off_are_not_there(
    surface: Serve, off: list[str], gone: list[str], there: list[str]
) -> None:
    async with surface({f"disable_{group}": True for group in off}, names=("maria",)) as api:
        http = api.client("maria")
        for path in gone:
            answer = await http.post(path, json={})
            assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"}), path
            assert (await api.client().post(path, json={})).status_code == 401
        for path in there:
            assert (await http.post(path, json={})).status_code != 404, path
        described = set(api.app.openapi()["paths"])
        assert not set(gone) & described
        assert set(there) <= described


async def test_where_runs_are_switched_off_nothing_starts_one(surface: Serve) -> None:
    """Whatever the way in: also one that is no route, and those that somebody forgets to close."""
    run = {"assistant_id": "echo", "input": {"text": "a"}}
    cron = {**run, "schedule": "0 5 1 1 *"}
    # GIVEN a cron of a server that starts runs
    async with surface({}) as api:
        thread = (await api.client().post("/threads", json={})).json()["thread_id"]
        assert (await api.client().post("/runs/crons", json=cron)).status_code == 200
        await api.database.execute("update slackwater.crons set next_run_date = clock_timestamp()")
        await api.services.runtime.worker.stop(1)
    async with surface({"disable_runs": True}) as api:
        http = api.client()
        call = {"jsonrpc": "2.0", "id": 1}
        part = {"kind": "data", "data": {"text": "a"}}
        message = {"message": {"messageId": "m", "role": "user", "parts": [part]}}
        for path, body in (
            ("/runs", run),
            ("/runs/wait", run),
            ("/runs/stream", run),
            ("/runs/batch", [run]),
            ("/runs/crons", cron),
            (f"/threads/{thread}/runs", run),
            (f"/threads/{thread}/runs/wait", run),
            (f"/threads/{thread}/runs/stream", run),
            (f"/threads/{thread}/runs/crons", cron),
            (f"/threads/{thread}/commands", {"id": 1, "method": "run.start", "params": run}),
            (
                "/mcp",
                {**call, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "a"}}},
            ),
            ("/a2a/echo", {**call, "method": "message/send", "params": message}),
        ):
            assert (await http.post(path, json=body)).status_code == 404, path
        # WHEN what no route leads to tries
        with pytest.raises(RunsDisabled):
            await service.create(api.services, Principal("local"), None, RunCreate.model_validate(run), None)
        await api.services.runtime.sweep()
        # THEN there is no run, and the cron still waits for a server that has them
        assert await api.database.fetch("select run_id from slackwater.runs") == []
        (waiting,) = await api.database.fetch(
            "select next_run_date < clock_timestamp() as due from slackwater.crons"
        )
        assert waiting["due"]


async def test_without_meta_only_that_the_server_is_up_is_told(surface: Serve) -> None:
    async with surface({"disable_meta": True}) as api:
        http = api.client()
        for path in ("/", "/info", "/docs", "/openapi.json", "/metrics"):
            assert (await http.get(path)).status_code == 404, path
        assert (await http.get("/ok")).json() == {"ok": True}
        assert (await http.get("/ready")).json() == {"status": "ready"}
        assert (await http.post("/threads", json={})).status_code == 200


async def test_without_webhooks_none_is_called(surface: Serve) -> None:
    async with surface({"disable_webhooks": True}) as api:
        http = api.client()
        body = {"assistant_id": "echo", "input": {"text": "hi"}, "webhook": "http://127.0.0.1:9/hook"}
        assert (await http.post("/runs/wait", json=body)).json()["text"] == "hi"
        assert await api.database.fetch("select * from slackwater.webhooks") == []


async def test_headers_that_match_reach_the_run_and_nothing_else(surface: Serve) -> None:
    filters = {"includes": ["x-*", "thread_id", "langgraph_*"], "excludes": ["x-internal-*"]}
    async with surface({"configurable_headers": filters}, names=("maria",)) as api:
        http = api.client("maria")
        thread = (await http.post("/threads", json={})).json()["thread_id"]
        headers = {
            "X-Test": "from the header",
            "X-Internal-Id": "7",
            "X-Tenant-Id": "8",
            "Authorization": "Bearer 9",
            "Thread_Id": "another",
            "langgraph_auth_user_id": "root",
        }
        body = {
            "assistant_id": "echo",
            "input": {"text": "hi"},
            "config": {"configurable": {"x-test": "body"}},
        }
        run = await http.post(f"/threads/{thread}/runs", json=body, headers=headers)
        configurable = run.json()["kwargs"]["config"]["configurable"]
        assert configurable["x-test"] == headers["X-Test"]
        assert not {"x-internal-id", "x-tenant-id", "x-api-key", "authorization"} & set(configurable)
        assert configurable.get("langgraph_auth_user_id") != "root"
        assert configurable.get("thread_id") in (None, thread)
        values = (await http.get(f"/threads/{thread}/runs/{run.json()['run_id']}/join")).json()
        assert values["configurable_seen"]["x-test"] == headers["X-Test"]
        assert "x-test" not in values["context_seen"] or values["context_seen"]["x-test"] == "body"

        # AND so they do in whatever way the run is started
        start = {"assistant_id": "echo", "input": {"text": "hi"}}
        command = {"id": 1, "method": "run.start", "params": start}
        told = (await http.post(f"/threads/{thread}/commands", json=command, headers=headers)).json()
        started = await http.get(f"/threads/{thread}/runs/{told['result']['run_id']}")
        assert started.json()["kwargs"]["config"]["configurable"]["x-test"] == headers["X-Test"]

        # AND the next run on the thread, whose request brings none, has none
        del body["config"]
        values = (await http.post(f"/threads/{thread}/runs/wait", json=body)).json()
        assert "x-test" not in values["configurable_seen"]


async def test_they_reach_a_factory_that_is_asked_for_a_graph(surface: Serve) -> None:
    async with surface({"configurable_headers": {"includes": ["flavor"]}}) as api:
        http = api.client(flavor="sour")
        body = {"assistant_id": "factory", "input": {"text": "a"}}
        thread = (await http.post("/threads", json={})).json()["thread_id"]
        assert (await http.post(f"/threads/{thread}/runs/wait", json=body)).json()["out"] == "sour:a"
        update = {"values": {"text": "b"}, "as_node": "work_sour"}
        assert (await http.post(f"/threads/{thread}/state", json=update)).status_code == 200
        drawn = (await http.get("/assistants/factory/graph")).json()
        assert "work_sour" in {node["id"] for node in drawn["nodes"]}


async def test_by_default_no_header_reaches_a_run(surface: Serve) -> None:
    async with surface({}) as api:
        body = {"assistant_id": "echo", "input": {"text": "hi"}}
        values = (await api.client().post("/runs/wait", json=body, headers={"x-test": "1"})).json()
        assert "x-test" not in values["configurable_seen"]


async def test_requests_are_logged_with_the_headers_that_match(
    surface: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    filters = {"includes": ["*"], "excludes": ["cookie"]}
    async with surface({"logging_headers": filters}, names=("maria",)) as api:
        headers = {"User-Agent": "tester", "Cookie": "secret=1"}
        await api.client("maria").post("/threads", json={}, headers=headers)
        await api.client().get("/ok")
    (line,) = [record for record in caplog.records if getattr(record, "event", "") == "http.request"]
    assert (line.getMessage(), line.status) == ("POST /threads", 200)  # type: ignore[attr-defined]
    told = line.headers  # type: ignore[attr-defined]
    assert told["user-agent"] == "tester"
    assert not {"x-api-key", "cookie", "authorization"} & set(told)
