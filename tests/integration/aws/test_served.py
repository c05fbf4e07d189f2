"""A whole process that gets everything from AWS: its login, its keys, and those who go on with its runs."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from support.api import Api
from support.login import Login

from slackwater.identity.keys import new_key
from slackwater.main import create_app
from slackwater.settings import Settings

PROJECT = Path(__file__).parents[2] / "graphs"
SLOW = {"assistant_id": "steps", "input": {"n": 50, "sleep": 0.2}}


async def test_a_process_that_stops_wakes_others_through_the_queue(
    login: Login, secretsmanager: Any, sqs: Any, queue_url: str
) -> None:
    secret, key = new_key("alice")
    keys = secretsmanager.create_secret(Name="keys", SecretString=f"{key.name}:{key.sha256}")["ARN"]
    settings = Settings.load(
        project=PROJECT,
        database_secret_arn=login.arn,
        api_keys_secret_arn=keys,
        queue_url=queue_url,
        wake="poll",
        grace_seconds=10,
        drain_reserve_seconds=1,
        hard_reserve_seconds=0.3,
    )
    app = create_app(settings)
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(app.router.lifespan_context(app))
        assert state is not None
        api = Api(app, state["services"], dict(state), stack, {"alice": secret})
        # GIVEN runs in the middle of their work, of whoever has a key of the secret
        assert (await api.client().post("/threads", json={})).status_code == 401
        http = api.client("alice")
        for _ in range(3):
            thread = (await http.post("/threads", json={})).json()["thread_id"]
            assert (await http.post(f"/threads/{thread}/runs", json=SLOW)).status_code == 200
        await asyncio.sleep(0.3)
        assert "Messages" not in sqs.receive_message(QueueUrl=queue_url)

        # WHEN the process has to stop
        await api.services.stop.drain("test")

        # THEN the runs were handed over, and a message says so before the process has gone
        rows = await api.database.fetch("select status, handovers from slackwater.runs")
        assert [(row["status"], row["handovers"]) for row in rows] == [("pending", 1)] * 3
        await api.services.runtime.wakeups.flush(60)
        messages = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10)["Messages"]
        assert 1 <= len(messages) <= 3
        assert {message["Body"] for message in messages} == {'{"task": "work"}'}
