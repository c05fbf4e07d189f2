"""Every event of `events/` gives the documented answer, and what is delivered twice is done once."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.handler.scene import Scene, asked
from tests.support.emulator import LocalEnvironment, Reply
from tests.support.server import ROOT

EVENTS = Path(ROOT / "events")
EXAMPLE_KEY = "slackwater-example-key"


def event(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


def headers_of(reply: Reply) -> set[str]:
    """The names of an answer's headers, in whichever form the source wants them."""
    return {name.lower() for name in reply.payload.get("multiValueHeaders") or reply.payload["headers"]}


@pytest.fixture
async def environment(scene: Scene) -> LocalEnvironment:
    """On the example project, for whose graph the events ask, with the key that they send."""
    hashed = hashlib.sha256(EXAMPLE_KEY.encode()).hexdigest()
    return await scene.environment(
        env={
            "SLACKWATER_PROJECT": str(ROOT / "examples" / "digest"),
            "SLACKWATER_API_KEYS": f"{scene.variables['SLACKWATER_API_KEYS']},example:{hashed}",
        }
    )


async def test_every_event_gives_the_documented_answer(scene: Scene, environment: LocalEnvironment) -> None:
    for source in ("http_api_ok", "rest_api", "alb", "function_url"):
        reply = await environment.invoke(event(source))
        assert (reply.status, reply.body) == (200, {"ok": True, "services": {}}), source
        # AND the browser is told to stay with TLS, with which the gateway was called
        assert {"x-content-type-options", "strict-transport-security"} <= headers_of(reply), source
    reply = await environment.invoke(event("http_api_run"))
    assert reply.status == 200
    assert reply.body["run_id"]
    assert (await environment.invoke(event("scheduled"))).payload == {"task": "sweep", "taken_over": 0}
    assert (await environment.invoke(event("sweep"))).payload == {"task": "sweep", "taken_over": 0}
    assert (await environment.invoke(event("self_invoke"))).payload == {"task": "work"}
    assert (await environment.invoke(event("sqs"))).payload == {"batchItemFailures": []}
    assert (await environment.invoke(event("migrate"))).payload == {"task": "migrate", "applied": []}
    reply = await environment.invoke(event("unknown"))
    assert reply.payload["errorType"] == "UnknownEvent"
    assert "none that Slackwater handles" in reply.payload["errorMessage"]
    assert {path.stem for path in EVENTS.glob("*.json")} == {
        *("http_api_ok", "http_api_run", "rest_api", "alb", "function_url"),
        *("scheduled", "sweep", "self_invoke", "sqs", "migrate", "unknown", "scheduler_run"),
    }


async def test_an_event_that_is_delivered_twice_starts_one_run(
    scene: Scene, environment: LocalEnvironment
) -> None:
    first = await environment.invoke(event("scheduler_run"))
    again = await environment.invoke(event("scheduler_run"))
    assert first.payload == again.payload
    (row,) = scene.watcher.query("select * from slackwater.runs")
    assert (str(row["run_id"]), row["owner"]) == (first.payload["run_id"], "system")
    # AND when it comes once more after its run was over and deleted
    scene.watcher.query("delete from slackwater.runs returning run_id")
    late = await environment.invoke(event("scheduler_run"))
    assert late.payload == {"task": "run", "run_id": None, "thread_id": None}
    assert not scene.watcher.query("select * from slackwater.runs")


async def test_a_sweep_that_fails_keeps_nobody_from_the_runs_that_are_due(
    scene: Scene, environment: LocalEnvironment
) -> None:
    run = await scene.ask(
        environment, "POST", "/runs", {"assistant_id": "digest", "input": {}, "after_seconds": 1}
    )
    scene.watcher.query(
        "create function no() returns trigger language plpgsql as $$ begin raise 'no'; end $$"
    )
    scene.watcher.query(
        "create trigger no before delete on slackwater.idempotency_keys for each statement execute function no()"
    )
    await asyncio.sleep(1)
    reply = await environment.invoke(event("sweep"))
    assert reply.payload["errorType"] == "RaiseException"
    assert scene.row(run)["status"] not in ("pending", "running")


async def test_a_message_may_only_say_work_and_sweep(scene: Scene, environment: LocalEnvironment) -> None:
    (record,) = event("sqs")["Records"]
    bodies = {
        "fine": '{"task": "work"}',
        "fine, too": '{"task": "sweep"}',
        "a run": '{"task": "run", "assistant_id": "digest", "input": {}, "owner": "somebody"}',
        "a migration": '{"task": "migrate"}',
        "more": '{"task": "sweep", "force": true}',
        "a schedule": '{"source": "aws.events"}',
        "unknown": '{"task": "dance"}',
        "a list": '["work"]',
        "no json": "{",
    }
    records = [{**record, "messageId": name, "body": body} for name, body in bodies.items()]
    reply = await environment.invoke({"Records": records})
    failed = {item["itemIdentifier"] for item in reply.payload["batchItemFailures"]}
    assert failed == bodies.keys() - {"fine", "fine, too"}
    assert not scene.watcher.query("select * from slackwater.runs")
    # AND the log says which, and why
    refused = environment.lines("queue.refused")
    assert {line["message_id"] for line in refused} == failed
    assert "and nothing else" in refused[0]["message"]


async def test_an_event_that_makes_no_sense_is_an_error_that_says_so(environment: LocalEnvironment) -> None:
    wrong = ({"task": "dance"}, {"task": "run"}, {"task": "sweep", "force": 1}, {}, [], "text", None)
    for event in wrong:
        reply = await environment.invoke(event)
        assert reply.payload["errorType"] in ("UnknownEvent", "WrongTask"), event
        # AND the environment is not held until its time is up
        assert reply.done_ms < 10_000, event


async def test_without_the_key_nobody_is_served(environment: LocalEnvironment) -> None:
    request = asked("GET", "/threads/00000000-0000-0000-0000-000000000000")
    del request["headers"]["x-api-key"]
    assert (await environment.invoke(request)).status == 401


async def test_the_page_of_the_docs_is_served_there_too(environment: LocalEnvironment) -> None:
    for name, begins in (("swagger-ui.css", b".swagger-ui"), ("swagger-ui-bundle.js", b"/*! For license")):
        request = asked("GET", f"/docs/{name}")
        request["headers"]["accept-encoding"] = "gzip, br"
        reply = await environment.invoke(request)
        assert reply.status == 200
        assert reply.payload["isBase64Encoded"]
        assert gzip.decompress(base64.b64decode(reply.payload["body"])).startswith(begins)


async def test_a_named_stage_is_no_part_of_the_path(environment: LocalEnvironment) -> None:
    request = asked("GET", "/prod/ok")
    request["requestContext"]["stage"] = "prod"
    assert (await environment.invoke(request)).status == 200


async def test_on_an_old_schema_only_the_migration_works(scene: Scene, empty_database_uri: str) -> None:
    environment = await scene.environment(env={"SLACKWATER_DATABASE_URI": empty_database_uri})
    reply = await environment.invoke(asked("GET", "/ok"))
    assert reply.status == 503
    assert {"x-content-type-options", "content-security-policy"} <= headers_of(reply)
    assert (await environment.invoke({"task": "migrate"})).payload["applied"]
    assert (await environment.invoke(asked("GET", "/ok"))).status == 200


async def test_without_a_key_or_an_authorizer_nothing_is_served(scene: Scene) -> None:
    environment = await scene.environment(env={"SLACKWATER_API_KEYS": ""})
    assert (await environment.invoke(asked("GET", "/ok"))).status == 503
    (line, *_) = environment.lines("start.failed")
    assert "SLACKWATER_API_KEYS" in line["message"]


async def test_an_answer_that_lambda_could_not_give_back_is_an_error_that_says_so(
    environment: LocalEnvironment,
) -> None:
    # 1.2 MB of quotes are 2.4 MB in our JSON and 4.8 MB in the JSON around it: one such thread fits, two do not
    for _ in range(2):
        request = asked("POST", "/threads", {"metadata": {"text": '"' * 1_200_000}})
        assert (await environment.invoke(request)).status == 200
    reply = await environment.invoke(asked("POST", "/threads/search", {}))
    assert reply.status == 422
    assert "AWS Lambda can return only" in reply.body["detail"]


async def test_an_event_that_never_reaches_the_handler_does_not_hold_the_environment(
    environment: LocalEnvironment,
) -> None:
    # WHEN the runtime client cannot read it: the emulator cuts what is too long
    reply = await environment.invoke(asked("POST", "/threads", {"metadata": {"text": "x" * 7_000_000}}))
    assert reply.payload["errorType"] == "Runtime.UnmarshalError"
    assert reply.done_ms < 15_000  # of the 30 s that an invocation may take
    assert (await environment.invoke(asked("GET", "/ok"))).status == 200
