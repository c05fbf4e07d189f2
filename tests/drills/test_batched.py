"""`POST /runs/batch` while its process goes: all of its runs are there, or none, and those that are end once."""

from __future__ import annotations

import asyncio
import random
from uuid import uuid4

import httpx
import pytest

from tests.drills.drill import Drill, Run, steps
from tests.drills.test_sigkill import check_killed

pytestmark = pytest.mark.drill

SIZE = 4


async def _send(http: httpx.AsyncClient, name: str) -> list[str] | None:
    """Send a batch, some time from now; the ids that came back, or None when nothing did."""
    run = {
        "assistant_id": "line",
        "input": {"n": 3, "sleep": 0.1},
        "metadata": {"batch": name},
        "on_completion": "keep",
    }
    await asyncio.sleep(random.uniform(0, 0.6))
    try:
        answer = await http.post("/runs/batch", json=[run] * SIZE)
    except httpx.HTTPError:
        return None
    assert answer.status_code in (200, 503), answer.text
    return [run["run_id"] for run in answer.json()] if answer.status_code == 200 else None


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
async def test_a_batch_is_taken_in_whole_or_not_at_all(drill: Drill, how: str) -> None:
    taken = 0
    async for batch, first, _ in drill.pairs():
        # GIVEN batches on their way
        names = [str(uuid4()) for _ in range(max(2, batch // 2))]
        async with httpx.AsyncClient(base_url=first.url, timeout=20, verify=False) as http:
            sent = [asyncio.create_task(_send(http, name)) for name in names]
            await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(random.uniform(0, 0.5))
            # WHEN their process goes
            await drill.stop(first, how)
            answers = await asyncio.gather(*sent)
        assert any(answers)
        # THEN of each there is all, or nothing
        for name, answer in zip(names, answers, strict=True):
            rows = drill.watcher.query(
                "select run_id::text, thread_id::text from slackwater.runs where metadata ->> 'batch' = %s",
                (name,),
            )
            assert len(rows) in (0, SIZE), rows
            if answer is not None:
                assert {row["run_id"] for row in rows} == set(answer)
            drill.runs += [Run(row["run_id"], row["thread_id"], "line") for row in rows]
        # AND what there is ends, as if nothing had happened
        fresh, taken = drill.runs[taken:], len(drill.runs)
        await drill.until_over(fresh)
        for run in fresh:
            check_killed(drill, run, 3, "async") if how == "SIGKILL" else drill.check_run(run, steps(3))
