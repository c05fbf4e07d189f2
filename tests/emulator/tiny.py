"""A function small enough to see what the emulator, and the environment around it, do by themselves.

An event is a request to do one thing: `{"do": "echo", …}`. Through the gateway it is the body of a POST.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

INVOCATIONS = 0
HELD = threading.Semaphore(0)
HOLD_SECONDS = 0.0


def lambda_handler(event: dict[str, Any], context: Any) -> Any:
    """Do what the event says."""
    global INVOCATIONS
    INVOCATIONS += 1
    if "Records" in event:
        return _consume(event)
    if event.get("source") == "aws.events":
        return _note({"note": event["detail-type"]}, event, context)
    request = event
    if "requestContext" in event:
        body = event.get("body", "{}")
        request = json.loads(base64.b64decode(body) if event["isBase64Encoded"] else body)
    return globals()[f"_{request.get('do', 'echo')}"](request, event, context)


def _echo(request: Any, event: Any, context: Any) -> Any:
    return {"event": event, "pid": os.getpid(), "invocations": INVOCATIONS}


def _facts(request: Any, event: Any, context: Any) -> Any:
    return {
        "environment": dict(os.environ),
        "cwd": os.getcwd(),
        "remaining_ms": context.get_remaining_time_in_millis(),
        "memory_mb": int(context.memory_limit_in_mb),
        "name": context.function_name,
    }


def _sleep(request: Any, event: Any, context: Any) -> Any:
    time.sleep(request["seconds"])
    return {"statusCode": 200, "body": json.dumps({"pid": os.getpid()})}


def _answer(request: Any, event: Any, context: Any) -> Any:
    return request["answer"]


def _fail(request: Any, event: Any, context: Any) -> Any:
    raise LookupError("no such tide")


def _large(request: Any, event: Any, context: Any) -> Any:
    return {"statusCode": 200, "body": "x" * request["bytes"]}


def _leave(request: Any, event: Any, context: Any) -> Any:
    os._exit(7)


def _breed(request: Any, event: Any, context: Any) -> Any:
    """A child that ignores every polite signal, in a session of its own."""
    command = ["sh", "-c", "trap '' TERM INT HUP; while :; do sleep 0.2; done"]
    return {"child": subprocess.Popen(command, start_new_session=True).pid, "pid": os.getpid()}


def _hang(request: Any, event: Any, context: Any) -> Any:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def _hold(request: Any, event: Any, context: Any) -> Any:
    """Respond at once, and hold the environment for some time after that, as an extension does."""
    global HOLD_SECONDS
    HOLD_SECONDS = request["seconds"]
    HELD.release()
    return {"statusCode": 200, "body": "held"}


def _note(request: Any, event: Any, context: Any) -> Any:
    """Leave a line where the test looks for it."""
    with Path(os.environ["TINY_NOTES"]).open("a") as notes:
        notes.write(request["note"] + "\n")
    return {"statusCode": 200}


def _consume(event: Any) -> Any:
    """A batch of SQS messages: those that ask for it fail."""
    failures = []
    for record in event["Records"]:
        request = json.loads(record["body"])
        _note({"note": f"{request['note']} {record['attributes']['ApproximateReceiveCount']}"}, event, None)
        if request.get("fail"):
            failures.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failures}


def _extension() -> None:
    api = os.environ["AWS_LAMBDA_RUNTIME_API"]

    def call(method: str, path: str, headers: dict[str, str], body: str | None = None) -> Any:
        connection = http.client.HTTPConnection(api)
        connection.request(method, f"/2020-01-01/extension/{path}", body, headers)
        response = connection.getresponse()
        response.read()
        return response

    registered = call(
        "POST", "register", {"Lambda-Extension-Name": "tiny"}, json.dumps({"events": ["INVOKE"]})
    )
    identifier = {"Lambda-Extension-Identifier": registered.headers["Lambda-Extension-Identifier"]}

    def hold() -> None:
        while call("GET", "event/next", identifier).status == 200:
            if HELD.acquire(timeout=0.05):
                time.sleep(HOLD_SECONDS)

    threading.Thread(target=hold, name="extension", daemon=True).start()


if "TINY_EXTENSION" in os.environ:
    _extension()
