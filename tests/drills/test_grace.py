"""The grace period is the grace period: whatever keeps a process, it is gone in time, with the exit code that is true."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.drills.drill import Drill, Run
from tests.support.proxy import proxied
from tests.support.server import SHORT, ServerProcess

pytestmark = pytest.mark.drill

HANGING = Path(__file__).parent / "hanging"
SLOW_IMPORT = Path(__file__).parent / "slow_import"

GRACE_SECONDS = float(SHORT["SLACKWATER_GRACE_SECONDS"])
GONE_SECONDS = GRACE_SECONDS + 1.5
"""By then whoever has sent SIGTERM may send SIGKILL. The process needs a tenth of a second of it; the rest is the machine's."""

servers = pytest.mark.parametrize("uvicorn", [False, True], ids=["serve", "uvicorn"])


async def leaves(server: ServerProcess, *codes: int) -> float:
    """SIGTERM, and how long it took to be gone."""
    began = server.sigterm()
    code = await server.wait(GONE_SECONDS)
    assert code in codes, server.tail()
    return time.monotonic() - began


async def begun(drill: Drill, server: ServerProcess, graph: str) -> Run:
    run = await drill.begin(server, graph, {})
    await drill.until(lambda: drill.row(run)["status"] == "running")
    await asyncio.sleep(0.3)
    return run


@servers
async def test_a_thread_that_a_cancelled_run_has_left_behind_keeps_nobody(
    drill: Drill, uvicorn: bool
) -> None:
    (server,) = await drill.fleet.start(project=HANGING, uvicorn=uvicorn)
    run = await begun(drill, server, "sleeps")
    await drill.client(server).runs.cancel(run.thread_id, run.run_id, wait=True)
    assert drill.row(run)["status"] == "interrupted"
    # Its process has done with it, but for the thread, a moment after the row says so.
    await drill.until(lambda: server.events("threads.left"), what="a thread that is left behind")
    assert await leaves(server, 0, *([-15] if uvicorn else [])) < GRACE_SECONDS
    assert server.report()["runs"] == []


@servers
async def test_a_node_that_does_not_let_itself_be_cancelled_keeps_nobody(drill: Drill, uvicorn: bool) -> None:
    (server,) = await drill.fleet.start(project=HANGING, uvicorn=uvicorn)
    run = await begun(drill, server, "deaf")
    await drill.client(server).runs.cancel(run.thread_id, run.run_id)
    # Its thread goes on without it,
    following = await drill.begin(server, "unclosed", {}, thread_id=run.thread_id)
    await drill.until_over([run, following], timeout=15)
    assert [drill.row(each)["status"] for each in (run, following)] == ["interrupted", "success"]
    # and so does the stop, also without the factory of the other.
    assert await leaves(server, 0) < GRACE_SECONDS


@servers
async def test_a_factory_that_does_not_close_keeps_nobody(drill: Drill, uvicorn: bool) -> None:
    (server,) = await drill.fleet.start(project=HANGING, uvicorn=uvicorn)
    run = await drill.begin(server, "unclosed", {})
    await drill.until_over([run])
    assert await leaves(server, 0) < GRACE_SECONDS
    row = drill.row(run)
    assert (row["status"], row["attempt"], row["error"]) == ("success", 1, None)


@servers
async def test_sigterm_during_a_start_ends_it(drill: Drill, tmp_path: Path, uvicorn: bool) -> None:
    importing = tmp_path / "importing"
    server = drill.fleet.launch(project=SLOW_IMPORT, uvicorn=uvicorn, env={"DRILL_IMPORTING": str(importing)})
    await drill.until(importing.exists)
    assert await leaves(server, 0) < GRACE_SECONDS
    assert [line["reason"] for line in server.events("start.given_up")] == ["SIGTERM"]


@servers
@pytest.mark.prompt
@pytest.mark.parametrize("how", ["silent", "away"])
async def test_a_database_that_is_away_while_a_node_ends_keeps_nobody(
    drill: Drill, uvicorn: bool, how: str
) -> None:
    with proxied(drill.fleet.database_uri) as proxy:
        env = {"SLACKWATER_DATABASE_URI": proxy.uri, "SLACKWATER_LEASE_SECONDS": "30"}
        (server,) = await drill.fleet.start(project=HANGING, uvicorn=uvicorn, env=env)
        runs = [await begun(drill, server, graph) for graph in ("slow_end", "late_end", "sleeps", "deaf")]
        getattr(proxy, how)()
        await leaves(server, 5)
    # They are not lost: whoever comes after the lease takes them.
    assert [drill.row(run)["status"] for run in runs] == ["running"] * 4
    drill.watcher.query("delete from slackwater.runs")
    drill.watcher.query("delete from slackwater.threads")
