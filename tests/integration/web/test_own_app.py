"""The project's own application (`http.app`): its routes, its middleware, its lifespan, and who may call them."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.api import Api
from support.socket import connect

from slackwater.errors import GraphImportError
from slackwater.runtime.process import stop

GRAPHS = Path(__file__).parents[2] / "graphs" / "graphs.py"

APP = """
from contextlib import asynccontextmanager
from fastapi import FastAPI, Request
from starlette.middleware.base import BaseHTTPMiddleware

told = []

@asynccontextmanager
async def lifespan(app):
    app.state.opened = True
    told.append("opened")
    yield {"services": "its own", "greeting": "hello"}
    told.append("closed")

app = FastAPI(lifespan=lifespan)

@app.middleware("http")
async def mark(request: Request, call_next):
    request.state.services = "still its own"
    response = await call_next(request)
    response.headers["x-marked"] = request.url.path
    return response

@app.get("/hello")
async def hello(request: Request):
    user = request.scope.get("user")
    return {
        "greeting": request.state.greeting,
        "opened": request.app.state.opened,
        "path": request.url.path,
        "url": str(request.url_for("hello")),
        "user": user and user.identity,
    }

@app.get("/ok")
@app.get("/ready")
async def never():
    return {"never": True}

@app.get("/info")
async def info():
    return {"mine": True}

@app.get("/threads/{thread_id}")
async def thread(thread_id: str):
    return {"shadowed": thread_id}

@app.get("/broken")
async def broken():
    raise RuntimeError("mine")
"""

Serve = Callable[..., Any]


@pytest.fixture
def own(serve: Serve, tmp_path: Path) -> Serve:
    """Serves a project with this `http` block: `async with own({"app": "./web.py:app"}) as api`."""

    @asynccontextmanager
    async def own(http: dict[str, Any], app: str = APP, **settings: Any) -> AsyncIterator[Api]:
        (tmp_path / "web.py").write_text(app)
        (tmp_path / "graphs.py").write_text(GRAPHS.read_text())
        graphs = {"echo": "./graphs.py:echo", "steps": "./graphs.py:steps"}
        (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": graphs, "http": http}))
        async with serve(project=tmp_path, **settings) as api:
            yield api

    return own


def module(tmp_path: Path) -> Any:
    """The module of the application, as it was imported."""
    (found,) = [
        m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == str(tmp_path / "web.py")
    ]
    return found


async def works(http: httpx.AsyncClient, prefix: str = "") -> None:
    """The API does what it does without any of this."""
    thread = (await http.post(f"{prefix}/threads", json={})).json()["thread_id"]
    answer = await http.post(
        f"{prefix}/threads/{thread}/runs/wait", json={"assistant_id": "echo", "input": {"text": "hi"}}
    )
    assert (answer.status_code, answer.json()["text"]) == (200, "hi"), answer.text


async def test_its_routes_come_before_the_api_and_after_what_a_platform_asks_for(own: Serve) -> None:
    async with own({"app": "./web.py:app"}) as api:
        http = api.client()

        # THEN its own routes answer, with what its lifespan has set up
        hello = await http.get("/hello")
        assert hello.json() == {
            "greeting": "hello",
            "opened": True,
            "path": "/hello",
            "url": "http://127.0.0.1:2024/hello",
            "user": None,
        }
        # AND they take the place of the API's
        assert (await http.get("/info")).json() == {"mine": True}
        assert (await http.get("/threads/x")).json() == {"shadowed": "x"}
        # but not of these
        assert (await http.get("/ok")).json() == {"ok": True, "services": {}}
        assert (await http.get("/ready")).json() == {"status": "ready"}
        # AND of a path only the methods that it has
        thread = (await http.post("/threads", json={})).json()["thread_id"]
        assert (await http.patch(f"/threads/{thread}", json={"metadata": {"a": 1}})).status_code == 200
        assert (await http.put("/hello")).status_code == 405
        # AND what neither knows is not found in the API's words
        nowhere = await http.get("/nowhere")
        assert (nowhere.status_code, nowhere.json()) == (404, {"detail": "Not Found"})
        assert (await http.get("/hello/")).headers["location"] == "http://127.0.0.1:2024/hello"
        # AND its middleware is around everything
        assert hello.headers["x-marked"] == "/hello"
        assert nowhere.headers["x-marked"] == "/nowhere"
        assert (await http.get("/ok")).headers["x-marked"] == "/ok"
        # AND they are described together
        assert {"/hello", "/threads/search"} <= set((await http.get("/openapi.json")).json()["paths"])
        await works(http)


@pytest.mark.parametrize(
    ("given", "hello", "info"),
    [
        # Its routes are its own affair, unless it says that they are not.
        ({}, (200, None), 200),
        ({"middleware_order": "auth_first"}, (200, None), 200),
        ({"enable_custom_route_auth": True}, (401, "maria"), 401),
        ({"enable_custom_route_auth": True, "middleware_order": "auth_first"}, (401, "maria"), 401),
    ],
)
async def test_the_door_guards_the_api_and_its_routes_when_asked_to(
    own: Serve, given: dict[str, Any], hello: tuple[int, str | None], info: int
) -> None:
    async with own({"app": "./web.py:app", **given}, names=("maria",)) as api:
        stranger, maria = api.client(), api.client("maria")

        assert (await stranger.get("/hello")).status_code == hello[0]
        assert (await stranger.get("/info")).status_code == info
        assert (await maria.get("/hello")).json()["user"] == hello[1]
        for refused in (await stranger.post("/threads", json={}), await stranger.get("/nowhere")):
            assert refused.status_code == 401
            # WHEN the middleware comes first it sees the refusal, else not even the request
            assert ("x-marked" in refused.headers) == ("middleware_order" not in given)
        assert (await stranger.get("/ok")).status_code == 200
        await works(maria)


async def test_its_middleware_may_bring_the_key(own: Serve) -> None:
    # GIVEN an application that knows its callers by a cookie
    app = """
from starlette.applications import Starlette
from starlette.middleware import Middleware

class Cookie:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            session = dict(scope["headers"]).get(b"cookie", b"").removeprefix(b"session=")
            scope = {**scope, "headers": [*scope["headers"], (b"x-api-key", session)]}
        await self.app(scope, receive, send)

app = Starlette(middleware=[Middleware(Cookie)])
"""
    async with own({"app": "./web.py:app"}, app, names=("maria",)) as api:
        assert (await api.client().post("/threads", json={})).status_code == 401
        await works(api.client(cookie=f"session={api.secrets['maria']}"))


async def test_an_error_is_answered_by_whoever_made_it(own: Serve) -> None:
    async with own({"app": "./web.py:app"}) as api:
        http = api.client()

        with pytest.raises(RuntimeError, match="mine"):
            await http.get("/broken")
        answer = await http.post("/threads/none/runs", json={"assistant_id": "echo"})
        assert (answer.status_code, answer.json()) == (422, {"detail": "Invalid thread ID: must be a UUID"})


async def test_its_lifespan_lies_within_that_of_the_pool_and_around_all_runs(
    own: Serve, tmp_path: Path
) -> None:
    async with own({"app": "./web.py:app"}) as api:
        told = module(tmp_path).told
        assert told == ["opened"]
        # GIVEN what it would see of the database and the runs when it is left
        seen: list[object] = []
        append = told.append

        class Watched(list[str]):
            def append(self, word: str) -> None:
                append(word)
                seen.append((api.services.runtime.closed, api.services.database.pool.closed))

        module(tmp_path).told = Watched(told)
    # THEN the runs had ended, and the pool was still open
    assert told == ["opened", "closed"]
    assert seen == [(True, False)]


async def test_handlers_of_its_start_and_its_end_are_called(own: Serve, tmp_path: Path) -> None:
    app = """
from fastapi import FastAPI
told = []
app = FastAPI(on_startup=[lambda: told.append("up")], on_shutdown=[lambda: told.append("down")])
"""
    async with own({"app": "./web.py:app"}, app):
        assert module(tmp_path).told == ["up"]
    assert module(tmp_path).told == ["up", "down"]


async def test_a_lifespan_that_does_not_end_cannot_push_the_stop_past_its_deadline(
    own: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    app = """
import asyncio
from contextlib import asynccontextmanager
from starlette.applications import Starlette

@asynccontextmanager
async def lifespan(app):
    yield
    await asyncio.sleep(3600)

app = Starlette(lifespan=lifespan)
"""
    async with own(
        {"app": "./web.py:app"}, app, grace_seconds=3.4, drain_reserve_seconds=1.8, hard_reserve_seconds=1.7
    ) as api:
        stopping = api.services.stop
    assert [
        record.event for record in caplog.records if record.name == "slackwater.web.middleware.custom_app"
    ] == ["custom.overrun"]
    assert stopping.budget is not None
    assert stopping.budget.left() > 0
    assert api.services.database.pool.closed


async def test_a_lifespan_that_ends_badly_does_not_keep_the_rest_open(
    own: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    app = """
from contextlib import asynccontextmanager
from starlette.applications import Starlette

@asynccontextmanager
async def lifespan(app):
    yield
    raise RuntimeError("no")

app = Starlette(lifespan=lifespan)
"""
    async with own({"app": "./web.py:app"}, app) as api:
        pass
    assert [
        record.event for record in caplog.records if record.name == "slackwater.web.middleware.custom_app"
    ] == ["custom.failed"]
    assert api.services.database.pool.closed


@pytest.mark.parametrize(
    ("app", "sentence"),
    [
        (
            "import nothing_of_the_kind",
            "cannot be imported: ModuleNotFoundError: No module named 'nothing_of_the_kind'",
        ),
        ("application = 1", "the module has no 'app'"),
        ("app = 1", "int is neither a Starlette nor a FastAPI application"),
        (
            APP.replace('told.append("opened")', 'raise OSError("no disk")'),
            "its lifespan does not start: OSError: no disk",
        ),
        (
            APP.replace('told.append("opened")', "raise SystemExit(3)"),
            "its lifespan does not start: SystemExit: 3",
        ),
        (
            APP + "\napp.add_middleware(dict, colour=1)",
            "its middleware does not start: TypeError",
        ),
    ],
)
async def test_one_that_does_not_start_ends_the_start_with_a_sentence(
    own: Serve, app: str, sentence: str
) -> None:
    with pytest.raises(GraphImportError) as caught:
        async with own({"app": "./web.py:app"}, app):
            pass
    assert caught.value.message.startswith("http.app (./web.py:app)")
    assert sentence in caught.value.message


async def test_sockets_of_its_own_are_served_and_others_refused(own: Serve) -> None:
    app = """
from fastapi import FastAPI, WebSocket
app = FastAPI()

@app.websocket("/echo")
async def echo(socket: WebSocket):
    await socket.accept()
    await socket.send_text(f"{socket.url.path}: {await socket.receive_text()}")
    await socket.close()
"""
    async with own({"app": "./web.py:app", "mount_prefix": "/agents"}, app, names=("maria",)) as api:

        async def connect(path: str) -> list[dict[str, Any]]:
            told: list[dict[str, Any]] = []
            messages = [{"type": "websocket.receive", "text": "hi"}, {"type": "websocket.connect"}]

            async def receive() -> dict[str, Any]:
                return messages.pop()

            async def send(message: dict[str, Any]) -> None:
                told.append(message)

            scope = {"type": "websocket", "path": path, "headers": [], "client": None, "query_string": b""}
            await api.app({**scope, "state": dict(api.state)}, receive, send)
            return told

        accepted, sent, *_ = await connect("/agents/echo")
        assert (accepted["type"], sent["text"]) == ("websocket.accept", "/agents/echo: hi")
        # Unknown to it: the door asks for a key
        *_, closed = await connect("/agents/other")
        assert (closed["type"], closed["code"]) == ("websocket.close", 4401)
        assert await connect("/other") == [{"type": "websocket.close", "code": 1000}]


async def test_a_process_may_be_opened_again(own: Serve) -> None:
    """As after a snapshot on AWS Lambda: the application has not changed by having been served."""
    for _ in range(2):
        async with own({"app": "./web.py:app"}) as api:
            assert (await api.client().get("/hello")).json()["greeting"] == "hello"
            await works(api.client())


async def test_routes_that_its_lifespan_adds_are_there(own: Serve) -> None:
    app = """
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

@asynccontextmanager
async def lifespan(app):
    app.add_route("/late", lambda request: PlainTextResponse("late"))
    yield

app = Starlette(lifespan=lifespan)
"""
    async with own({"app": "./web.py:app"}, app) as api:
        assert (await api.client().get("/late")).text == "late"


async def test_a_websocket_of_the_api_goes_through_it(own: Serve) -> None:
    async with own({"app": "./web.py:app", "mount_prefix": "/agents"}) as api:
        path = f"/agents/threads/{uuid4()}/stream/events"
        async with connect(api, path) as socket:
            subscribed = await socket.ask("subscription.subscribe", channels=["values", "lifecycle"])
            assert subscribed["type"] == "success"
            await socket.ask("run.start", assistant_id="echo", input={"text": "a"})
            events = await socket.until(lambda: len(socket.events) >= 4 and socket.events)
            assert events[-1]["params"]["data"] == {"event": "completed", "graph_name": "echo"}
            stop.close(api.services.runtime)
            await socket.until(lambda: socket.closed)
        assert socket.closed is not None
        assert socket.closed[0] == 1012
