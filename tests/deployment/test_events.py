"""The files of `events/`: each is what its source sends, and the handler takes each for what it is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from mangum import Mangum

from slackwater_lambda import tasks
from slackwater_lambda.events import EventKind, UnknownEvent, kind_of

EVENTS = Path(__file__).parents[2] / "events"

KINDS = {
    "http_api_ok": EventKind.REQUEST,
    "http_api_run": EventKind.REQUEST,
    "rest_api": EventKind.REQUEST,
    "alb": EventKind.REQUEST,
    "function_url": EventKind.REQUEST,
    "sqs": EventKind.QUEUE,
    "scheduled": EventKind.TASK,
    "scheduler_run": EventKind.TASK,
    "self_invoke": EventKind.TASK,
    "sweep": EventKind.TASK,
    "migrate": EventKind.TASK,
    "unknown": None,
}
REQUESTS = [name for name, kind in KINDS.items() if kind is EventKind.REQUEST]

# The keys that AWS documents for each source and that a handler may rely on.
DOCUMENTED = {
    "http_api_ok": ("version", "routeKey", "rawPath", "rawQueryString", "headers", "isBase64Encoded"),
    "http_api_run": (
        "version",
        "routeKey",
        "rawPath",
        "rawQueryString",
        "headers",
        "body",
        "isBase64Encoded",
    ),
    "function_url": ("version", "routeKey", "rawPath", "rawQueryString", "headers", "isBase64Encoded"),
    "rest_api": (
        *("resource", "path", "httpMethod", "headers", "multiValueHeaders", "queryStringParameters"),
        *("pathParameters", "stageVariables", "body", "isBase64Encoded"),
    ),
    "alb": ("httpMethod", "path", "queryStringParameters", "headers", "body", "isBase64Encoded"),
    "scheduled": (
        "version",
        "id",
        "detail-type",
        "source",
        "account",
        "time",
        "region",
        "resources",
        "detail",
    ),
}


def event(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return content


def test_there_is_a_file_for_each_source_and_no_other() -> None:
    assert {path.stem for path in EVENTS.iterdir()} == KINDS.keys()


@pytest.mark.parametrize("name", KINDS)
def test_the_handler_takes_it_for_what_it_is(name: str) -> None:
    kind = KINDS[name]

    if kind is None:
        with pytest.raises(UnknownEvent):
            kind_of(event(name))
    else:
        assert kind_of(event(name)) is kind


@pytest.mark.parametrize("name", DOCUMENTED)
def test_it_has_what_its_source_documents(name: str) -> None:
    assert set(DOCUMENTED[name]) <= event(name).keys()


@pytest.mark.parametrize("name", REQUESTS)
def test_it_is_a_request_with_the_path_that_a_client_asked_for(name: str) -> None:
    content = event(name)

    app: Any = None
    context: Any = None
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # or Mangum makes one, which nobody closes
    try:
        scope = Mangum(app, lifespan="off").infer(content, context).scope
    finally:
        asyncio.set_event_loop(None)
        loop.close()

    run = name == "http_api_run"
    assert (scope["method"], scope["path"]) == (("POST", "/runs") if run else ("GET", "/ok"))
    assert dict(scope["headers"])[b"x-api-key"] == b"slackwater-example-key"


def test_the_run_of_the_request_has_a_body() -> None:
    content = event("http_api_run")

    assert json.loads(content["body"])["assistant_id"] == "digest"
    assert int(content["headers"]["content-length"]) == len(content["body"])


def test_the_message_asks_for_work() -> None:
    for record in event("sqs")["Records"]:
        assert isinstance(tasks.parse(json.loads(record["body"])), tasks.Work)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("scheduled", tasks.Sweep),
        ("sweep", tasks.Sweep),
        ("self_invoke", tasks.Work),
        ("migrate", tasks.Migrate),
        ("scheduler_run", tasks.StartRun),
    ],
)
def test_the_task_is_the_one_of_its_name(name: str, task: type) -> None:
    assert isinstance(tasks.parse(event(name)), task)


def test_the_scheduled_run_names_its_event_and_its_owner() -> None:
    run = tasks.parse(event("scheduler_run"))

    assert isinstance(run, tasks.StartRun)
    assert run.id
    assert run.owner == "system"
    assert run.assistant_id == "digest"
