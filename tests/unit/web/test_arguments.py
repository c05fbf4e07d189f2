"""What a route is given is what FastAPI would give it, and what it says of a wrong request are FastAPI's words."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from slackwater.identity.principal import Principal
from slackwater.main import create_app
from slackwater.web.arguments import Arguments
from slackwater.web.bodies import ByteQuota
from slackwater.web.http import JsonRoute, json_response
from slackwater.web.route_table import MODULES
from tests.unit.test_application import routes


class Order(BaseModel):
    name: str
    count: int = Field(default=1, ge=1)
    tags: list[str] = []


async def whose(request: Request) -> str:
    return f"{request.headers.get('x-owner', 'nobody')} in {threading.current_thread().name}"


Whose = Annotated[str, Depends(whose)]
Token = Annotated[str | None, Header(alias="X-Token")]


async def order(place: str, body: Order, owner: Whose, token: Token = None) -> Response:
    return json_response([place, body.model_dump(), owner, token])


async def look(
    place: str,
    request: Request,
    owner: Whose,
    word: str | None = None,
    plain: str = "false",
    limit: Annotated[int, Query(ge=1, le=10)] = 5,
    reader: UUID | None = None,
    some: Annotated[list[str] | None, Query()] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
    prefer: Annotated[str, Header()] = "",
    short: Annotated[str, Query(max_length=3)] = "",
) -> Response:
    given = [place, request.url.path, owner, word, plain, limit, reader, some, last_event_id, prefer, short]
    return json_response(given)


async def needs(word: str, x_kind: Annotated[str, Header()]) -> Response:
    return json_response([word, x_kind])


async def many(body: Annotated[list[Order], Field(max_length=2)]) -> Response:
    return json_response([one.model_dump() for one in body])


def app_with(route_class: type[APIRoute]) -> FastAPI:
    router = APIRouter(route_class=route_class)
    router.post("/orders/{place}")(order)
    router.get("/looks/{place}")(look)
    router.get("/needs")(needs)
    router.post("/many")(many)
    app = FastAPI()

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return json_response({"errors": error.errors(), "body": error.body}, 422)

    app.add_exception_handler(RequestValidationError, invalid)
    app.router.routes += router.routes
    return app


REQUESTS: list[tuple[str, str, dict[str, str], bytes | None]] = [
    ("POST", "/orders/a%20b", {"x-owner": "me"}, b'{"name":"x","count":3,"tags":["a"],"unknown":1}'),
    ("POST", "/orders/a", {"X-Token": "t", "x-owner": "me"}, b'{"name":"\xc3\xa9"}'),
    ("POST", "/orders/a", {"X-Token": ""}, b'{"name":"x"}'),
    ("POST", "/orders/a?place=b&token=c", {}, b'{"name":"x"}'),
    ("POST", "/orders/a", {}, b'{"name":1,"count":0,"tags":"x"}'),
    ("POST", "/orders/a", {}, b"{}"),
    ("POST", "/orders/a", {}, b"[]"),
    ("POST", "/orders/a", {}, b"null"),
    ("POST", "/orders/a", {}, b'"x"'),
    ("POST", "/orders/a", {}, b""),
    ("POST", "/orders/a", {}, None),
    ("POST", "/many", {}, b'[{"name":"x"},{"name":"y"}]'),
    ("POST", "/many", {}, b'[{"name":"x"},{"name":"y"},{"name":"z"}]'),
    ("POST", "/many", {}, b'{"name":"x"}'),
    ("GET", "/looks/a", {}, None),
    ("GET", "/looks/a?", {"Last-Event-ID": "1-2", "Prefer": "return=minimal"}, None),
    ("GET", "/looks/a?word=&plain=1", {}, None),
    ("GET", "/looks/a?word=x&word=y&limit=7", {}, None),
    ("GET", "/looks/a?limit=70", {}, None),
    ("GET", "/looks/a?limit=x&reader=1", {}, None),
    ("GET", "/looks/a?reader=018f0000-0000-7000-8000-000000000000&some=1&some=2&some=", {}, None),
    ("GET", "/looks/a?short=abcd", {}, None),
    ("GET", "/looks/a?short=abc&word=%00%F0", {}, None),
    ("GET", "/needs?word=x", {"x-kind": "k"}, None),
    ("GET", "/needs?word=x", {}, None),
    ("GET", "/needs", {"x-kind": "k"}, None),
]


def services() -> Any:
    return SimpleNamespace(settings=SimpleNamespace(max_body_bytes=1_000), bodies=ByteQuota(1_000_000))


async def ask(
    app: FastAPI, method: str, url: str, headers: dict[str, str], body: bytes | None
) -> httpx.Response:
    async def with_services(scope: Any, receive: Any, send: Any) -> None:
        scope = {**scope, "state": {"services": services()}, "principal": Principal("me")}
        await app(scope, receive, send)

    transport = httpx.ASGITransport(with_services)
    sent = {"content-type": "application/json", **headers} if body else headers
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.request(method, url, headers=sent, content=body)


@pytest.mark.parametrize(("method", "url", "headers", "body"), REQUESTS)
async def test_as_fastapi_does(method: str, url: str, headers: dict[str, str], body: bytes | None) -> None:
    ours = await ask(app_with(JsonRoute), method, url, headers, body)
    fastapis = await ask(app_with(APIRoute), method, url, headers, body)

    assert (ours.status_code, ours.json()) == (fastapis.status_code, fastapis.json())
    assert ours.status_code in (200, 422)


async def test_a_request_that_is_right_costs_none_of_fastapis_machinery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    solved = []

    async def solve(**options: Any) -> Any:
        solved.append(options["request"].url.path)
        raise AssertionError("solved")

    monkeypatch.setattr("fastapi.routing.solve_dependencies", solve)
    app = app_with(JsonRoute)

    assert (await ask(app, *REQUESTS[0])).status_code == 200
    assert (await ask(app, "GET", "/looks/a?word=x", {"Last-Event-ID": "1"}, None)).status_code == 200
    assert solved == []
    with pytest.raises(AssertionError, match="solved"):
        await ask(app, "POST", "/orders/a", {}, b"{}")


async def test_a_body_that_is_no_json_is_paid_for_once() -> None:
    room = ByteQuota(4_000)
    held = []
    acquire = room.acquire

    async def counted(owner: str, size: int) -> None:
        held.append(size)
        await acquire(owner, size)

    room.acquire = counted  # type: ignore[method-assign]

    async def with_services(scope: Any, receive: Any, send: Any) -> None:
        given = SimpleNamespace(settings=SimpleNamespace(max_body_bytes=1_000), bodies=room)
        await app({**scope, "state": {"services": given}, "principal": Principal("me")}, receive, send)

    app = app_with(JsonRoute)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(with_services), base_url="http://127.0.0.1"
    ) as client:
        answer = await client.post("/orders/a", content=b'{"name":,,,,,,,,}')

    assert answer.status_code == 422
    assert sum(held) == len(b'{"name":,,,,,,,,}') + 9 * 64


def test_all_routes_of_the_api_are_served_so() -> None:
    left = [route.path for route in routes() if isinstance(route, JsonRoute) and Arguments.of(route) is None]
    assert left == []


def test_what_is_asked_for_most_is_tried_first() -> None:
    """A route is found by trying one after the other."""
    paths = [getattr(route, "path", "") for route in create_app().router.routes]
    assert paths.index("/threads/{thread_id}/runs/wait") < 10
    assert len(paths) > 10 + len(MODULES)


def test_a_route_that_needs_more_is_fastapis() -> None:
    async def cookies(session: Annotated[str | None, Header()], response: Response) -> Response:
        return response

    async def parts(one: Order, other: Order) -> Response:
        return json_response([one, other])

    def threaded(word: str) -> Response:
        return json_response(word)

    async def shown(word: str) -> dict[str, str]:
        return {"word": word}

    async def numbered(number: int) -> Response:
        return json_response(number)

    router = APIRouter()
    for function in (cookies, parts, threaded, shown):
        router.post("/" + function.__name__)(function)
    router.post("/{number}")(numbered)
    assert [Arguments.of(route) for route in router.routes if isinstance(route, APIRoute)] == [None] * 5
