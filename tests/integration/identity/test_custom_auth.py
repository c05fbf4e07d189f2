"""A project's own `auth`: who calls is what its `authenticate` says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.page import close_code
from support.server import fleet_of
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from slackwater.cli.doctor import _graphs
from slackwater.errors import GraphImportError, SettingsError
from slackwater.settings import Settings

Project = Callable[..., Path]
Serve = Callable[..., Any]


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


async def test_who_is_not_let_in_gets_what_the_project_says(serve: Serve, project: Project) -> None:
    async with serve(project=project()) as api:
        nobody = api.client()
        refused = await nobody.get("/threads/x")
        unknown = await nobody.get("/no/such/path")
        public = await nobody.get("/ok")
        alice = await api.client(**bearer("alice")).post("/threads/search", json={})
        everybody = await api.client(**bearer("alice")).get("/metrics")

    assert refused.status_code == 401
    assert refused.json() == {"detail": "who are you?"}
    assert refused.headers["www-authenticate"] == "Bearer"
    assert unknown.status_code == 401
    assert public.status_code == 200
    assert (alice.status_code, alice.json()) == (200, [])
    assert everybody.status_code == 403


ASKS_FOR_EVERYTHING = """
from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(
    request, scope, path, method, path_params, query_params, headers, authorization, user, scopes, body=None, own=1
):
    told = [
        request.headers["x-told"], scope["type"], path, method, str(path_params), query_params.get("q"),
        headers[b"x-told"].decode(), str(authorization), str(user), str(scopes), str(body), str(own),
    ]
    raise Auth.exceptions.HTTPException(418, "|".join(told))
"""


async def test_authenticate_gets_all_that_it_asks_for(serve: Serve, project: Project) -> None:
    async with serve(project=project(source=ASKS_FOR_EVERYTHING)) as api:
        answer = await api.client().get("/threads/x?q=1", headers={"x-told": "t", "authorization": "a"})

    assert answer.status_code == 418
    assert answer.json()["detail"] == "t|http|/threads/x|GET|{}|1|t|a|None|[]|None|1"


SYNC = """
import threading

from langgraph_sdk import Auth

auth = Auth()
comes = threading.Event()


@auth.authenticate
def authenticate(headers):
    if headers[b"x-waits"] == b"yes":
        assert comes.wait(20)
    comes.set()
    return "sync"
"""


async def test_a_sync_authenticate_does_not_block_the_loop(serve: Serve, project: Project) -> None:
    async with serve(project=project(source=SYNC)) as api:
        client = api.client()
        # One waits for the other, which could not come if the loop waited as well.
        waits, comes = await asyncio.gather(
            *(
                client.post("/threads/search", json={}, headers={"x-waits": header})
                for header in ("yes", "no")
            )
        )
        assert (waits.status_code, comes.status_code) == (200, 200)


@pytest.mark.parametrize(
    "answer",
    ["None", "{}", "{'identity': ''}", "{'identity': 1}", "'x' * 513", "('a', 'b', 'c')", "1 / 0"],
)
async def test_what_is_no_user_is_an_error_that_tells_nothing(
    serve: Serve, project: Project, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    auth = f"""
from langgraph_sdk import Auth
auth = Auth()
@auth.authenticate
async def authenticate(authorization):
    return {answer}
"""
    async with serve(project=project(source=auth)) as api:
        refused = await api.client().post("/threads/search", json={})

    assert refused.status_code == 500
    assert refused.json() == {"detail": "The project's auth failed: the server's log says why."}
    assert "authenticate failed: " in caplog.text


@pytest.mark.parametrize(
    ("answer", "owner"),
    [
        ("'alice'", "user:alice"),
        ("{'identity': 'alice'}", "user:alice"),
        ("(['read'], {'identity': 'alice'})", "user:alice"),
        ("type('U', (), {'identity': 'alice'})()", "user:alice"),
        ("'system'", "user:system"),
        ("'local'", "user:local"),
    ],
)
async def test_a_user_is_an_owner_of_her_own_kind(
    serve: Serve, project: Project, answer: str, owner: str
) -> None:
    auth = f"""
from langgraph_sdk import Auth
auth = Auth()
@auth.authenticate
async def authenticate(authorization):
    return {answer}
"""
    async with serve(project=project(source=auth)) as api:
        made = (await api.client().post("/threads", json={})).json()
        row = await api.database.fetch_one(
            "select owner from slackwater.threads where thread_id = %s", [made["thread_id"]]
        )

    assert row == {"owner": owner}


async def test_an_api_key_is_one_beside_it(serve: Serve, project: Project) -> None:
    """And a header of that name that is no key of ours is the project's."""
    auth = """
from langgraph_sdk import Auth
auth = Auth()
@auth.authenticate
async def authenticate(headers):
    return headers.get(b"x-api-key", b"nobody").decode()
"""
    async with serve(project=project(source=auth), names=("maria",)) as api:
        for client in (api.client("maria"), api.client(**{"x-api-key": "carol"})):
            await client.post("/threads", json={})
        rows = await api.database.fetch("select owner from slackwater.threads order by created_at")

    assert [row["owner"] for row in rows] == ["maria", "user:carol"]


@pytest.mark.parametrize(
    ("auth", "why"),
    [
        ("auth = 1", "int is not a langgraph_sdk.Auth"),
        ("from langgraph_sdk import Auth\nauth = Auth()", "it has no @auth.authenticate"),
        (
            "from langgraph_sdk import Auth\nauth = Auth()\n@auth.authenticate\nasync def a(request, token): ...",
            "authenticate asks for 'token'",
        ),
        (
            "from langgraph_sdk import Auth\nauth = Auth()\n@auth.authenticate\nasync def a(body): ...",
            "authenticate asks for 'body': the body is not read",
        ),
        ("import no_such_module", "cannot be imported"),
        ("", "the module has no 'auth'"),
    ],
)
async def test_what_is_no_auth_stops_the_start(serve: Serve, project: Project, auth: str, why: str) -> None:
    with pytest.raises(GraphImportError, match=why):
        async with serve(project=project(source=auth)):
            pass


@pytest.mark.parametrize("path", ["auth.py", "./auth.txt:auth", "./auth.py:", 1, None])
async def test_a_path_that_names_nothing_stops_the_start(
    serve: Serve, project: Project, path: object
) -> None:
    with pytest.raises(SettingsError, match=r"auth\.path"):
        async with serve(project=project(auth={"path": path, "disable_studio_auth": True})):
            pass


def test_a_server_with_auth_is_served_beyond_loopback(project: Project, tmp_path: Path) -> None:
    Settings.load(project=project()).check_bind("0.0.0.0")
    with pytest.raises(SettingsError):
        Settings.load(project=tmp_path).check_bind("0.0.0.0")


async def test_over_real_connections_from_anywhere(
    project: Project, database_uri: str, tmp_path: Path
) -> None:
    """A proxy in front, a foreign host: what a server without authentication refuses."""
    async with fleet_of(database_uri, tmp_path, project()) as fleet:
        [server] = await fleet.start()
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            headers = {**bearer("alice"), "host": "agents.example.org", "x-forwarded-for": "203.0.113.9"}
            made = await client.post("/threads", json={}, headers=headers)
            foreign = await client.get(f"/threads/{made.json()['thread_id']}", headers=bearer("bob"))
            absent = await client.get(f"/threads/{uuid4()}", headers=bearer("bob"))
            anonymous = await client.post("/threads", json={})

    assert made.status_code == 200
    assert (foreign.status_code, absent.status_code) == (404, 404)
    assert anonymous.status_code == 401


async def test_a_run_keeps_its_user_through_a_hand_over(
    project: Project, database_uri: str, tmp_path: Path
) -> None:
    async with fleet_of(database_uri, tmp_path, project()) as fleet:
        [first] = await fleet.start()
        async with httpx.AsyncClient(timeout=30, headers=bearer("alice")) as client:
            thread = (await client.post(f"{first.url}/threads", json={})).json()["thread_id"]
            runs = f"/threads/{thread}/runs"
            started = await client.post(f"{first.url}{runs}", json={"assistant_id": "slow", "input": {}})
            run = started.json()
            assert run["status"] == "running", run
            first.sigterm()
            await first.wait()
            [second] = await fleet.start()
            seen = (await client.get(f"{second.url}{runs}/{run['run_id']}/join")).json()["seen"]

        assert first.report()["runs"][0]["outcome"] == "drained"

    assert (seen["identity"], seen["team"], seen["server_info"]) == ("alice", "team of alice", "alice")


BY_COOKIE = """
from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(request):
    return request.cookies["user"]
"""


async def test_who_goes_by_a_cookie_is_safe_from_pages_of_other_sites(
    project: Project, database_uri: str, tmp_path: Path
) -> None:
    """A browser sends it with a form, and with a WebSocket, of any page."""
    env = {"SLACKWATER_CORS_ALLOW_ORIGINS": "https://chat.example"}
    async with fleet_of(database_uri, tmp_path, project(source=BY_COOKIE), env) as fleet:
        [server] = await fleet.start()
        cookie = {"cookie": "user=alice"}
        async with httpx.AsyncClient(base_url=server.url, timeout=30, headers=cookie) as client:
            made = await client.post("/threads", json={})
            for kind in (
                "text/plain",
                "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=x",
            ):
                answer = await client.post("/threads", content=b"{}", headers={"content-type": kind})
                assert answer.status_code == 415
            itself = {"authorization": "Bearer x", "content-type": "text/plain"}
            assert (await client.post("/threads", content=b"{}", headers=itself)).status_code == 200
        url = f"{server.url}/threads/{made.json()['thread_id']}"
        assert await close_code(url, "user=alice", "https://evil.example") == 4403
        for origin in (server.url, "https://chat.example"):
            assert await close_code(url, "user=alice", origin) is None


async def test_a_socket_is_its_users(project: Project, database_uri: str, tmp_path: Path) -> None:
    """A handler that asks for a request gets one for a WebSocket, too; a refused one is closed with its status."""
    source = """
from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(request, method):
    assert request.method == method
    name = request.query_params.get("as")
    if not name:
        raise Auth.exceptions.HTTPException(403, "say who you are")
    return name
"""
    async with fleet_of(database_uri, tmp_path, project(source=source)) as fleet:
        [server] = await fleet.start()
        address = f"{server.url.replace('http', 'ws')}/threads/{uuid4()}/stream/events"
        start = {"id": 1, "method": "run.start", "params": {"assistant_id": "who", "input": {}}}
        tree = {"id": 2, "method": "agent.getTree", "params": {}}
        async with connect(f"{address}?as=alice") as socket:
            await socket.send(json.dumps(start))
            answer = json.loads(await socket.recv())
        async with connect(f"{address}?as=bob") as socket:
            await socket.send(json.dumps(tree))
            foreign = json.loads(await socket.recv())
        async with connect(address) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()

    assert "run_id" in answer["result"], answer
    assert foreign["error"] == "no_such_run"
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4403, "say who you are")


async def test_the_document_says_how_to_authenticate(serve: Serve, project: Project) -> None:
    openapi = {
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        "security": [{"token": []}],
        "paths": {"/threads/search": {"post": [{"token": ["read"]}]}},
    }
    auth = {"path": "./auth.py:auth", "openapi": openapi}
    async with serve(project=project(auth=auth)) as api:
        document = (await api.client().get("/openapi.json")).json()

    assert document["components"]["securitySchemes"]["token"] == {"type": "http", "scheme": "bearer"}
    assert document["paths"]["/threads"]["post"]["security"] == [{"token": []}]
    assert document["paths"]["/threads/search"]["post"]["security"] == [{"token": ["read"]}]
    assert document["paths"]["/ok"]["get"]["security"] == []


@pytest.mark.parametrize(
    ("source", "said"),
    [(None, "is served to whom ./auth.py:auth lets in"), ("auth = 1", "is not a langgraph_sdk.Auth")],
)
def test_the_doctor_looks_at_it(project: Project, source: str | None, said: str) -> None:
    settings = Settings.load(project=project() if source is None else project(source=source))
    findings = list(_graphs(settings))

    assert said in " ".join(finding.text for finding in findings if finding.about == "auth")
