"""The smallest pools that are allowed: no part of a process keeps all connections from the others."""

from __future__ import annotations

import asyncio

import pytest
from helm import Helm
from rig import BRISK, Fleet

from tests.support.sessions import until_waiting


@pytest.mark.parametrize("size", [2, 3, 4, 5])
async def test_runs_readers_and_sweeps_share_a_small_pool(fleet: Fleet, size: int) -> None:
    process = await fleet.start(pool_size=size, pool_max_size=size, **BRISK)
    runs = [(await process.admit("line")).row for _ in range(12)]
    reading = [asyncio.create_task(process.read(run["run_id"], timeout=30)) for run in runs]
    await process.runtime.sweep()
    for run, events in zip(runs, await asyncio.gather(*reading), strict=True):
        assert (await fleet.ended(run["run_id"]))["status"] == "success"
        assert events[-1].name in ("values", "updates")
        await process.runtime.refresh_thread(run["thread_id"])


@pytest.mark.parametrize("size", [3, 4, 6])
async def test_what_is_said_alone_and_waits_for_locked_rows_leaves_connections_to_others(
    fleet: Fleet, helm: Helm, size: int
) -> None:
    process = await fleet.start(pool_size=size, pool_max_size=size)
    hold = helm.hold("a")
    runs = [(await process.admit("line")).row["run_id"] for _ in range(8)]

    async def held() -> bool:
        return all("a" in helm.begun_by(run) for run in runs)

    await fleet.until(held)
    # GIVEN runs whose rows somebody has locked: no batch waits for them
    async with fleet.database.connection() as holder, holder.transaction():
        await holder.execute("select 1 from slackwater.runs for update")
        hold.let_go()
        await until_waiting(fleet.uri)
        await asyncio.sleep(0.1)
        # WHEN others come, who want something else
        async with asyncio.timeout(8):
            other = await process.admit("line", after_seconds=60.0)
            assert await process.database.fetch_one("select 1 as a") == {"a": 1}
        assert other.claimed is None
    for run in runs:
        assert (await fleet.ended(run))["status"] == "success"
        assert helm.done_by(run) == list("abcd")
