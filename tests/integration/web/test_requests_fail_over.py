"""While the database accepts no writes every request is answered 503 with Retry-After, or as ever: never 500."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest
from support.api import Api, shape_of
from support.impatience import impatient

METHODS = ("get", "post", "put", "patch", "delete")

OPEN = "/threads/{thread_id}/stream/events"
"""Whoever reads here waits, whatever the database does, and hears a heartbeat."""


def example_of(operation: dict[str, Any]) -> Any:
    """A body that the document shows, or an empty one."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if "example" in content:
        return content["example"]
    examples = list(content.get("examples", {}).values())
    return examples[0].get("value", {}) if examples else {}


async def test_no_request_fails_because_the_database_takes_no_writes(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve() as api:
        http = api.client()
        document = json.loads((await http.get("/openapi.json")).content)
        thread = (await http.post("/threads", json={})).json()["thread_id"]
        run = {"assistant_id": "echo", "input": {"text": "a"}}
        assert (await http.post(f"/threads/{thread}/runs/wait", json=run)).status_code == 200
        async with await without_writes(api) as control:
            requests = [
                (method.upper(), shape_of(path.replace("{thread_id}", thread)), example_of(operation))
                for path, item in document["paths"].items()
                for method, operation in item.items()
                if method in METHODS and path != OPEN
            ]
            requests += [("POST", f"/threads/{thread}/runs{way}", run) for way in ("", "/wait", "/stream")]
            requests += [("POST", f"/runs{way}", run) for way in ("", "/wait", "/stream")]
            answers: Counter[int] = Counter()
            monkeypatch.setattr(api.services.runtime.store, "_patience_seconds", 0.5)
            with impatient(api.database, 0.5):
                for some in (requests[n : n + 8] for n in range(0, len(requests), 8)):
                    for request, answer in zip(some, await ask(http, some), strict=True):
                        answers[answer.status_code] += 1
                        assert answer.status_code == 503 or answer.status_code < 500, (request, answer.text)
                        if answer.status_code == 503 and request[1] != "/ready":
                            assert answer.headers["retry-after"] == "1", request
            assert answers[503] > 30
            await control.execute(f"alter database {control.info.dbname} reset default_transaction_read_only")
        # THEN it works again by itself
        async with asyncio.timeout(10):
            while (await http.get("/ready")).status_code != 200:
                await asyncio.sleep(0.05)
        assert (await http.post(f"/threads/{thread}/runs/wait", json=run)).status_code == 200


async def without_writes(api: Api) -> psycopg.AsyncConnection[Any]:
    """Let the database take no writes, in any session but the one that is returned."""
    database = api.database
    control = await psycopg.AsyncConnection.connect(
        str(database.conninfo), options="-c default_transaction_read_only=off", autocommit=True
    )
    await control.execute(f"alter database {control.info.dbname} set default_transaction_read_only = on")
    async with database.connection() as connection:
        await connection.execute("set default_transaction_read_only = on")
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("create table t (n int)")
    return control


async def ask(http: httpx.AsyncClient, requests: list[tuple[str, str, Any]]) -> list[httpx.Response]:
    return await asyncio.gather(
        *(
            http.request(method, path, **({"json": body} if method in ("POST", "PUT", "PATCH") else {}))
            for method, path, body in requests
        )
    )
