"""The database hands over to another server under runs, or takes no writes for a while: no run hears of it."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from slackwater.postgres.schema import migrate
from tests.drills.drill import ENDS, PROJECT, Drill, Run, steps
from tests.support.effects import Effects, Watcher
from tests.support.proxy import proxied
from tests.support.receiver import Receiver, receiver
from tests.support.replication import Replication, replicated
from tests.support.server import ServerProcess, fleet_of

STEPS = 25
LONG_LEASE = {"SLACKWATER_LEASE_SECONDS": "20"}
"""Longer than any trouble here: then no run may begin again."""


@pytest.fixture
def pair() -> Iterator[Replication]:
    with replicated() as pair:
        pair.primary.execute("create database drill")
        yield pair


@pytest.fixture
async def drill(pair: Replication, database_uri: str, tmp_path: Path) -> AsyncIterator[Drill]:
    """A drill on the two servers; the nodes' effects are written to another one."""
    uri = f"{pair.uri('drill')}?target_session_attrs=read-write"
    await migrate(uri)
    effects, watcher = Effects(database_uri), Watcher(uri)
    watcher.query(ENDS)
    # What the servers are told names no attributes: the default is what is tried.
    async with fleet_of(pair.uri("drill"), tmp_path, PROJECT, {"DRILL_EFFECTS_URI": database_uri}) as fleet:
        drill = Drill(watcher, fleet, effects)
        yield drill
        await fleet.close()
        drill.check()
        await drill.close()
        watcher.close()
        effects.watcher.close()


async def heard(drill: Drill, server: ServerProcess, run: Run) -> Counter[str]:
    """What a reader hears of the run, who comes back when the stream breaks as the SDK does."""
    names: Counter[str] = Counter()
    async with httpx.AsyncClient(timeout=60) as client:
        last = "-1"
        while True:
            url = f"{server.url}/threads/{run.thread_id}/runs/{run.run_id}/stream"
            try:
                async with client.stream("GET", url, headers={"Last-Event-ID": last}) as answer:
                    assert answer.status_code in (200, 503), answer.status_code
                    async for line in answer.aiter_lines():
                        name, _, value = line.partition(": ")
                        if name == "event":
                            names[value] += 1
                        elif name == "id":
                            last = value
            except httpx.HTTPError:
                await asyncio.sleep(0.1)
            if drill.watcher.query(
                "select 1 from slackwater.runs where run_id = %s and status not in ('pending', 'running')",
                (run.run_id,),
            ):
                return names


async def admissions(drill: Drill, server: ServerProcess, until: asyncio.Event) -> Counter[int]:
    """Ask for runs, one after another; what was answered. Those that were admitted are the drill's."""
    answers: Counter[int] = Counter()
    async with httpx.AsyncClient(timeout=60, base_url=server.url) as client:
        while not until.is_set():
            body = {"assistant_id": "line", "input": {"n": 3, "sleep": 0.05}, "if_not_exists": "create"}
            answer = await client.post("/threads", json={})
            if answer.status_code == 200:
                thread = answer.json()["thread_id"]
                answer = await client.post(f"/threads/{thread}/runs", json=body)
            answers[answer.status_code] += 1
            if answer.status_code == 200:
                drill.runs.append(Run(answer.json()["run_id"], thread, "line"))
            else:
                assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1"), answer.text
            await asyncio.sleep(0.1)
    return answers


async def readiness(server: ServerProcess, said: list[int]) -> None:
    """Write down what `/ready` says, without repetitions."""
    while True:
        status = await server.answers()
        if said[-1:] != [status]:
            said.append(status)
        await asyncio.sleep(0.05)


@pytest.mark.drill
async def test_a_server_that_takes_no_writes_for_two_seconds_fails_nothing(
    drill: Drill, pair: Replication
) -> None:
    async with receiver() as hook:
        await _without_writes(drill, pair, hook)


async def _without_writes(drill: Drill, pair: Replication, hook: Receiver) -> None:
    first, second = await drill.fleet.start(2, env=LONG_LEASE)
    crons = drill.client(first).crons
    cron = await crons.create("deploy", schedule="* * * * * *", input={}, on_run_completed="keep")
    runs = await drill.begin_many(first, "line", {"n": STEPS, "sleep": 0.1}, 6, webhook=hook.url)
    runs += await drill.begin_many(second, "keeper", {"n": STEPS, "sleep": 0.1}, 4)
    readers = [asyncio.create_task(heard(drill, second, run)) for run in runs]
    over = asyncio.Event()
    asked = asyncio.create_task(admissions(drill, first, over))
    said: list[int] = []
    ready = asyncio.create_task(readiness(first, said))
    await drill.until_started(runs, 3)
    await drill.until(lambda: said == [200], what="the server is ready")
    # WHEN the server refuses writes, to those who are connected as well
    pair.primary.set_read_only(True)
    await asyncio.sleep(2.0)
    await drill.until(lambda: said[-1] == 503, what="the server has noticed")
    pair.primary.set_read_only(False)
    await drill.until_over(runs)
    await drill.until(lambda: len(drill.runs) > len(runs) + 5, what="runs are admitted again")
    over.set()
    answers = await asked
    await drill.until_over()
    await crons.update(cron["cron_id"], enabled=False)
    # Each date that it leaves raises its revision, and so did this change.
    dates = drill.watcher.query("select revision - 2 as n from slackwater.crons")[0]["n"]
    await crons.delete(cron["cron_id"])
    # THEN every run has gone on where it was
    for run in runs:
        drill.check_run(run, steps(STEPS))
    for run in drill.runs:
        row = drill.row(run)
        assert (row["status"], row["attempt"]) == ("success", 1), row
    # nobody has heard of it, and whoever asked for a run has one or knows that there is none
    for names in await asyncio.gather(*readers):
        assert names["error"] == 0
        assert names["metadata"] == 1
    assert set(answers) <= {200, 503}
    assert answers[200] > 5
    assert drill.admitted("line") == len([run for run in drill.runs if run.graph == "line"])
    await drill.until(lambda: said == [200, 503, 200], what="what /ready has said")
    ready.cancel()
    # what nobody asks for goes on by itself: what is due starts once, who is to be told is told, what was put is there
    begun = drill.watcher.query(
        "select run_id::text, thread_id::text from slackwater.runs where graph_id = 'deploy'"
    )
    assert dates > 2
    assert len(begun) == dates
    await drill.until_over([Run(row["run_id"], row["thread_id"], "deploy") for row in begun])
    await drill.until(
        lambda: {run.run_id for run in runs[:6]} <= {got.id for got in hook.got}, what="webhooks"
    )
    for run in runs[6:]:
        items = await drill.client(first).store.search_items([run.thread_id], limit=100)
        assert {item["key"] for item in items["items"]} == set(steps(STEPS))


@pytest.mark.drill
@pytest.mark.parametrize("old", ["crashed", "demoted"])
async def test_a_promotion_in_the_middle_of_runs_loses_none(
    drill: Drill, pair: Replication, old: str
) -> None:
    first, second = await drill.fleet.start(2)
    runs = await drill.begin_many(first, "line", {"n": STEPS, "sleep": 0.1}, 5)
    runs += await drill.begin_many(second, "line", {"n": STEPS, "sleep": 0.1}, 5)
    await drill.until_started(runs, 2)
    pair.until_caught_up()  # nobody can run what the new server has never heard of
    readers = [asyncio.create_task(heard(drill, second, run)) for run in runs]
    await asyncio.sleep(0.5)
    # WHEN the primary goes, or becomes a server that only reads, without having told the standby everything
    if old == "crashed":
        pair.primary.stop(signal.SIGQUIT)
    else:
        pair.primary.set_read_only(True)
    await asyncio.sleep(0.3)
    await asyncio.to_thread(pair.promote)
    # THEN the runs go on at the new one
    drill.watcher.disconnect()
    await drill.until_over(runs)
    for run in runs:
        row = drill.row(run)
        assert row["status"] == "success", f"{row}\n{drill.fleet.logs()}"
        assert drill.thread(run)["values"]["log"] == steps(STEPS)
        assert drill.supersteps(run) == list(range(-1, STEPS + 1))
    for names in await asyncio.gather(*readers):
        assert names["error"] == 0
    # and nobody is left at the old one
    if old == "demoted":
        sessions = "select application_name from pg_stat_activity where application_name like 'slackwater%'"
        await drill.until(lambda: not pair.standby.execute(sessions), what="sessions at the old server")


@pytest.mark.drill
async def test_answers_that_get_lost_repeat_nothing(
    database_uri: str, tmp_path: Path, pair: Replication
) -> None:
    uri = pair.primary.uri("drill")
    await migrate(uri)
    watcher = Watcher(uri)
    watcher.query(ENDS)
    with proxied(uri) as proxy:
        effects = {"DRILL_EFFECTS_URI": database_uri, **LONG_LEASE}
        async with fleet_of(proxy.uri, tmp_path, PROJECT, effects) as fleet:
            drill = Drill(watcher, fleet, Effects(database_uri))
            (server,) = await fleet.start(1)
            # WHEN the server does what it is asked, and nobody hears of it: admissions, supersteps, ends
            proxy.lose_answers("insert into slackwater.runs", times=3)
            proxy.lose_answers("insert into checkpoints", times=10)
            proxy.lose_answers("last_event = coalesce(", times=4)
            runs = await drill.begin_many(server, "line", {"n": 10, "sleep": 0.1}, 8)
            await drill.until_over(runs)
            await drill.until(lambda: proxy.lost == 17, what="lost answers")
            # THEN everything has happened once
            assert drill.admitted("line") == 8
            for run in runs:
                drill.check_run(run, steps(10))
                assert drill.row(run)["attempt"] == 1
                logged = watcher.query(
                    "select data::text as data from slackwater.run_events where run_id = %s and event = 'values' "
                    "order by fence, seq",
                    (run.run_id,),
                )
                said = [len(json.loads(row["data"]).get("log", [])) for row in logged]
                assert said == sorted(set(said)), said
            await fleet.close()
            drill.check()
            await drill.close()
            drill.effects.watcher.close()
    watcher.close()
