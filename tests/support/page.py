"""A page in a browser that speaks to the routes of accounts: cookies, and the CSRF token that it reads out of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import Morsel, SimpleCookie
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

AUTH = "/api/v1/auth"
PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Cookie:
    """One that an answer sets or deletes."""

    value: str
    attributes: Mapping[str, Any]

    @classmethod
    def of(cls, morsel: Morsel[str]) -> Cookie:
        return cls(morsel.value, {name: value for name, value in morsel.items() if value})


def cookies_of(answer: httpx.Response) -> dict[str, Cookie]:
    """What `Set-Cookie` says, by the cookie's name. One name twice is a mistake."""
    found: dict[str, Cookie] = {}
    for line in answer.headers.get_list("set-cookie"):
        for name, morsel in SimpleCookie(line).items():
            assert name not in found
            found[name] = Cookie.of(morsel)
    return found


async def close_code(url: str, cookie: str, origin: str | None) -> int | None:
    """What a WebSocket to the stream of a thread at `url` is closed with at once; None if it stays open."""
    address = f"{url.replace('http', 'ws', 1)}/stream/events"
    async with connect(address, additional_headers={"cookie": cookie}, origin=origin) as socket:  # type: ignore[arg-type]
        try:
            await socket.send('{"id": 1, "method": "agent.getTree"}')
            await socket.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 1006
        return None


class Page:
    """Calls as the page does. `post(csrf=False)`: by the plain `fetch` that it uses to log in."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self.client = httpx.AsyncClient(base_url=url, headers=dict(headers), timeout=30)
        self.email = f"{uuid4().hex}@example.org"

    async def close(self) -> None:
        await self.client.aclose()

    def cookie(self, name: str) -> str | None:
        return next((cookie.value for cookie in self.client.cookies.jar if cookie.name == name), None)

    async def call(self, method: str, path: str, *, csrf: bool = True, **options: Any) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        token = self.cookie("csrf_token")
        if csrf and token is not None and method in ("POST", "PUT", "PATCH", "DELETE"):
            headers.setdefault("X-CSRF-Token", unquote(token))
        return await self.client.request(method, path, headers=headers, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.call("GET", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> httpx.Response:
        return await self.call("POST", path, json=json, **options)

    # What its forms send

    async def setup_status(self) -> httpx.Response:
        return await self.get(f"{AUTH}/setup-status")

    async def initialize(self, password: str = PASSWORD, **options: Any) -> httpx.Response:
        body = {"email": self.email, "password": password}
        return await self.post(f"{AUTH}/initialize", body, csrf=False, **options)

    async def register(self, password: str = PASSWORD, **options: Any) -> httpx.Response:
        body = {"email": self.email, "password": password}
        return await self.post(f"{AUTH}/register", body, csrf=False, **options)

    async def login(
        self, password: str = PASSWORD, email: str | None = None, **options: Any
    ) -> httpx.Response:
        form = {"username": email or self.email, "password": password}
        return await self.call("POST", f"{AUTH}/login/local", data=form, csrf=False, **options)

    async def me(self, **options: Any) -> httpx.Response:
        return await self.get(f"{AUTH}/me", **options)

    async def change_password(self, new: str, current: str = PASSWORD, **more: Any) -> httpx.Response:
        body = {"current_password": current, "new_password": new, **more}
        return await self.post(f"{AUTH}/change-password", body)

    async def logout(self, **options: Any) -> httpx.Response:
        return await self.call("POST", f"{AUTH}/logout", csrf=False, **options)

    async def token(self, password: str = PASSWORD) -> str:
        """A bearer token, as a script asks for it."""
        form = {"username": self.email, "password": password}
        answer = await self.client.post(f"{AUTH}/token", data=form)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token
