"""What the calls are made in: processes, a database, and everything that was said to whom."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from tests.fuzz import dump
from tests.fuzz.doors import Door, LambdaDoor, ServerDoor
from tests.fuzz.draw import Ask
from tests.fuzz.tenants import Cast, Casting, Tenant
from tests.fuzz.things import Sort, Thing, Things
from tests.fuzz.watch import Leak, Watch
from tests.fuzz.wire import Answer, Letter
from tests.support.amazon import object_store
from tests.support.emulator import environment_of
from tests.support.receiver import Receiver, receiver
from tests.support.server import Fleet, fleet_of

PROJECT = Path(__file__).parent / "project"

AT_ONCE = 24
"""Calls that wait for their answers."""
LISTENERS = 16
"""Streams that are open beside them."""
SETTINGS_KEYS = 12
LEARN_SECONDS = 60.0
REST_SECONDS = 60.0
TOLERATED = ('"event":"run.failed"',)
"""Runs that are given nothing to begin with fail, and say so."""
OVERLAP = 200
"""Of a stream's last part, searched again with the next one: a mark may be in both."""

_DIFFERS = frozenset(
    {
        "connection",
        "strict-transport-security",
        "date",
        "content-length",
        "x-request-id",
        "location",
        "content-location",
    }
)
"""Headers in which the answers about two ids may differ: after a stop the second one may come from elsewhere."""


@dataclass
class Example:
    """Those who call, and what they have made."""

    cast: Cast
    things: Things = field(default_factory=Things)
    kept: dict[str, str] = field(default_factory=dict)
    """Rows that nobody but others tries to change, as they were."""
    story: list[str] = field(default_factory=list)
    serial: int = 0


class World:
    """Everything, on one event loop that runs only while something is done."""

    def __init__(self, uri: str, folder: Path, nonce: str) -> None:
        self.uri, self.folder = uri, folder
        self.loop = asyncio.new_event_loop()
        self.database = psycopg.connect(self.uri, autocommit=True)
        self.casting = Casting(nonce, SETTINGS_KEYS)
        self.watch = Watch(nonce, self.casting.seen_by)
        self.calls: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.compared = 0
        self.doors: list[Door] = []
        self.casts: list[Cast] = []
        self._stack = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[asyncio.Task[None]] = []
        self._replacing: asyncio.Task[None] | None = None
        self._absent = 0
        self.servers: list[ServerDoor] = []
        try:
            self.run(self._open())
        except BaseException:
            self.close()
            raise

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    async def _open(self) -> None:
        self.hooks: Receiver = await self._stack.enter_async_context(receiver())
        env = {
            "SLACKWATER_DATABASE_URI": self.uri,
            "SLACKWATER_PROJECT": str(PROJECT),
            "SLACKWATER_API_KEYS": self.casting.api_keys,
            "SLACKWATER_DATABASE_KEYS": "true",
            "SLACKWATER_GATEWAY": "true",
            **self._stack.enter_context(object_store()),
            "SLACKWATER_GRACE_SECONDS": "5",
        }
        self.fleet: Fleet = await self._stack.enter_async_context(
            fleet_of(self.uri, self.folder, PROJECT, env)
        )
        log = self.folder / "lambda.log"
        options: dict[str, Any] = {"folder": PROJECT, "timeout_seconds": 60, "env": env}
        servers, environment = await asyncio.gather(
            self.fleet.start(2, tolerated=TOLERATED),
            self._stack.enter_async_context(environment_of(log, **options)),
        )
        self.servers = [ServerDoor(server) for server in servers]
        self.lambda_ = LambdaDoor(environment)
        # What everybody sees is nobody's.
        cast = self.casting.next()
        dump.keys(self.database, cast.stored)
        for path, body in (("/openapi.json", None), ("/assistants/search", {"limit": 1000})):
            method = "GET" if body is None else "POST"
            letter = Letter(
                method, path, json.dumps(body).encode() if body else None, cast.tenants[0].headers
            )
            answer = await self.servers[0].send(letter)
            assert answer.status == 200, answer.text
            self.watch.forget(self.watch.tokens(answer.content))
        await self.lambda_.send(Letter("GET", "/ok", None, cast.tenants[0].headers))

    # Examples

    def begin(self) -> Example:
        """New people, each with something that nobody but others will touch."""
        example = Example(self.casting.next())
        self.casts.append(example.cast)
        dump.keys(self.database, example.cast.stored)
        return example

    def launch(self, example: Example, tenant: Tenant, ask: Ask, door: int) -> None:
        """Make a call, and wait for no more than that there are not too many."""
        self.run(self._launch(example, tenant, ask, door))

    async def _launch(self, example: Example, tenant: Tenant, ask: Ask, door: int) -> None:
        if ask.endless:
            listener = asyncio.create_task(self._listen(example, tenant, ask, door), name=ask.path)
            self._listeners.append(listener)
            if len(self._listeners) > LISTENERS:
                await self._leave(self._listeners.pop(0))
            return
        self._tasks.add(asyncio.create_task(self._carry_out(example, tenant, ask, door), name=ask.path))
        if len(self._tasks) >= AT_ONCE:
            await self._some_end()
        else:
            await asyncio.sleep(0)

    async def _some_end(self) -> None:
        done, self._tasks = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    def settle(self) -> None:
        """Until every call has its answer. Raises what was wrong with one."""
        self.run(self._settle())

    async def _settle(self) -> None:
        while self._tasks:
            await self._some_end()
        if self._replacing is not None:
            await self._replacing
            self._replacing = None

    def end(self, example: Example, *, rest: bool = False) -> None:
        """Nobody listens any more, and nothing has changed that should not; `rest`: when all that is due has ended."""
        self.settle()
        if rest:
            self.run(self._rest(example))
        self.run(self._end())
        dump.check(self.database, self.watch, example)

    async def _rest(self, example: Example) -> None:
        async with asyncio.timeout(REST_SECONDS):
            while dump.due_runs(self.database, example):
                await asyncio.sleep(0.05)

    def abandon(self) -> None:
        """After a failure: nothing goes on."""
        self.run(self._abandon())

    async def _abandon(self) -> None:
        for task in (*self._tasks, *self._listeners):
            task.cancel()
        if self._tasks or self._listeners:
            await asyncio.wait([*self._tasks, *self._listeners])
        self._tasks, self._listeners = set(), []
        if self._replacing is not None:
            await self._replacing
            self._replacing = None

    async def _end(self) -> None:
        while self._listeners:
            await self._leave(self._listeners.pop())
        for got in self.hooks.got:
            self._hooked(got.line, got.body)
        self.hooks.got.clear()

    async def _leave(self, listener: asyncio.Task[None]) -> None:
        """Stop listening. Raises what was heard that should not have been."""
        listener.cancel()
        await asyncio.wait([listener])
        if not listener.cancelled():
            listener.result()

    def _hooked(self, line: str, body: bytes) -> None:
        """A webhook is its run's owner's."""
        mark = line.split()[1].rpartition("/")[2]
        names = self.watch.seen_by[mark]
        tenant = next(tenant for cast in self.casts for tenant in cast.tenants if tenant.name in names)
        self.watch.look(tenant, body, where="a webhook")
        self.calls["webhooks"] += 1

    # One call

    async def _carry_out(self, example: Example, tenant: Tenant, ask: Ask, door: int) -> None:
        try:
            ids = await self._ids(ask)
            remade = self._remade_by(tenant, ask)
            answer = await self._ask(tenant, ask, ids, door)
            if answer.status >= 400:
                for thing in remade:
                    thing.remade_by.discard(tenant)
            for thing in ask.makes:
                thing.learned(thing.learn(answer) if thing.learn else None)
            if ask.expects is not None and answer.status == 200:
                assert ask.expects(answer), (tenant.name, ask, answer.text)
            if ask.compared and (foreign := [n for n, thing in ask.foreign(tenant).items() if ids[n]]):
                await self._compare(tenant, ask, ids, foreign, answer, door)
        finally:
            for thing in ask.makes:
                if not thing.known.is_set():
                    thing.learned(None)

    def _remade_by(self, tenant: Tenant, ask: Ask) -> list[Thing]:
        """The threads that the call makes anew, if they are gone."""
        if ask.compared or not ask.stored:
            return []
        found = [thing for thing in ask.foreign(tenant).values() if thing.sort is Sort.THREAD]
        for thing in found:
            thing.remade_by.add(tenant)
        return found

    async def _ids(self, ask: Ask) -> dict[str, str]:
        ids = {}
        for name, thing in ask.things.items():
            async with asyncio.timeout(LEARN_SECONDS):
                await thing.known.wait()
            ids[name] = thing.id or self._nothing()
        return ids

    def _nothing(self) -> str:
        """An id of nothing."""
        return str(uuid4())

    async def _compare(
        self,
        tenant: Tenant,
        ask: Ask,
        ids: Mapping[str, str],
        foreign: Sequence[str],
        answer: Answer,
        door: int,
    ) -> None:
        """What is another's is answered like what is not there."""
        # What is one thing by two names stays one: whether a request contradicts itself is told before anything is looked up.
        nothings = {ids[name]: self._nothing() for name in foreign}
        absent = {**ids, **{name: nothings[ids[name]] for name in foreign}}
        expected = await self._ask(tenant, ask, absent, door)
        self.compared += 1
        said, should = _told(answer, ids), _told(expected, absent)
        # What others have deleted between the two questions tells nobody anything: it differs from nothing both before and after it.
        if said != should and _told(await self._ask(tenant, ask, ids, door), ids) == said:
            raise Leak(
                f"{tenant.name} can tell another's from nothing:\n  {ask.method} {ask.path} {ask.body}, of which {foreign}"
                f"\n  another's: {said}\n  nothing:   {should}"
            )

    async def _ask(self, tenant: Tenant, ask: Ask, ids: Mapping[str, str], door: int) -> Answer:
        letter = self._letter(tenant, ask, ids)
        self.calls["all"] += 1
        answer = await self._send(letter, door)
        self.statuses[answer.status] += 1
        assert answer.status != 500, (tenant.name, ask, answer.text)
        sent = self.watch.tokens(letter.said)
        where = f"the answer {answer.status} to {letter.method} {letter.path}"
        self.watch.look(tenant, answer.head, sent, where)
        self.watch.look(tenant, answer.content, sent, where)
        return answer

    def _letter(self, tenant: Tenant, ask: Ask, ids: Mapping[str, str]) -> Letter:
        path, body = ask.path, json.dumps(ask.body) if ask.body is not None else None
        for name, id_ in ids.items():
            path = path.replace(f"{{{name}}}", id_)
            body = body and body.replace(f"{{{name}}}", id_)
        text = body.encode() if body is not None else None
        if ask.stored:
            # What somebody has deleted, another one may make anew with its id; that is never compared.
            self.watch.sent(tenant, (text or b"") if ask.compared else path.encode() + (text or b""))
        return Letter(ask.method, path, text, {**tenant.headers, **ask.headers})

    async def _send(self, letter: Letter, door: int) -> Answer:
        """Through this door or, if it is being closed, through the next one."""
        while True:
            chosen = self._door(door)
            try:
                answer = await chosen.send(letter)
            except OSError:
                if not chosen.stopping:
                    raise
            else:
                if answer.status != 503 or not chosen.stopping:
                    return answer
            door += 1
            await asyncio.sleep(0.02)

    def _door(self, number: int) -> Door:
        """Mostly a server, which serves much more quickly."""
        if number % 25 == 24:
            return self.lambda_
        return self.servers[number % len(self.servers)]

    async def _listen(self, example: Example, tenant: Tenant, ask: Ask, number: int) -> None:
        ids = await self._ids(ask)
        letter = self._letter(tenant, ask, ids)
        door = self.servers[number % len(self.servers)]
        self.calls["all"] += 1
        self.calls["streams"] += 1
        sent = self.watch.tokens(letter.said)
        where = f"what {letter.method} {letter.path} says"
        last = b""
        with suppress(OSError, EOFError):
            async with aclosing(door.parts(letter, ask.says)) as parts:
                async for part in parts:
                    self.watch.look(tenant, last + part, sent, where)
                    last = (last + part)[-OVERLAP:]

    # Stops

    def stop(self, example: Example, number: signal.Signals) -> None:
        """Stop a server, while it works for everybody, and start another one."""
        self.run(self._stop(example, number))

    async def _stop(self, example: Example, number: signal.Signals) -> None:
        async with asyncio.timeout(REST_SECONDS):
            while not dump.working(self.database, example):
                await asyncio.sleep(0.02)
        stopped = self.servers.pop(0)
        stopped.server.send(number)
        self.calls[number.name] += 1
        # Until it has gone, it goes on being asked.
        self.servers.append(stopped)
        self._replacing = asyncio.create_task(self._replace(stopped), name="replace")

    async def _replace(self, stopped: ServerDoor) -> None:
        server = self.fleet.launch(tolerated=TOLERATED)
        await stopped.server.wait(30)
        self.servers.remove(stopped)
        await server.until_ready()
        self.servers.append(ServerDoor(server))
        stopped.wire.close()

    def figures(self) -> dict[str, int]:
        """What must have happened, or little was shown."""
        return {
            "calls": self.calls["all"],
            "compared": self.compared,
            "streams": self.calls["streams"],
            "webhooks": self.calls["webhooks"],
            "on Lambda": self.lambda_.calls,
            "by crons": sum(len(server.events("cron.fired")) for server in self.fleet.servers),
            **dump.figures(self.database),
        }

    # Its end

    def close(self) -> None:
        self.run(self._close())
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.run(asyncio.wait(left, timeout=30))
        self.loop.close()

    async def _close(self) -> None:
        await self._abandon()
        for door in self.servers:
            door.wire.close()
        self.database.close()
        await self._stack.aclose()


def _told(answer: Answer, ids: Mapping[str, str]) -> tuple[Any, ...]:
    """What an answer says, but for the ids."""
    text = answer.text
    for name, id_ in ids.items():
        text = re.sub(re.escape(id_), f"<{name}>", text, flags=re.IGNORECASE)
    headers = {name: value for name, value in answer.headers.items() if name not in _DIFFERS}
    return answer.status, text, headers
