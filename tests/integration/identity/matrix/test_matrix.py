"""Every route × everybody who may ask: none, foreign, a key that reads, expired, revoked, the owner, an administrator, and those who are
logged in or have a token for scripts.

What has to come of a request follows from the route's rule in `slackwater.web.route_table`. A route that has no rule, or that nothing
here asks for, fails the first test.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import httpx
import pytest

from slackwater.identity.permissions import Permission
from slackwater.identity.scopes import KeyScope
from slackwater.identity.stored_keys import service as keys
from slackwater.main import create_app
from slackwater.postgres.pool import Database
from slackwater.protocols.a2a.models import OLD_NAMES, A2aMethod
from slackwater.protocols.events.models import CommandMethod
from slackwater.protocols.mcp.models import McpMethod
from slackwater.web.application import methods_and_path
from slackwater.web.route_table import WEBSOCKET, Feature
from tests.integration.identity.matrix.asks import ASKS, OPENED, Ask, Ids, Request
from tests.integration.identity.matrix.callers import Caller, Outcome, expected, with_key
from tests.integration.identity.matrix.logins import Logins, logins_of
from tests.integration.identity.matrix.ways import Answer, Way, by_events, by_http
from tests.integration.identity.matrix.world import (
    Things,
    difference,
    nothing,
    own_routes,
    project,
    rows_of,
    things_of,
    with_instructions,
)
from tests.support.amazon import object_store
from tests.support.emulator import environment_of
from tests.support.server import fleet_of

STATUS = {Outcome.REFUSED: 401, Outcome.FORBIDDEN: 403}


def served() -> set[str]:
    """Every route of the application, its own document's included, and of the project's application."""
    app = create_app()
    app.serve(Feature)
    routes = [*app.router.routes, *own_routes()]
    return {f"{method} {path}" for methods, path in map(methods_and_path, routes) for method in methods}


def test_there_is_a_request_for_each_route_and_each_method_of_a_protocol() -> None:
    assert {ask.route for ask in ASKS} == served()
    asked = {(ask.route, ask.what) for ask in ASKS if ask.what}
    assert asked == {
        *(("POST /mcp", method) for method in McpMethod),
        *(("POST /a2a/{assistant_id}", method) for method in (*A2aMethod, *OLD_NAMES)),
        *(("POST /threads/{thread_id}/commands", command) for command in CommandMethod),
    }
    known = nothing()
    assert {name for ask in ASKS for name in ask.names} <= known.keys()


@dataclass
class Matrix:
    """Sends everybody's requests, and notes what is not as it has to be."""

    database: Database
    way: Way
    callers: dict[str, Caller]
    """With keys."""
    logins: Logins
    things: Things = field(init=False)
    read: set[str] = field(default_factory=set)
    """The owner's words that were in an answer."""
    wrong: list[str] = field(default_factory=list)

    async def prepare(self) -> None:
        """Make what the owner has."""
        made = await things_of(self._as_owner, self.logins.things)
        self.things = await with_instructions(self.database, self.logins.owner, made)

    async def _as_owner(self, method: str, path: str, body: Any = None) -> Any:
        headers = {**self.callers["owner"].headers, "content-type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        answer = await self.way(Request(method, path, content, headers), False)
        assert answer.status in (200, 204), (method, path, answer)
        return json.loads(answer.text) if answer.text else None

    async def _send(self, ask: Ask, caller: Caller, ids: Ids) -> Answer:
        request = ask.filled(ids)
        kind = crc32(f"{ask} {caller.name}".encode())
        return await self.way(
            replace(request, headers={**request.headers, **caller.headers}, kind=kind), ask.endless
        )

    async def ask_as(self, caller: Caller, asks: Sequence[Ask]) -> None:
        """Send all requests of a caller."""
        if caller.changes:
            await self._ask_as_owner(caller, asks)
        else:
            await self._ask_as_other(caller, asks)

    async def _ask_as_other(self, caller: Caller, asks: Sequence[Ask]) -> None:
        """Send all requests of a caller who must change nothing of the owner's."""
        owner = self.logins.owner
        before = await rows_of(self.database, owner)
        for ask in asks:
            outcome = await self._check(ask, caller)
            # Whoever is let in nowhere is compared once, at the end.
            if not (caller.once or outcome is Outcome.REFUSED) or ask is asks[-1]:
                after = await rows_of(self.database, owner)
                if changed := difference(before, after):
                    self._note(ask, caller, f"has changed what is the owner's:\n{changed}")
                before = after

    async def _ask_as_owner(self, caller: Caller, asks: Sequence[Ask]) -> None:
        """Send all requests of a caller who may change what they name."""
        for ask in asks:
            await self._check(ask, caller)
            if ask.spends:
                await self.prepare()

    async def _check(self, ask: Ask, caller: Caller) -> Outcome:
        outcome = expected(ask, caller)
        answer = await self._send(ask, caller, self.things.ids)
        seen = {word for word in self.things.words if word in answer.all}
        if caller.owns:
            self.read |= {word.partition("-")[0] for word in seen}
        match outcome:
            case Outcome.REFUSED | Outcome.FORBIDDEN:
                right = answer.status == STATUS[outcome]
            case Outcome.NOT_THERE:
                right = answer.status == ask.hidden
            case Outcome.SERVED:
                fine = OPENED if ask.method == WEBSOCKET else ask.answer
                right = answer.status == fine if fine else 200 <= answer.status < 300
        if not right:
            wanted = (
                ask.hidden if outcome is Outcome.NOT_THERE else STATUS.get(outcome, ask.answer or "success")
            )
            self._note(ask, caller, f"{outcome.value}: {wanted} expected, and not {answer}")
        of_everybody = ask.permission is Permission.ACCOUNTS_MANAGE
        if not (outcome is Outcome.SERVED and (caller.owns or of_everybody)):
            # What the request itself says may be said back.
            told = seen - {word for word in seen if word in self._sent(ask)}
            if told:
                self._note(ask, caller, f"was told what is the owner's: {told} in {answer}")
        if outcome is Outcome.NOT_THERE and not ask.takes and (ask.of_accounts or not caller.once):
            absent = nothing()
            other = await self._send(ask, caller, absent)
            if (mine := comparable(answer, self.things.ids)) != (theirs := comparable(other, absent)):
                self._note(
                    ask, caller, f"learns that it is there:\n{mine}\nand of what is not there\n{theirs}"
                )
        return outcome

    def _sent(self, ask: Ask) -> str:
        request = ask.filled(self.things.ids)
        return f"{request.path} {request.body!r} {request.headers}"

    def _note(self, ask: Ask, caller: Caller, what: str) -> None:
        self.wrong.append(f"{ask} as {caller.name}: {what}")

    def verdict(self) -> None:
        """Fails with the first difference."""
        assert not self.wrong, f"{self.wrong[0]}\n({len(self.wrong)} in all)\n" + "\n".join(
            line.splitlines()[0][:200] for line in self.wrong
        )


def comparable(answer: Answer, ids: Mapping[str, str]) -> tuple[int, str]:
    """What an answer says, but for the ids and the time."""
    text = "\n".join(
        f"{name}: {value}" for name, value in answer.headers.items() if name not in ("date", "content-length")
    )
    text = f"{text}\n\n{answer.text}"
    for name, value in sorted(ids.items(), key=lambda item: -len(item[1])):
        text = text.replace(value, f"<{name}>")
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<id>", text)
    return answer.status, re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(\+00:00|Z)", "<time>", text)


@pytest.fixture
async def logins(database: Database) -> AsyncIterator[Logins]:
    async with logins_of(database) as logins:
        yield logins


@pytest.fixture
async def callers(database: Database, logins: Logins) -> dict[str, Caller]:
    """Everybody who has a key in the database, or none."""
    mine = logins.owner

    async def key(owner: str, *scopes: KeyScope) -> tuple[Any, str]:
        secret, row = await keys.create(database, "key", scopes)
        # No key can be made for an account, and so the matrix gives it one.
        await database.execute(
            "update slackwater.api_keys set owner = %s where key_id = %s", [owner, row["key_id"]]
        )
        return row["key_id"], secret

    async def holder(name: str, owner: str, *scopes: KeyScope) -> Caller:
        return with_key(name, (await key(owner, *scopes))[1], *scopes, owns=owner == mine)

    expired_id, expired = await key(mine, KeyScope.ADMIN)
    await database.execute(
        "update slackwater.api_keys set expires_at = clock_timestamp() where key_id = %s", [expired_id]
    )
    revoked_id, revoked = await key(mine, KeyScope.ADMIN)
    await keys.revoke(database, revoked_id)
    found = (
        Caller("none"),
        Caller("wrong key", {"x-api-key": "sw_wrong"}),
        Caller("expired", {"x-api-key": expired}),
        Caller("revoked", {"x-api-key": revoked}),
        await holder("foreign", "bob", KeyScope.RUN),
        await holder("foreign administrator", "root", KeyScope.ADMIN),
        await holder("read-only", mine, KeyScope.READ),
        await holder("metrics", mine, KeyScope.METRICS),
        await holder("owner", mine, KeyScope.RUN),
        await holder("administrator", mine, KeyScope.ADMIN),
    )
    return {caller.name: caller for caller in found}


NOT_BY_EVENTS = ("wrong key", "foreign administrator", "metrics")
"""They differ from others only behind what translates events."""

ENV = {
    "SLACKWATER_GATEWAY": "true",
    "SLACKWATER_DATABASE_KEYS": "true",
    "SLACKWATER_ACCOUNTS": "true",
    "SLACKWATER_SETUP": "open",
    # It is not asked: no request of the matrix begins a login.
    "SLACKWATER_OIDC_ISSUER": "https://id.example",
    "SLACKWATER_OIDC_CLIENT_ID": "slackwater",
    "SLACKWATER_OIDC_CLIENT_SECRET": "secret",
    "SLACKWATER_HEARTBEAT_SECONDS": "0.1",
    "SLACKWATER_STREAM_PAGE_SECONDS": "0.2",
    # What the owner has would change by itself: a thread without a name goes two minutes after its run.
    "SLACKWATER_SWEEP_SECONDS": "3600",
}


async def fill(matrix: Matrix, asks: Sequence[Ask], *, logged_in: bool) -> None:
    await matrix.prepare()
    for caller in matrix.callers.values():
        await matrix.ask_as(caller, asks)
    if logged_in:
        async for caller in matrix.logins.callers():
            await matrix.ask_as(caller, asks)
    matrix.verdict()
    # AND nothing was looked for in vain
    assert matrix.read == {word.partition("-")[0] for word in matrix.things.words}


async def test_over_http(
    database_uri: str, database: Database, callers: dict[str, Caller], logins: Logins, tmp_path: Path
) -> None:
    async with fleet_of(database_uri, tmp_path, project(tmp_path / "project"), ENV) as fleet:
        (server,) = await fleet.start()
        async with httpx.AsyncClient(base_url=server.url, timeout=30, verify=False) as client:
            await fill(Matrix(database, by_http(client), callers, logins), ASKS, logged_in=True)
    assert fleet.complaints == []


async def test_by_lambda_events(
    database_uri: str, database: Database, callers: dict[str, Caller], logins: Logins, tmp_path: Path
) -> None:
    with object_store() as store:
        env = {
            **ENV,
            **store,
            "SLACKWATER_DATABASE_URI": database_uri,
            "SLACKWATER_PROJECT": str(project(tmp_path / "project")),
        }
        async with environment_of(tmp_path / "environment.log", folder=tmp_path, env=env) as environment:
            # There are no WebSockets, and what a process has counted is not asked for there.
            asks = [ask for ask in ASKS if ask.method != WEBSOCKET and ask.route != "GET /metrics"]
            fewer = {name: caller for name, caller in callers.items() if name not in NOT_BY_EVENTS}
            await fill(Matrix(database, by_events(environment), fewer, logins), asks, logged_in=False)
