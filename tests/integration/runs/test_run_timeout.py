"""What clients see of a run that has had its time."""

from __future__ import annotations

from typing import Any

import pytest
from support.receiver import receiver

ERROR = {"error": "TimeoutError", "message": ""}
SLOW = {"assistant_id": "steps", "input": {"n": 500, "sleep": 0.1}, "stream_mode": ["values"]}


async def test_whoever_waits_gets_the_last_values_and_no_error(serve: Any) -> None:
    async with serve(run_timeout_seconds=1) as api, receiver() as hook:
        http = api.client()
        thread = (await http.post("/threads", json={})).json()["thread_id"]
        answer = await http.post(f"/threads/{thread}/runs/wait", json={**SLOW, "webhook": hook.url})
        assert answer.status_code == 200
        values = answer.json()
        assert "__error__" not in values
        assert 0 < values["i"] < 500
        (run,) = (await http.get(f"/threads/{thread}/runs", params={"status": "timeout"})).json()
        shown = (await http.get(f"/threads/{thread}")).json()
        assert (shown["status"], shown["error"], shown["values"]) == ("error", ERROR, values)
        assert (await http.get(f"/threads/{thread}/runs/{run['run_id']}/join")).json() == values
        (told,) = await hook.until(1)
        assert (told.json["status"], told.json["error"], told.json["values"]) == ("timeout", ERROR, values)
        # A timeout is nobody's last word: the thread goes on.
        body = {"assistant_id": "steps", "input": {"n": 1}}
        assert (await http.post(f"/threads/{thread}/runs/wait", json=body)).status_code == 200
        assert (await http.get(f"/threads/{thread}")).json()["status"] == "idle"


@pytest.mark.parametrize("path", ["/runs/stream", "/threads/{}/runs/stream"])
async def test_its_stream_ends_without_a_word(serve: Any, path: str) -> None:
    async with serve(run_timeout_seconds=1) as api:
        http = api.client()
        thread = (await http.post("/threads", json={})).json()["thread_id"]
        answer = await http.post(path.format(thread), json=SLOW)
        assert answer.status_code == 200
        names = {line for line in answer.text.splitlines() if line.startswith("event:")}
        assert names == {"event: metadata", "event: values"}
