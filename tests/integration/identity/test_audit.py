"""What is audited: by the transaction of what it tells of, or counted, whoever is refused and however often."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from support.api import Api
from support.command import Answer, run_command

from slackwater.identity.audit import queries, refusals, service
from slackwater.identity.audit.refusals import MOST, OTHERS, Refusals, address_of
from slackwater.identity.scopes import KeyScope
from slackwater.identity.stored_keys import service as keys
from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database
from slackwater.telemetry.metrics import Metric, recorder


@pytest.fixture
async def api(serve: Callable[..., Any]) -> AsyncIterator[Api]:
    async with serve(
        database_keys=True, names=("alice", "bob"), max_pending_per_owner=1, max_concurrent_runs=0
    ) as api:
        yield api


async def audited(database: Database, **filters: Any) -> list[dict[str, Any]]:
    """The oldest first, without what differs each time."""
    rows = await service.list_(database, **filters)
    return [{key: row[key] for key in row if key not in ("audit_id", "at")} for row in reversed(rows)]


def row(action: str, owner: str | None, subject: Any, **more: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("actor", "key_id", "address", "status", "detail"))
    return {
        **nothing,
        "action": action,
        "via": "api",
        "count": 1,
        "owner": owner,
        "subject": str(subject),
        **more,
    }


async def made(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_who_cancels_and_deletes_is_audited_once_and_with_what(api: Api) -> None:
    secret, key = await keys.create(api.database, "alice", {KeyScope.RUN})
    alice = api.client(**{"x-api-key": secret})
    assistant = (await made(alice, "/assistants", graph_id="steps"))["assistant_id"]
    cron = (await made(alice, "/runs/crons", assistant_id="steps", schedule="0 0 1 1 *"))["cron_id"]
    threads = [(await made(alice, "/threads"))["thread_id"] for _ in range(2)]
    run = (await made(alice, f"/threads/{threads[0]}/runs", assistant_id="steps"))["run_id"]
    of_run = f"/threads/{threads[0]}/runs/{run}"

    for _ in range(2):  # the second time nothing is left to do
        await alice.post(f"{of_run}/cancel")
        await alice.delete(of_run)
        await alice.delete(f"/assistants/{assistant}")
        await alice.delete(f"/runs/crons/{cron}")
        await alice.delete(f"/threads/{threads[0]}")
        await alice.post("/threads/prune", json={"thread_ids": threads, "strategy": "delete"})
    for _ in range(2):
        await keys.revoke(api.database, key["key_id"])

    by = {"actor": "alice", "key_id": key["key_id"]}
    command = {"via": "command"}
    assert await audited(api.database) == [
        row("key.created", "alice", key["key_id"], **command),
        row(
            "run.cancelled",
            "alice",
            run,
            **by,
            detail="interrupt requested via POST /threads/{thread_id}/runs/{run_id}/cancel",
        ),
        row("run.deleted", "alice", run, **by),
        row("assistant.deleted", "alice", assistant, **by),
        row("cron.deleted", "alice", cron, **by),
        row("thread.deleted", "alice", threads[0], **by),
        row("thread.deleted", "alice", threads[1], **by),
        row("key.revoked", "alice", key["key_id"], **command),
    ]


async def test_what_another_owns_is_neither_done_nor_audited_and_nor_is_what_the_system_does(
    api: Api,
) -> None:
    alice, bob = api.client("alice"), api.client("bob")
    thread = (await made(alice, "/threads"))["thread_id"]
    run = (await made(alice, f"/threads/{thread}/runs", assistant_id="steps"))["run_id"]
    await bob.post(f"/threads/{thread}/runs/{run}/cancel")
    await bob.delete(f"/threads/{thread}/runs/{run}")
    await bob.delete(f"/threads/{thread}")
    await bob.post("/threads/prune", json={"thread_ids": [thread], "strategy": "delete"})
    # one run displaces another
    await made(alice, f"/threads/{thread}/runs", assistant_id="steps", multitask_strategy="interrupt")
    assert await audited(api.database) == []


async def test_many_that_are_cancelled_at_once_have_a_row_each(serve: Callable[..., Any]) -> None:
    async with serve(names=("alice",), max_concurrent_runs=0) as api:
        alice = api.client("alice")
        runs = {(await made(alice, "/runs", assistant_id="steps"))["run_id"] for _ in range(3)}
        for action in ("rollback", "interrupt"):
            await alice.post(f"/runs/cancel?action={action}", json={"status": "all"})
        rows = await audited(api.database)
        assert sorted(each["subject"] for each in rows) == sorted(runs)
        assert {(each["action"], each["actor"]) for each in rows} == {("run.cancelled", "alice")}


async def test_what_fails_is_not_audited(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what cannot be audited is not done."""
    await database.execute(
        "alter table slackwater.audit add constraint never check (action <> 'key.created')"
    )
    with pytest.raises(Exception, match="never"):
        await keys.create(database, "alice", {KeyScope.RUN})
    assert await keys.list_(database) == []


# Refusals


async def refused(api: Api) -> list[tuple[Any, ...]]:
    await api.services.refusals.stop(5)
    rows = await service.list_(api.database)
    assert {each["action"] for each in rows} == {"request.refused"}
    found: dict[tuple[Any, ...], int] = {}
    for each in rows:  # the minute may have changed meanwhile
        who = (each["status"], each["actor"], each["owner"], each["address"])
        found[who] = found.get(who, 0) + each["count"]
    return sorted((*who, count) for who, count in found.items())


async def test_whoever_is_refused_is_counted_with_what_is_known_of_them(api: Api) -> None:
    before = recorder.totals[Metric.REQUESTS_REFUSED]
    secret, _ = await keys.create(api.database, "reader", {KeyScope.READ})
    await api.database.execute("truncate slackwater.audit")
    for _ in range(3):
        assert (await api.client(peer="203.0.113.9").get("/threads/x")).status_code == 401
    assert (await api.client(peer="2001:db8::1:2").get("/threads/x")).status_code == 401
    reader = api.client(**{"x-api-key": secret})
    assert (await reader.post("/threads", json={})).status_code == 403
    alice = api.client("alice")
    await made(alice, "/runs", assistant_id="steps")
    assert (await alice.post("/runs", json={"assistant_id": "steps"})).status_code == 429
    assert (await alice.get("/threads/x")).status_code == 422
    assert await refused(api) == [
        (401, None, None, "2001:db8::/64", 1),
        (401, None, None, "203.0.113.9", 3),
        (403, "reader", "reader", "127.0.0.1", 1),
        (429, "alice", "alice", "127.0.0.1", 1),
    ]
    assert recorder.totals[Metric.REQUESTS_REFUSED] - before == 6


async def test_a_socket_and_a_page_of_another_machine_are_counted(serve: Callable[..., Any]) -> None:
    async with serve() as api:
        assert (await api.client(peer="203.0.113.9").get("/threads/x")).status_code == 403
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "websocket",
            "path": "/threads/x/stream",
            "headers": [],
            "scheme": "ws",
            "client": ("203.0.113.9", 1),
            "state": dict(api.state),
        }
        await api.app(scope, receive, send)
        assert sent[-1]["code"] == 4403
        assert await refused(api) == [(403, None, None, "203.0.113.9", 2)]


async def test_the_counts_of_processes_are_added_up(api: Api, database: Database) -> None:
    recorders = [Refusals(database) for _ in range(4)]
    for each in recorders:
        for n in range(50):
            each.count(401, {"client": (f"203.0.113.{n}", 1)})
    await asyncio.gather(*(each.stop(5) for each in recorders))
    found = await refused(api)
    assert [each[-1] for each in found] == [4] * 50


async def test_an_attacker_with_many_addresses_fills_neither_memory_nor_the_table(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    recorder = Refusals(database)
    for n in range(20_000):
        recorder.count(401 if n % 2 else 403, {"client": (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 1)})
    assert len(recorder._counts) == MOST + 2
    await recorder.stop(5)
    rows = await service.list_(database, limit=1000)
    assert len(rows) == MOST + 2
    assert sum(each["count"] for each in rows) == 20_000
    assert {each["status"]: each["count"] for each in rows if each["address"] == OTHERS} == {
        401: 10_000 - MOST // 2,
        403: 10_000 - MOST // 2,
    }


async def test_a_database_that_is_away_for_a_moment_loses_none_and_one_that_stays_away_is_said(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(refusals, "FLUSH_SECONDS", 0.01)
    store, away = queries.count, True

    async def count(database: Database, refused: Any) -> None:
        if away:
            raise refusals.DATABASE_UNAVAILABLE[0]("away")
        await store(database, refused)

    monkeypatch.setattr(queries, "count", count)
    recorder = Refusals(database)
    recorder.count(401, {"client": ("203.0.113.9", 1)})
    async with asyncio.timeout(15):
        while not caplog.records:
            await asyncio.sleep(0.01)
    away = False
    async with asyncio.timeout(15):
        while not await service.list_(database):
            await asyncio.sleep(0.01)
    assert [each["count"] for each in await service.list_(database)] == [1]

    away = True
    for _ in range(3):
        recorder.count(401, {"client": ("203.0.113.9", 1)})
    await recorder.stop(1)
    last = caplog.records[-1]
    assert (last.event, last.refusals) == ("audit.lost", 3)  # type: ignore[attr-defined]


async def test_memory_is_bounded_while_the_database_is_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, now = Refusals(database), 1_800_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    for n in range(100 * MOST):
        now += 60 / MOST
        recorder.count(401, {"client": (f"10.0.{n >> 8 & 255}.{n & 255}", 1)})
    assert len(recorder._counts) == refusals.WAITING
    recorder._counts.clear()
    await recorder.stop(1)


async def test_a_stop_stores_what_was_counted_and_leaves_no_task(
    serve: Callable[..., Any], database: Database
) -> None:
    async with serve(names=("alice",)) as api:
        await api.client().get("/threads/x")
    assert [each["status"] for each in await service.list_(database)] == [401]
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("audit")] == []


async def test_a_name_that_postgres_does_not_take_is_stored_as_far_as_it_goes(database: Database) -> None:
    recorder = Refusals(database)
    for name in ("a\0b", "\ud800", "x" * 5000):
        principal = SimpleNamespace(identity=name, key_id=None)
        caller = SimpleNamespace(principal=principal)
        recorder.count(403, {"client": None, refusals.CALLER: caller})
    await recorder.stop(5)
    found = {each["actor"] for each in await service.list_(database)}
    assert found == {"a\N{REPLACEMENT CHARACTER}b", "?", "x" * refusals.NAME}


def test_an_address_is_that_of_the_machine_or_of_its_network() -> None:
    for peer, shown in (
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "unknown"),
    ):
        assert address_of({"client": (peer, 1)}) == shown
    assert address_of({}) == "unknown"


# Retention, and the command


async def test_a_sweep_takes_away_what_is_old_in_pieces(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BATCH", 2)
    async with serve(audit_retention_days=2) as api:
        await api.database.execute(
            """insert into slackwater.audit (action, via, at)
               select 'key.created', 'command', now() - n * interval '12 hours' from generate_series(0, 10) n"""
        )
        await api.services.runtime.sweep()
        assert len(await service.list_(api.database)) == 4


@pytest.fixture
def command(tmp_path: Path, database_uri: str) -> Callable[..., Awaitable[Answer]]:
    return partial(asyncio.to_thread, partial(run_command, tmp_path, SLACKWATER_DATABASE_URI=database_uri))


async def test_the_command_lists_what_is_asked_for(
    command: Callable[..., Awaitable[Answer]], database: Database
) -> None:
    run = uuid7()
    await database.execute(
        """insert into slackwater.audit (action, actor, via, owner, subject, address, status, detail, count, at) values
           ('run.cancelled', 'alice', 'api', 'alice', %s, null, null, E'no\\x1b[31m', 1, now()),
           ('key.created', null, 'command', 'bob', 'k', null, null, null, 1, now() - interval '2 days'),
           ('request.refused', null, 'api', null, null, '203.0.113.9', 401, null, 7, now())""",
        [run],
    )
    shown = (await command("audit")).out
    assert "401 from 203.0.113.9, 7 in a minute" in shown
    assert "a command" in shown
    assert str(run) in shown
    assert "\x1b" not in shown
    for arguments, actions in (
        (("--owner", "bob"), ["key.created"]),
        (("--by", "alice"), ["run.cancelled"]),
        (("--action", "key.created", "--action", "run.cancelled"), ["run.cancelled", "key.created"]),
        (("--days", "1", "--limit", "1", "--action", "request.refused"), ["request.refused"]),
        (("--days", "1", "--owner", "bob"), []),
    ):
        listed = (await command("audit", *arguments, "--json")).json
        assert [each["action"] for each in listed] == actions, json.dumps(arguments)
