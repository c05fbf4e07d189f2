"""DELETE of what is being worked on, through any process: it is ended first, and nothing begins beside it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from helm import Helm
from rig import OWNER, Fleet, Process

from slackwater.api.runs import service
from slackwater.api.threads import service as threads
from slackwater.errors import NotFound
from slackwater.identity.principal import Principal
from slackwater.runtime.execution import attempt as module
from slackwater.runtime.process import takeover
from slackwater.runtime.queue import claims

SWIFT = {"poll_seconds": 0.1}


class NodeTasks:
    """How many bodies of a node there are at once; each takes some time to end."""

    def __init__(self, seconds: float = 0.3) -> None:
        self.now = self.most = 0
        self.reached = asyncio.Event()
        self._seconds = seconds

    async def __call__(self, config: object) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.reached.set()
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(self._seconds)
            self.now -= 1


def through(process: Process) -> Any:
    return SimpleNamespace(database=process.database, runtime=process.runtime, auth=None)


async def delete(process: Process, run: Any) -> None:
    await service.delete(through(process), Principal(OWNER), str(run["thread_id"]), str(run["run_id"]))


async def reached(hold: Any) -> None:
    await asyncio.wait_for(hold.reached.wait(), 15)


async def checkpoints_of(fleet: Fleet, thread_id: UUID) -> set[str]:
    return {row["metadata"]["run_id"] for row in await fleet.checkpoints(thread_id)}


@pytest.mark.parametrize("elsewhere", [True, False])
async def test_a_live_run_is_ended_before_the_next_one_of_its_thread_begins(
    fleet: Fleet, helm: Helm, elsewhere: bool
) -> None:
    process, other = await fleet.start(**SWIFT), await fleet.start()
    node_tasks = helm.hooks["b"] = NodeTasks()
    run = (await process.admit("line")).row
    await reached(node_tasks)
    following = (await process.admit("line", thread_id=run["thread_id"])).row
    node_tasks.reached.clear()
    # WHEN
    await delete(other if elsewhere else process, run)
    # THEN it is gone with all that it has left, and its node has ended
    assert await fleet.find(run["run_id"]) is None
    assert node_tasks.now == 0 or node_tasks.reached.is_set()
    assert str(run["run_id"]) not in await checkpoints_of(fleet, run["thread_id"])
    await process.claim()
    await reached(node_tasks)
    assert node_tasks.most == 1
    await delete(other, following)
    assert await fleet.checkpoints(run["thread_id"]) == []
    with pytest.raises(NotFound):
        await delete(other, run)


async def test_a_live_run_is_deleted_that_was_to_be_interrupted_and_whose_node_does_not_listen(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNWIND_SECONDS", dict.fromkeys(module.UNWIND_SECONDS, 0.6))
    process, other = await fleet.start(**SWIFT), await fleet.start()
    hold = helm.hold("ignores")
    run = (await process.admit("stubborn")).row
    await reached(hold)
    stray = process.runtime.worker.live[run["run_id"]].task
    assert stray is not None
    await process.cancel(run["thread_id"], run["run_id"])
    await delete(other, run)
    assert await fleet.find(run["run_id"]) is None
    hold.let_go()
    await asyncio.wait_for(asyncio.shield(stray), 5)
    assert await fleet.checkpoints(run["thread_id"]) == []
    assert await fleet.events(run["run_id"]) == []


async def test_a_run_whose_owner_is_gone_is_deleted_at_once(fleet: Fleet, helm: Helm) -> None:
    process, other = await fleet.start(linked=True), await fleet.start()
    hold = helm.hold("b")
    run = (await process.admit("line")).row
    await reached(hold)
    await process.die()
    await fleet.expire(run["run_id"])
    await asyncio.wait_for(delete(other, run), service.DELETE_SECONDS / 2)
    assert await fleet.find(run["run_id"]) is None
    hold.let_go()


async def test_an_owner_that_does_not_answer_is_not_waited_for_for_ever_and_the_wish_stands(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "DELETE_SECONDS", 0.3)
    process, other = await fleet.start(linked=True), await fleet.start()
    hold = helm.hold("b")
    run = (await process.admit("line")).row
    await reached(hold)
    following = (await other.admit("line", thread_id=run["thread_id"])).row["run_id"]
    await process.die()
    await asyncio.wait_for(delete(other, run), 8)
    # THEN nothing has begun beside it,
    assert await other.claim() == 0
    # and whoever takes it over deletes it
    del helm.hooks["b"]
    await fleet.expire(run["run_id"])
    await other.runtime.sweep()
    assert await fleet.find(run["run_id"]) is None
    assert (await fleet.ended(following))["status"] == "success"
    assert await checkpoints_of(fleet, run["thread_id"]) == {str(following)}
    hold.let_go()


async def test_who_follows_a_run_that_was_taken_over_begins_though_its_thread_is_locked_just_then(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim after a take-over skips what is locked, as it is while the state of the thread is read again."""
    process, other = await fleet.start(linked=True), await fleet.start()
    hold = helm.hold("b")
    run = (await process.admit("line")).row
    await reached(hold)
    following = (await other.admit("line", thread_id=run["thread_id"])).row["run_id"]
    await other.cancel(run["thread_id"], run["run_id"])
    await process.die()
    del helm.hooks["b"]
    await fleet.expire(run["run_id"])
    locked, met = asyncio.Event(), asyncio.Event()
    claim, read_again = claims.claim, takeover.read_again

    async def claim_once_it_is_locked(*arguments: Any, **how: Any) -> Any:
        await locked.wait()
        found = await claim(*arguments, **how)
        met.set()
        return found

    async def read_again_with_the_thread_locked(runtime: Any, thread_id: UUID) -> None:
        async with fleet.database.connection() as connection, connection.transaction():
            await connection.execute(
                "select from slackwater.threads where thread_id = %s for update", [thread_id]
            )
            locked.set()
            await asyncio.wait_for(met.wait(), 10)
        await read_again(runtime, thread_id)

    monkeypatch.setattr(claims, "claim", claim_once_it_is_locked)
    monkeypatch.setattr(takeover, "read_again", read_again_with_the_thread_locked)
    assert await other.runtime.sweep() == 1
    assert (await fleet.ended(following))["status"] == "success"
    hold.let_go()


async def test_what_runs_on_a_thread_has_ended_when_it_is_deleted(fleet: Fleet, helm: Helm) -> None:
    process, other = await fleet.start(**SWIFT), await fleet.start()
    node_tasks = helm.hooks["b"] = NodeTasks()
    run = (await process.admit("line")).row
    await reached(node_tasks)
    following = (await process.admit("line", thread_id=run["thread_id"])).row["run_id"]
    await threads.delete(through(other), Principal(OWNER), run["thread_id"])
    assert node_tasks.now == 0
    assert [await fleet.find(each) for each in (run["run_id"], following)] == [None, None]
    assert await fleet.checkpoints(run["thread_id"]) == []
    assert await fleet.database.fetch("select 1 from slackwater.threads") == []


async def test_nobody_ends_what_runs_on_the_thread_of_another(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(**SWIFT)
    hold = helm.hold("b")
    run = (await process.admit("line")).row
    await reached(hold)
    for wanted in (
        threads.delete(through(process), Principal("mallory"), run["thread_id"]),
        service.delete(through(process), Principal("mallory"), str(run["thread_id"]), str(run["run_id"])),
    ):
        with pytest.raises(NotFound):
            await wanted
    hold.let_go()
    assert (await fleet.ended(run["run_id"]))["status"] == "success"
