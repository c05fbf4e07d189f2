"""Webhooks while processes go: each run that has ended is told of, with what it has come to, and always under one id."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.drills.drill import Drill, steps
from tests.drills.test_sigkill import check_killed
from tests.support.receiver import receiver

pytestmark = pytest.mark.drill


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
async def test_every_run_is_told_of_whatever_becomes_of_its_process(drill: Drill, how: str) -> None:
    async with receiver() as hook:
        hook.slowest = 0.3
        async for batch, first, _ in drill.pairs():
            # GIVEN runs that end, and are told of, at all times
            runs = {}
            for n in range(batch):
                given = {"n": 1 + n % 8, "sleep": 0.1}
                run = drill.begin(first, "line", given, spread=0.5, webhook=f"{hook.url}/{n}")
                runs[asyncio.create_task(run)] = 1 + n % 8
            await asyncio.gather(*runs)
            await asyncio.sleep(random.uniform(0, 0.8))
            # WHEN their process goes
            await drill.stop(first, how)
            if how == "SIGKILL":  # nobody waits for the lease of what it was sending
                drill.watcher.query("update slackwater.webhooks set claimed_until = null")
            # THEN none of them is forgotten
            ids = {task.result().run_id for task in runs}
            await drill.until_over([task.result() for task in runs])
            await drill.until(lambda ids=ids: ids <= {got.id for got in hook.got}, what="all are told of")
            await drill.until(
                lambda: not drill.watcher.query("select 1 from slackwater.webhooks"), what="none is due"
            )
            for task, n in runs.items():
                run = task.result()
                check_killed(drill, run, n, "async") if how == "SIGKILL" else drill.check_run(run, steps(n))
                told = [got.json for got in hook.got if got.id == run.run_id]
                assert {body.pop("webhook_sent_at") for body in told}
                assert told.count(told[0]) == len(told)
                assert (told[0]["run_id"], told[0]["status"]) == (run.run_id, "success")
                assert told[0]["values"]["log"] == steps(n)
        assert {got.id for got in hook.got} == {run.run_id for run in drill.runs}
