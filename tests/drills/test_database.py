"""The database goes away under runs: its sessions are terminated, or the whole server is stopped and started again."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from slackwater.postgres.embedded import EmbeddedPostgres
from slackwater.postgres.schema import migrate
from tests.drills.drill import ENDS, PROJECT, Drill, steps
from tests.support.effects import Effects, Watcher
from tests.support.server import fleet_of

TERMINATE = """
select pg_terminate_backend(pid) from pg_stat_activity
where application_name like 'slackwater%%' and datname = current_database()"""


async def test_terminated_sessions_fail_no_run_and_repeat_no_node(drill: Drill) -> None:
    async for batch, first, second in drill.pairs():
        runs = await drill.begin_many(first, "line", {"n": 12, "sleep": 0.1}, batch // 2 or 1)
        runs += await drill.begin_many(second, "line", {"n": 12, "sleep": 0.1}, batch // 2)
        await drill.until_started(runs, 2)
        # WHEN every session of every server is terminated, again and again
        for _ in range(4):
            drill.watcher.query(TERMINATE)
            await asyncio.sleep(0.25)
        # THEN the runs go on where they are
        await drill.until_over(runs)
        for run in runs:
            drill.check_run(run, steps(12))
            assert drill.row(run)["attempt"] == 1
        await drill.stop(first)


@pytest.fixture
async def own_drill(database_uri: str, tmp_path: Path) -> AsyncIterator[tuple[Drill, Path]]:
    """A drill on a database server of its own; the nodes' effects are written to another one."""
    folder = Path(tempfile.mkdtemp(prefix="slackwater-drill-"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder)
    uri = await server.astart()
    try:
        await migrate(uri)
        effects, watcher = Effects(database_uri), Watcher(uri)
        watcher.query(ENDS)
        async with fleet_of(uri, tmp_path, PROJECT, {"DRILL_EFFECTS_URI": database_uri}) as fleet:
            drill = Drill(watcher, fleet, effects)
            yield drill, folder
            await fleet.close()
            drill.check()
            await drill.close()
            watcher.close()
            effects.watcher.close()
    finally:
        server.release()
        await asyncio.to_thread(server.wait_stopped, 10)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("seconds", [0.5, 4.0], ids=["within the lease", "past the lease"])
async def test_a_database_that_is_stopped_and_started_again_loses_no_run(
    own_drill: tuple[Drill, Path], seconds: float
) -> None:
    drill, folder = own_drill
    # The shorter one is within the lease however long the server takes to start.
    lease = {"SLACKWATER_LEASE_SECONDS": "20"} if seconds < 1 else {}
    first, second = await drill.fleet.start(2, env=lease)
    runs = await drill.begin_many(first, "line", {"n": 25, "sleep": 0.1}, 5)
    runs += await drill.begin_many(second, "line", {"n": 25, "sleep": 0.1}, 5)
    await drill.until_started(runs, 2)
    # WHEN the server is stopped, and started again before or after the leases are over
    postmaster = int((folder / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGINT)
    await asyncio.sleep(seconds)
    again = EmbeddedPostgres(folder)
    await again.astart()
    # THEN every run succeeds: its node in flight may have been repeated, what was stored was not
    try:
        with suppress(Exception):
            drill.watcher.query("select 1")
        await drill.until_over(runs, 60)
        for run in runs:
            row = drill.row(run)
            assert row["status"] == "success", row
            assert drill.thread(run)["values"]["log"] == steps(25)
            assert drill.supersteps(run) == list(range(-1, 26))
            assert not drill.stale_events(run)
            if seconds < 1:
                assert row["attempt"] == 1
    finally:
        again.release()
