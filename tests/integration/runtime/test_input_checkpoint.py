"""The checkpoint of a run's input is stored with the one that follows: its row has the input already."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from rig import Fleet

from app.runtime import writer
from app.runtime.attempt import Attempt
from app.runtime.claims import ClaimedRun
from app.runtime.group_commit import GroupCommit
from app.runtime.worker import Worker


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many times something was stored; nothing is because time has passed."""
    found: Counter[str] = Counter()
    send = GroupCommit.send

    async def sending(self: GroupCommit, kind: Any, item: Any) -> Any:
        found[kind.name] += 1
        return await send(self, kind, item)

    monkeypatch.setattr(GroupCommit, "send", sending)
    monkeypatch.setattr(writer, "EVENT_FLUSH_SECONDS", 60)
    return found


async def checkpoints_of(fleet: Fleet, thread_id: Any) -> list[int]:
    rows = await fleet.database.fetch(
        "select (metadata ->> 'step')::int as step from checkpoints where thread_id = %s order by checkpoint_id",
        [str(thread_id)],
    )
    return [row["step"] for row in rows]


async def test_a_run_stores_as_often_as_it_has_supersteps(fleet: Fleet, stores: Counter[str]) -> None:
    process = await fleet.start(begin=False)
    run = (await process.admit("line")).row
    await process.read(run["run_id"])
    assert await checkpoints_of(fleet, run["thread_id"]) == [-1, 0, 1, 2, 3, 4]
    assert stores["store"] == 5


async def test_with_durability_sync_nothing_waits_for_what_follows(
    fleet: Fleet, stores: Counter[str]
) -> None:
    process = await fleet.start(begin=False)
    run = (await process.admit("line", durability="sync")).row
    await process.read(run["run_id"])
    assert await checkpoints_of(fleet, run["thread_id"]) == [-1, 0, 1, 2, 3, 4]
    assert stores["store"] > 5


async def test_where_nothing_follows_it_is_stored_before_the_run_is_handed_over(
    fleet: Fleet, stores: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Worker.begin

    def begin_and_drain(self: Worker, run: ClaimedRun) -> Attempt | None:
        attempt = begin(self, run)
        assert attempt is not None
        attempt.ask_to_drain("before its first node")
        return attempt

    process = await fleet.start(begin=False)
    with monkeypatch.context() as patch:
        patch.setattr(Worker, "begin", begin_and_drain)
        run = (await process.admit("line")).row
        attempt = process.runtime.worker.live[run["run_id"]]
        assert attempt.task is not None
        await attempt.task
    row = await fleet.row(run["run_id"])
    assert (row["status"], row["stopped"], row["input_applied"]) == ("pending", "drained", True)
    assert await checkpoints_of(fleet, run["thread_id"]) == [-1]
    assert stores["store"] == 1
