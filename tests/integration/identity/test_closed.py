"""Closed by default: without keys only this machine, with keys only who has one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.api import Api, shape_of
from support.socket import connect

from slackwater.kit.ids import uuid7

OPEN = {"/", "/ok", "/info", "/health", "/ready"}


def paths_of(api: Api) -> list[tuple[str, str]]:
    """Method and path of every route that serves somebody's data, with ids of nothing."""
    return [
        (method.upper(), shape_of(path))
        for path, operations in api.app.openapi()["paths"].items()
        for method in operations
        if path not in OPEN
    ]


@pytest.fixture
async def guarded(serve: Any) -> AsyncIterator[Api]:
    """An application with two keys."""
    async with serve(names=("alice", "bob")) as api:
        yield api


async def test_without_keys_only_loopback_is_served(api: Api, subtests: pytest.Subtests) -> None:
    for peer in ("10.1.2.3", "192.168.0.7", "203.0.113.9", "2001:db8::1", "unknown"):
        http = api.client(peer=peer)
        for method, path in paths_of(api):
            with subtests.test(peer=peer, method=method, path=path):
                answer = await http.request(method, path, json={})
                assert answer.status_code == 403
                assert "slackwater keys new" in answer.json()["detail"]
    for peer in ("127.0.0.1", "127.8.9.10", "::1"):
        assert (await api.client(peer=peer).post("/threads", json={})).status_code == 200


async def test_without_keys_a_foreign_host_is_refused(api: Api, subtests: pytest.Subtests) -> None:
    """A page whose name was rebound to 127.0.0.1 sends its own name."""
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:2024",
        "evil.example:127",
        "[",
    ):
        with subtests.test(host=host):
            answer = await api.client(host=host).post("/threads", json={})
            assert (answer.status_code, "is not this machine" in answer.text) == (403, True)
    for host in ("localhost", "LOCALHOST:2024", "127.0.0.1:9", "[::1]:2024"):
        with subtests.test(host=host):
            assert (await api.client(host=host).post("/threads", json={})).status_code == 200


async def test_without_keys_a_foreign_origin_is_refused(api: Api, subtests: pytest.Subtests) -> None:
    for origin in (
        "https://evil.example",
        "http://localhost.evil.example",
        "null",
        "file://",
        "http://[",
        "x",
    ):
        with subtests.test(origin=origin):
            answer = await api.client(origin=origin).post("/threads", json={})
            assert answer.status_code == 403
    for origin in ("http://localhost:3000", "http://127.0.0.1:5173"):
        with subtests.test(origin=origin):
            answer = await api.client(origin=origin).post("/threads", json={})
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == origin
            assert "Location" in answer.headers["access-control-expose-headers"]


async def test_without_keys_everybody_on_this_machine_is_one_owner(api: Api) -> None:
    thread = (await api.client().post("/threads", json={})).json()["thread_id"]

    assert (await api.client(**{"x-api-key": "whatever"}).get(f"/threads/{thread}")).status_code == 200
    owners = await api.database.fetch("select owner from slackwater.threads")
    assert owners == [{"owner": "local"}]


async def test_with_keys_nobody_gets_in_without_one(guarded: Api, subtests: pytest.Subtests) -> None:
    bob = guarded.secrets["bob"]
    wrong: tuple[tuple[str, str], ...] = (
        ("x-other", bob),
        ("x-api-key", ""),
        ("x-api-key", "sw_wrong"),
        ("x-api-key", bob[:-1]),
        ("x-api-key", f" {bob}x"),
        ("authorization", f"Bearer {bob}"),
        ("cookie", f"x-api-key={bob}"),
    )
    for name, value in wrong:
        http = guarded.client(**{name: value})
        # Also what does not exist: who may not come in does not learn what there is.
        for path in ("/threads/search", "/nothing"):
            with subtests.test(header=name, path=path):
                answer = await http.post(path, json={})
                assert (answer.status_code, answer.json()) == (
                    401,
                    {"detail": "Send a valid key in the x-api-key header."},
                )


async def test_with_keys_the_key_says_who_it_is(guarded: Api) -> None:
    for name in ("alice", "bob"):
        await guarded.client(name, peer="203.0.113.9", host="api.example", origin="https://app.example").post(
            "/threads", json={}
        )

    owners = await guarded.database.fetch("select owner from slackwater.threads order by owner")
    assert [row["owner"] for row in owners] == ["alice", "bob"]


async def test_with_keys_what_says_nothing_about_anyone_is_open(
    guarded: Api, subtests: pytest.Subtests
) -> None:
    """A probe of Kubernetes or ECS names the address of the container as the host, a proxy its caller."""
    http = guarded.client(
        peer="203.0.113.9", host="10.1.2.3:2024", **{"x-forwarded-for": "198.51.100.7", "via": "1.1 proxy"}
    )
    for path in (*sorted(OPEN), "/docs", "/openapi.json"):
        with subtests.test(path=path):
            assert (await http.get(path)).status_code == 200
    assert (await http.get("/redoc")).status_code == 401


async def test_a_browser_can_ask_before_it_sends_a_key(guarded: Api) -> None:
    preflight = await guarded.client().options(
        "/threads/search",
        headers={
            "origin": "https://app.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "x-api-key,content-type,last-event-id",
        },
    )
    refused = await guarded.client(origin="https://app.example").post("/threads/search", json={})

    assert preflight.status_code == 200
    assert "x-api-key" in preflight.headers["access-control-allow-headers"]
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "*")


async def test_a_websocket_has_to_pass_the_door_too(guarded: Api) -> None:
    """It is told why by the codes that the SDKs know: a browser cannot read the status of a refused handshake."""
    path = f"/threads/{uuid7()}/stream/events"
    for headers, code in (({}, 4401), ({"x-api-key": "wrong"}, 4401)):
        async with connect(guarded, path, **headers) as socket:
            await socket.until(lambda: socket.closed)
        assert socket.closed is not None
        assert (socket.closed[0], socket.heard) == (code, [])
        assert "x-api-key" in socket.closed[1]


async def test_without_keys_no_page_from_elsewhere_opens_a_websocket(api: Api) -> None:
    for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}):
        async with connect(api, f"/threads/{uuid7()}/stream/events", **headers) as socket:
            await socket.until(lambda: socket.closed)
        assert socket.closed is not None
        assert (socket.closed[0], socket.heard) == (4403, [])


async def test_a_body_is_not_read_before_the_key(guarded: Api) -> None:
    read = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield b"{}"

    assert (await guarded.client().post("/threads", content=body())).status_code == 401
    assert not read
