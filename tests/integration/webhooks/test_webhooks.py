"""Who asked for it is told of a run's end: once it is written, signed, and whatever becomes of the process that ended it."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.api import Api
from support.receiver import HANG, Receiver, receiver

from slackwater.kit.budget import Budget
from slackwater.postgres.pool import Database
from slackwater.runtime.execution.outbox import NoOutbox
from slackwater.webhooks import address, delivery
from slackwater.webhooks.delivery import Deliveries
from slackwater.webhooks.policy import Policy
from tests.support.server import fleet_of

GRAPHS = Path(__file__).parents[2] / "graphs"
SECRET = "a secret that both know"

LOOPBACK = Policy(loopback=True)


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    async with receiver() as one:
        yield one


async def start(
    http: httpx.AsyncClient, hook: Receiver, *, wait: bool = True, **fields: Any
) -> dict[str, Any]:
    """A run without a thread that tells the receiver; ended, if `wait`."""
    body = {"assistant_id": "echo", "input": {"text": "a"}, "webhook": hook.url, **fields}
    answer = await http.post("/runs", json=body)
    assert answer.status_code == 200, answer.text
    run: dict[str, Any] = answer.json()
    if wait:
        await http.get(f"/threads/{run['thread_id']}/runs/{run['run_id']}/join")
    return run


async def rows(database: Database) -> list[dict[str, Any]]:
    return await database.fetch("select * from slackwater.webhooks order by created_at")


async def until_rows(database: Database, condition: Any, timeout: float = 15) -> list[dict[str, Any]]:
    async with asyncio.timeout(timeout):
        while not condition(found := await rows(database)):
            await asyncio.sleep(0.02)
    return found


async def now_due(database: Database) -> None:
    """The pause, or the lease of whoever died, is over."""
    await database.execute("update slackwater.webhooks set due_at = now(), claimed_until = null")


async def test_the_run_is_told_with_its_values_and_its_times(http: httpx.AsyncClient, hook: Receiver) -> None:
    thread = (await http.post("/threads", json={})).json()["thread_id"]
    run = (
        await http.post(
            f"/threads/{thread}/runs",
            json={
                "assistant_id": "echo",
                "input": {"text": "w"},
                "metadata": {"m": "1"},
                "webhook": f"{hook.url}?x=1",
            },
        )
    ).json()
    assert run["kwargs"]["webhook"] == f"{hook.url}?x=1"
    (got,) = await hook.until(1)
    assert got.line == "POST /hook?x=1 HTTP/1.1"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{hook.port}"
    assert "webhook-signature" not in got.headers
    told = got.json
    assert got.id == told["run_id"] == run["run_id"]
    assert (told["thread_id"], told["status"], told["values"]["echo"]) == (thread, "success", "w")
    assert told["metadata"]["m"] == "1"
    assert told["created_at"] == run["created_at"] <= told["run_started_at"] <= told["run_ended_at"]
    assert told["run_ended_at"] <= told["webhook_sent_at"]
    assert "error" not in told
    # It had ended for everybody else, too.
    assert (await http.get(f"/threads/{thread}/runs/{run['run_id']}")).json()["status"] == "success"


@pytest.mark.parametrize("path", ["/runs/wait", "/runs/stream", "/runs/batch", "/threads/{}/runs/wait"])
async def test_every_way_to_start_a_run_takes_a_webhook(
    api: Api, http: httpx.AsyncClient, hook: Receiver, path: str
) -> None:
    thread = (await http.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": "echo", "input": {"text": "a"}, "webhook": hook.url}
    answer = await http.post(path.format(thread), json=[body] if path.endswith("batch") else body)
    assert answer.status_code == 200
    (got,) = await hook.until(1)
    assert got.json["status"] == "success"
    await until_rows(api.database, lambda found: not found)
    assert len(hook.got) == 1


async def test_failed_cancelled_and_rolled_back_runs_are_told(
    api: Api, http: httpx.AsyncClient, hook: Receiver
) -> None:
    await start(http, hook, assistant_id="fail", input={})
    (failed,) = await hook.until(1)
    assert failed.json["status"] == "error"
    assert set(failed.json["error"]) == {"error", "message", "node"}
    thread = (await http.post("/threads", json={})).json()["thread_id"]
    for count, (action, status, after) in enumerate(
        [("interrupt", "interrupted", 0), ("rollback", "rollback", 0), ("rollback", "rollback", 3600)],
        start=2,
    ):
        body = {
            "assistant_id": "steps",
            "input": {"n": 50, "sleep": 0.2},
            "webhook": hook.url,
            "after_seconds": after,
        }
        run = (await http.post(f"/threads/{thread}/runs", json=body)).json()
        await http.post(f"/threads/{thread}/runs/{run['run_id']}/cancel?wait=true&action={action}")
        got = (await hook.until(count))[-1].json
        assert (got["run_id"], got["status"]) == (run["run_id"], status)
    await until_rows(api.database, lambda found: not found)


async def test_a_secret_signs(serve: Any, hook: Receiver) -> None:
    async with serve(webhook_secret=SECRET) as api:
        await start(api.client(), hook)
        (got,) = await hook.until(1)
    assert got.signed_with(SECRET.encode())
    assert not got.signed_with(b"another")


async def test_what_nobody_took_is_sent_again_with_the_same_id(
    api: Api, http: httpx.AsyncClient, hook: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    # GIVEN a receiver that is down
    await hook.down()
    run = await start(http, hook)
    (row,) = await until_rows(api.database, lambda found: found and found[0]["trouble"])
    assert (row["attempts"], row["claimed_until"], row["given_up_at"]) == (1, None, None)
    # WHEN it is up again, and busy at first, and sends us elsewhere after that
    await hook.up()
    hook.answers += [503, 302]
    hook.headers = f"location: {hook.url}/elsewhere\r\n"
    for attempts in (2, 3):
        await now_due(api.database)
        await api.services.runtime.sweep()
        await until_rows(
            api.database,
            lambda found, n=attempts: found[0]["attempts"] == n and not found[0]["claimed_until"],
        )
    await now_due(api.database)
    await api.services.runtime.sweep()
    # THEN it has been told, of the same delivery each time, and at no other address
    await until_rows(api.database, lambda found: not found)
    assert [got.id for got in hook.got] == [run["run_id"]] * 3
    assert {got.line for got in hook.got} == {"POST /hook HTTP/1.1"}
    assert [r.event for r in caplog.records if hasattr(r, "receiver")] == ["webhook.put_off"] * 3


async def test_it_is_given_up_in_the_end_and_kept(
    api: Api, http: httpx.AsyncClient, hook: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    hook.answers += [500] * 20
    await start(http, hook)
    await hook.until(1)
    await until_rows(api.database, lambda found: found[0]["trouble"])
    await api.database.execute(
        "update slackwater.webhooks set attempts = %s, due_at = now()", [delivery.MAX_ATTEMPTS - 1]
    )
    await api.services.runtime.sweep()
    (row,) = await until_rows(api.database, lambda found: found[0]["given_up_at"])
    assert (row["trouble"], row["attempts"]) == ("answered 500", delivery.MAX_ATTEMPTS)
    await api.database.execute("update slackwater.webhooks set due_at = now() - interval '1 day'")
    await api.services.runtime.sweep()
    await api.services.runtime.outbox.sent(5)
    assert len(hook.got) == 2
    assert "webhook.given_up" in [getattr(record, "event", "") for record in caplog.records]


async def test_a_process_that_dies_after_the_end_of_a_run_leaves_the_telling_to_a_sweep(
    serve: Any, hook: Receiver
) -> None:
    async with serve() as one, serve() as other:
        # GIVEN one that does nothing any more once a run's end is written
        one.services.runtime.outbox = NoOutbox()
        run = await start(one.client(), hook)
        assert [str(row["run_id"]) for row in await rows(one.database)] == [run["run_id"]]
        # WHEN another sweeps
        await other.services.runtime.sweep()
        # THEN the receiver is told
        (got,) = await hook.until(1)
        assert got.id == run["run_id"]
        await until_rows(other.database, lambda found: not found)


async def test_two_sweeps_at_once_deliver_once(database: Database, serve: Any, hook: Receiver) -> None:
    async with serve() as api:
        api.services.runtime.outbox = NoOutbox()
        for _ in range(30):
            await start(api.client(), hook)
        outboxes = [Deliveries(database, LOOPBACK) for _ in range(4)]
        await asyncio.gather(*(outbox.sweep() for outbox in outboxes))
        await until_rows(database, lambda found: not found)
        await asyncio.gather(*(outbox.stop(5) for outbox in outboxes))
    assert len(hook.got) == len({got.id for got in hook.got}) == 30


async def test_what_is_for_a_chat_that_this_process_does_not_know_is_left_to_others(
    database: Database,
) -> None:
    await database.execute(
        """insert into slackwater.webhooks (run_id, thread_id, owner, url, run)
           select gen_random_uuid(), gen_random_uuid(), 'ann', 'channel:gone', '{"status": "success"}'"""
    )
    outbox = Deliveries(database, LOOPBACK)
    await outbox.sweep()
    await outbox.sent(5)
    (row,) = await rows(database)
    assert (row["attempts"], row["claimed_until"]) == (0, None)
    # AND when there have been no others for long, it is forgotten
    await database.execute("update slackwater.webhooks set due_at = now() - interval '31 days'")
    await outbox.sweep()
    await outbox.stop(5)
    assert await rows(database) == []


async def test_what_a_stale_sender_says_counts_for_nothing(
    database: Database, serve: Any, hook: Receiver
) -> None:
    async with serve() as api:
        api.services.runtime.outbox = NoOutbox()
        await start(api.client(), hook)
        hook.answers += [HANG]
        slow, other = Deliveries(database, LOOPBACK), Deliveries(database, LOOPBACK)
        await slow.sweep()
        await hook.until(1)
        # WHEN its lease is over, and another has claimed the delivery
        await now_due(database)
        hook.answers += [HANG]
        await other.sweep()
        await hook.until(2)
        # THEN what becomes of the first attempt changes nothing
        (before,) = await rows(database)
        await slow.stop(0)
        assert await rows(database) == [before]
        await other.stop(0)
        (row,) = await until_rows(database, lambda found: not found[0]["claimed_until"])
        assert (row["claimed_until"], row["attempts"]) == (None, 1)


async def test_a_pause_waits_a_little_and_lets_go(database: Database, serve: Any, hook: Receiver) -> None:
    async with serve() as api:
        api.services.runtime.outbox = NoOutbox()
        await start(api.client(), hook)
        hook.answers += [HANG]
        outbox = Deliveries(database, LOOPBACK)
        outbox.nudge()
        await hook.until(1)
        await outbox.sent(0.5)
        (row,) = await until_rows(database, lambda found: not found[0]["claimed_until"])
        assert (row["claimed_until"], row["attempts"]) == (None, 0)
        # AND it goes on after that
        outbox.nudge()
        await outbox.sent(5)
        assert len(hook.got) == 2
        assert not await rows(database)


async def test_a_name_is_asked_once_and_its_address_is_the_one_that_is_called(
    database: Database, serve: Any, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever serves the name could otherwise say another address the second time."""
    asked: list[str] = []

    async def lookup(host: str, port: int) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    async with serve() as api:
        api.services.runtime.outbox = NoOutbox()
        url = f"http://hook.example:{hook.port}/hook"
        await start(api.client(), hook, webhook=url)
        monkeypatch.setattr(address, "lookup", lookup)
        # WHEN loopback is not allowed
        strict = Deliveries(database, Policy())
        strict.nudge()
        await strict.stop(5)
        # THEN nobody is called, however harmless the name
        (row,) = await rows(database)
        assert row["trouble"] == "hook.example is 127.0.0.1, which is loopback"
        assert not hook.got
        # AND where it is, that address is
        asked.clear()
        await now_due(database)
        loose = Deliveries(database, LOOPBACK)
        loose.nudge()
        await loose.stop(5)
    (got,) = hook.got
    assert asked == ["hook.example"]
    assert got.headers["host"] == f"hook.example:{hook.port}"


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate of the name, signed by itself, and a server's context with it."""
    key, file = folder / f"{name}.key", folder / f"{name}.pem"
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        key,
        "-out",
        file,
        *subject,
    ]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file, key)
    return file, context


async def test_a_certificate_has_to_be_the_names(
    database: Database, serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lookup(host: str, port: int) -> list[Any]:
        # The first is nobody's.
        return [(2, 1, 6, "", ("127.0.0.9", port)), (2, 1, 6, "", ("127.0.0.1", port))]

    file, context = certificate(tmp_path, "hook.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    hook = Receiver(tls=context)
    await hook.up()
    async with serve() as api:
        api.services.runtime.outbox = NoOutbox()
        for name in ("other.example", "hook.example"):
            await start(api.client(), hook, webhook=f"https://{name}:{hook.port}/{name}")
        monkeypatch.setattr(address, "lookup", lookup)
        outbox = Deliveries(database, LOOPBACK)
        outbox.nudge()
        await outbox.stop(8)
        (row,) = await rows(database)
    await hook.down()
    assert "other.example" in row["url"]
    assert "certificate" in row["trouble"]
    assert [got.line for got in hook.got] == ["POST /hook.example HTTP/1.1"]


async def test_a_pause_sends_what_it_can_before_the_freeze(serve: Any, hook: Receiver) -> None:
    async with serve() as api:
        runtime = api.services.runtime
        hook.answers += [200, HANG]
        await start(api.client(), hook)
        await start(api.client(), hook)
        began = time.monotonic()
        await runtime.pause(Budget.of(3, drain_reserve=1, hard_reserve=0.3), "invocation over")
        assert time.monotonic() - began < 10
        # Nothing is in flight, and what was not taken is due.
        assert len(hook.got) == 2
        (row,) = await rows(api.database)
        assert (row["claimed_until"], row["attempts"]) == (None, 0)
        # AND the next window's sweep sends it.
        runtime.open_window(time.monotonic() + 60)
        await runtime.sweep()
        await until_rows(api.database, lambda found: not found)


async def test_fields_and_headers_of_the_project(database: Database, serve: Any, hook: Receiver) -> None:
    async with serve() as api:
        api.services.runtime.outbox = NoOutbox()
        run = await start(api.client(), hook)
        policy = Policy.of(
            {
                "url": {"disable_loopback": False, "require_https": False},
                "headers": {"X-From": "us"},
                "allowed_fields": ["run_id", "status"],
            }
        )
        outbox = Deliveries(database, policy)
        outbox.nudge()
        await outbox.stop(5)
    (got,) = hook.got
    assert got.json == {"run_id": run["run_id"], "status": "success"}
    assert got.headers["x-from"] == "us"


async def test_a_header_with_a_secret_goes_to_the_domains_that_are_named_and_by_https(
    database: Database, serve: Any, hook: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lookup(host: str, port: int) -> list[Any]:
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    file, context = certificate(tmp_path, "hook.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    named = Receiver(tls=context)
    await named.up()
    async with serve() as api:
        api.services.runtime.outbox = NoOutbox()
        # GIVEN runs that were admitted before the project had such a header
        told = await start(api.client(), hook, webhook=f"https://hook.example:{named.port}/hook")
        await start(api.client(), hook)
        monkeypatch.setattr(address, "lookup", lookup)
        policy = Policy.of(
            {
                "url": {
                    "disable_loopback": False,
                    "require_https": False,
                    "allowed_domains": ["hook.example", "127.0.0.1"],
                },
                "headers": {"Authorization": "Bearer ${{ env.LG_WEBHOOK_TOKEN }}"},
            },
            {"LG_WEBHOOK_TOKEN": "t0k3n"},
        )
        outbox = Deliveries(database, policy)
        outbox.nudge()
        await outbox.stop(8)
        (row,) = await rows(database)
    await named.down()
    # THEN it goes where it may, and is sent to nobody else
    (got,) = named.got
    assert (got.id, got.headers["authorization"]) == (told["run_id"], "Bearer t0k3n")
    assert hook.got == []
    assert "holds a secret (Authorization)" in row["trouble"]


async def test_a_webhook_that_would_be_sent_a_secret_is_refused_and_leaves_nothing(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LG_WEBHOOK_TOKEN", "t0k3n")
    (tmp_path / "graphs.py").write_text((GRAPHS / "graphs.py").read_text())
    project = {
        "graphs": {"echo": "./graphs.py:echo"},
        "webhooks": {"headers": {"X-Token": "${{ env.LG_WEBHOOK_TOKEN }}"}},
    }
    (tmp_path / "langgraph.json").write_text(json.dumps(project))
    async with serve(project=tmp_path) as api:
        body = {"assistant_id": "echo", "input": {"text": "a"}, "webhook": "https://example.com/hook"}
        for path, sent in (
            ("/runs", body),
            ("/runs/batch", [body]),
            ("/runs/crons", {**body, "schedule": "0 5 1 1 *"}),
        ):
            answer = await api.client().post(path, json=sent)
            assert answer.status_code == 422
            assert "domains that webhooks.url.allowed_domains names" in answer.json()["detail"]
            assert "t0k3n" not in answer.text
        assert await api.database.fetch("select run_id from slackwater.runs") == []
        assert await api.database.fetch("select cron_id from slackwater.crons") == []


async def test_the_signed_body_says_whose_run_it_is(serve: Any, hook: Receiver) -> None:
    async with serve(names=("alice", "bob"), webhook_secret=SECRET) as api:
        runs = {name: await start(api.client(name), hook) for name in ("alice", "bob")}
        told = {got.id: got for got in await hook.until(2)}
    for name, run in runs.items():
        got = told[run["run_id"]]
        assert got.signed_with(SECRET.encode())
        assert got.json["owner"] == name


BAD_URLS = {
    "": "webhook: ",
    "/relative": "webhook: a path on this server",
    "//host/x": "Webhook must use https or http",
    "ftp://example.com/": "Webhook must use https or http",
    "https://": "Invalid webhook hostname ''",
    "https://user:secret@example.com/": "Webhook URL must not contain",
    "https://exa mple.com/": "webhook: must be an absolute URL",
    "https://example.com:99999/": "webhook: ",
    "http://169.254.169.254/latest/meta-data": "Webhook host blocked",
    "http://[fd00:ec2::254]/": "Webhook host blocked",
    "http://10.0.0.1/": "Webhook host blocked",
    "http://metadata.google.internal/": "Webhook host blocked",
    "http://db.default.svc.cluster.local/": "Webhook host blocked",
    "https://example.com/" + "x" * 3000: "Webhook URL too long",
}


async def test_a_bad_url_is_refused_before_anything_is_written(
    api: Api, http: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    for url, sentence in BAD_URLS.items():
        for path in ("/runs", "/runs/wait", "/runs/batch", "/threads/{}/runs", "/threads/{}/runs/stream"):
            with subtests.test(url=url[:60], path=path):
                body = {"assistant_id": "echo", "input": {}, "webhook": url, "if_not_exists": "create"}
                path = path.format("01890a5d-ac96-774b-bcce-b302099a8057")
                answer = await http.post(path, json=[body] if path.endswith("batch") else body)
                assert answer.status_code == 422
                assert sentence in answer.json()["detail"]
    assert not await api.database.fetch("select 1 from slackwater.runs")
    assert not await api.database.fetch("select 1 from slackwater.threads")


@pytest.mark.drill
@pytest.mark.parametrize("how", ["sigterm", "sigkill"])
async def test_a_process_that_ends_during_a_delivery_leaves_it_to_the_next(
    database_uri: str, database: Database, tmp_path: Path, hook: Receiver, how: str
) -> None:
    hook.answers += [HANG]
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(fleet_of(database_uri, tmp_path, GRAPHS))
        (first,) = await fleet.start()
        async with httpx.AsyncClient(base_url=first.url, timeout=15) as client:
            run = await start(client, hook)
        # GIVEN a receiver that has the request and does not answer
        await hook.until(1)
        # WHEN the process is told to go
        getattr(first, how)()
        code = await first.wait()
        (row,) = await rows(database)
        if how == "sigterm":
            # THEN it does not stay for it, and the delivery is due at once
            assert code == 0
            assert (row["claimed_until"], row["attempts"]) == (None, 0)
        else:
            assert (row["claimed_until"] is not None, row["attempts"]) == (True, 1)
            await now_due(database)
        await fleet.start()
        (one, other) = await hook.until(2)
        assert one.id == other.id == run["run_id"]
        await until_rows(database, lambda found: not found)


@pytest.mark.drill
@pytest.mark.parametrize("how", ["sigterm", "sigkill"])
async def test_every_run_of_a_process_that_ends_is_told_once_it_has_ended(
    database_uri: str, database: Database, tmp_path: Path, hook: Receiver, how: str
) -> None:
    async with fleet_of(database_uri, tmp_path, GRAPHS) as fleet:
        first, second = await fleet.start(2)
        # GIVEN runs of all lengths, on both, that end while one of the processes does
        runs = {}
        async with (
            httpx.AsyncClient(base_url=first.url, timeout=15) as one,
            httpx.AsyncClient(base_url=second.url, timeout=15) as other,
        ):
            for n in range(12):
                body = {"assistant_id": "steps", "input": {"n": 1 + n % 6, "sleep": 0.15}}
                run = await start((one, other)[n % 2], hook, wait=False, **body, on_completion="keep")
                runs[run["run_id"]] = 1 + n % 6
        await asyncio.sleep(0.4)
        getattr(first, how)()
        # THEN each of them is told of, with what it has come to
        async with asyncio.timeout(40):
            while {got.id for got in hook.got} != runs.keys():
                if how == "sigkill":  # nobody waits for the whole lease of a delivery
                    await database.execute(
                        "update slackwater.webhooks set claimed_until = null "
                        "where claimed_until < now() + interval '44 seconds'"
                    )
                await asyncio.sleep(0.05)
        for got in hook.got:
            assert got.json["status"] == "success"
            assert len(got.json["values"]["log"]) == runs[got.id]
        await until_rows(database, lambda found: not found)
        if how == "sigterm":
            assert await first.wait() == 0
