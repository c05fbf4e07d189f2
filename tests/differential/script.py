"""What a scenario does to a server, and what it gets back: the same calls, written down as they are answered."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

import httpx
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

CALL_SECONDS = 90
SALT = uuid4().hex[:8]
"""What a run of the scenarios leaves on a server is not found by the next one."""
UNTIL_SECONDS = 60
HEADERS = (
    "allow",
    "cache-control",
    "content-location",
    "content-type",
    "location",
    "retry-after",
    "x-accel-buffering",
    "x-pagination-next",
    "x-pagination-total",
)
"""The headers that clients look at."""


@dataclass
class Event:
    """One frame of a stream; frames without an event are none, as for the SDKs."""

    event: str
    data: Any
    id: str | None


@dataclass
class Answer:
    """What came back. `body` is JSON where it can be read as such, text otherwise, None when it is empty."""

    status: int
    headers: dict[str, str]
    body: Any = None
    events: list[Event] | None = None

    def __getitem__(self, key: Any) -> Any:
        return self.body[key]


@dataclass
class Step:
    """A call and its answer. `answer` is anything for what a client library returned."""

    label: str
    path: str
    answer: Any = None


_writes_down: ContextVar[bool] = ContextVar("writes_down", default=True)


class Verbs:
    """The methods of HTTP, in terms of `call`."""

    async def call(self, method: str, path: str, body: Any = ..., **options: Any) -> Answer:
        raise NotImplementedError

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: Any = ..., **options: Any) -> Answer:
        return await self.call("POST", path, body, **options)

    async def patch(self, path: str, body: Any = ..., **options: Any) -> Answer:
        return await self.call("PATCH", path, body, **options)

    async def put(self, path: str, body: Any = ..., **options: Any) -> Answer:
        return await self.call("PUT", path, body, **options)

    async def delete(self, path: str, body: Any = ..., **options: Any) -> Answer:
        return await self.call("DELETE", path, body, **options)


@dataclass
class Script(Verbs):
    """One scenario on one server."""

    url: str
    name: str
    steps: list[Step] = field(default_factory=list)
    called: set[tuple[str, str]] = field(default_factory=set)
    """Every method and path, those of the client library and of `until` as well."""
    _numbers: Any = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self._client = httpx.AsyncClient(
            base_url=self.url,
            timeout=CALL_SECONDS,
            # After a failure of its own the official server drops connections that are kept alive.
            headers={"connection": "close"},
            verify=False,  # no certificates to load
        )
        self._client.event_hooks["request"].append(self._called)

    @cached_property
    def sdk(self) -> LangGraphClient:
        """The stock client; what it calls counts, what it makes of the answers is written down with `note`."""
        client = get_client(url=self.url, api_key=None)
        client.http.client.event_hooks["request"].append(self._called)
        client.http.client.headers["connection"] = "close"
        return client

    async def _called(self, request: httpx.Request) -> None:
        self.called.add((request.method, request.url.path))

    async def close(self) -> None:
        await self._client.aclose()
        if "sdk" in vars(self):
            await self.sdk.aclose()

    def id(self, name: str) -> str:
        """An id of the scenario's own choice, the same on both servers but another one each time it is run."""
        return str(uuid5(NAMESPACE_URL, f"{self.tag}/{name}"))

    @property
    def tag(self) -> str:
        """What only this scenario's own resources are marked with."""
        return f"differential-{self.name}-{SALT}"

    # Calls

    async def call(
        self, method: str, path: str, body: Any = ..., *, label: str | None = None, **options: Any
    ) -> Answer:
        """Send and write down. `body` is sent as JSON, also null; bytes are sent as they are."""
        step = self._step(label or f"{method} {path.partition('?')[0]}", path)
        step.answer = answer = await self._send(method, path, body, **options)
        return answer

    async def head(
        self,
        method: str,
        path: str,
        body: Any = ...,
        *,
        until: Callable[[list[Event]], bool],
        opened: asyncio.Event | None = None,
        **options: Any,
    ) -> list[Event]:
        """The events of a stream until `until` says that they are enough; then leave. `opened` is set at its headers."""
        step = self._step(f"{method} {path.partition('?')[0]}", path)
        async with (
            asyncio.timeout(UNTIL_SECONDS),
            self._client.stream(method, path, **_content(body), **options) as response,
        ):
            if opened is not None:
                opened.set()
            text, events = "", list[Event]()
            async for part in response.aiter_text():
                text += part
                events = parse(text)
                if until(events):
                    break
        step.answer = Answer(response.status_code, shown(response.headers), None, events)
        return events

    async def ask(self, method: str, path: str, body: Any = ..., **options: Any) -> Answer:
        """Send, and do not write down: what is needed to go on but is not what the scenario is about."""
        return await self._send(method, path, body, **options)

    async def until(self, path: str, enough: Callable[[Any], bool]) -> Any:
        """Look again and again until `enough` says so of the body; nothing is written down."""
        deadline = time.monotonic() + UNTIL_SECONDS
        while True:
            body = (await self._send("GET", path)).body
            if enough(body):
                return body
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: {path} still says {body}")
            await asyncio.sleep(0.1)

    async def until_status(self, run: str, *wanted: str) -> Any:
        """Until the run at this path has one of these statuses."""
        return await self.until(run, lambda body: body.get("status") in wanted)

    async def until_idle(self, thread_id: str) -> Any:
        return await self.until(f"/threads/{thread_id}", lambda body: body.get("status") != "busy")

    async def thread(self, **body: Any) -> str:
        """A new thread; its path is written down as `/threads/<thread_id>`."""
        return str((await self._send("POST", "/threads", body))["thread_id"])

    @asynccontextmanager
    async def unrecorded(self) -> AsyncIterator[None]:
        """What is called in here is not written down; what other tasks call meanwhile is."""
        before = _writes_down.set(False)
        yield
        _writes_down.reset(before)

    def note(self, label: str, value: Any) -> None:
        """Write down what a client library made of it."""
        self._step(label, "").answer = value

    def _step(self, label: str, path: str) -> Step:
        step = Step(f"{next(self._numbers)} {label}", path)
        if _writes_down.get():
            self.steps.append(step)
        return step

    async def _send(self, method: str, path: str, body: Any = ..., **options: Any) -> Answer:
        try:
            response = await self._client.request(method, path, **_content(body, options), **options)
        except httpx.HTTPError as error:
            return Answer(0, {}, f"no answer: {type(error).__name__}")
        return read(response)


def _content(body: Any, options: dict[str, Any] | None = None) -> dict[str, Any]:
    if body is ...:
        return {}
    options = {} if options is None else options
    headers = {"content-type": "application/json", **(options.pop("headers", None) or {})}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return {"content": content, "headers": headers}


def shown(headers: httpx.Headers) -> dict[str, str]:
    return {name: headers[name] for name in HEADERS if name in headers}


def read(response: httpx.Response) -> Answer:
    answer = Answer(response.status_code, shown(response.headers))
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        answer.events = parse(response.text)
    elif response.content:
        try:
            answer.body = response.json()
        except ValueError:
            answer.body = response.text
    return answer


def parse(text: str) -> list[Event]:
    """The whole events of a stream. A frame that is not complete, or without event and data, is none."""
    events = []
    *blocks, _ = text.replace("\r\n", "\n").split("\n\n")
    for block in blocks:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
        if "event" in fields or "data" in fields:
            data = json.loads(fields["data"]) if fields.get("data") else None
            events.append(Event(fields.get("event", ""), data, fields.get("id")))
    return events
