"""All runs of an owner are cancelled at once: a hundred threads by one transaction, and each as if it had been alone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from helm import Helm
from rig import CUT, OWNER, Fleet, Process, new_run

from slackwater.api.runs import service
from slackwater.api.runs.service import BULK_REASON
from slackwater.errors import NotFound
from slackwater.identity.principal import Principal
from slackwater.postgres.pool import Database
from slackwater.runtime.queue.cancel import CancelAction

LATER = 3600.0


async def cancel_all(process: Process, owner: str, action: CancelAction, status: str = "all") -> None:
    services = SimpleNamespace(database=process.database, runtime=process.runtime, auth=None)
    await service.cancel_all(cast("Any", services), Principal(owner), status, action)


async def one_by_one(process: Process, owner: str, action: CancelAction) -> None:
    rows = await process.database.fetch(
        "select thread_id from slackwater.runs where owner = %s and status in ('pending', 'running') "
        "group by 1 order by bool_or(status = 'running')",  # no room for what waits, before it is cancelled
        [owner],
    )
    for row in rows:
        await process.runtime.cancel(owner, row["thread_id"], None, action, BULK_REASON)


async def scene(fleet: Fleet, here: Process, helm: Helm, owner: str) -> dict[str, tuple[UUID, UUID]]:
    """Runs of every kind that can be cancelled, with their threads."""
    found: dict[str, tuple[UUID, UUID]] = {}

    async def admit(name: str, process: Process, **options: Any) -> UUID:
        row = (await process.admit("line", owner=owner, **options)).row
        found[name] = (row["run_id"], row["thread_id"])
        return cast("UUID", row["thread_id"])

    await admit("alone", here, after_seconds=LATER)
    await admit("stateless", here, after_seconds=LATER, on_completion="delete")
    before = await fleet.reference(here, "line", owner=owner)
    await admit("after", here, after_seconds=LATER, thread_id=before.row["thread_id"])
    hold = helm.hold("b")
    leaver = await fleet.start()
    await admit("handed over", leaver)
    await asyncio.wait_for(hold.reached.wait(), 10)
    await leaver.stop(**CUT)
    hold = helm.hold("b")
    thread_id = await admit("live", here)
    await asyncio.wait_for(hold.reached.wait(), 10)
    await admit("behind", here, thread_id=thread_id)
    return found


async def left_by(fleet: Fleet, found: dict[str, tuple[UUID, UUID]]) -> dict[str, Any]:
    """What is to be seen of them when all have ended."""

    async def over() -> bool:
        rows = [await fleet.find(run_id) for run_id, _ in found.values()]
        threads = [await fleet.thread(thread_id) for _, thread_id in found.values()]
        # After a rollback a thread is busy until it has been read again.
        return all(row is None or row["status"] not in ("pending", "running") for row in rows) and all(
            thread["status"] != "busy" for thread in threads
        )

    await fleet.until(over)
    left = {}
    for name, (run_id, thread_id) in found.items():
        run, thread = await fleet.find(run_id), await fleet.thread(thread_id)
        shown = [thread[key] for key in ("status", "values", "interrupts", "error")]
        of_run = [run[key] for key in ("status", "reason", "ready", "holds_thread")] if run else None
        left[name] = (of_run, shown, len(await fleet.checkpoints(thread_id)))
    return left


@pytest.mark.parametrize("action", list(CancelAction))
async def test_what_is_cancelled_together_ends_as_if_each_had_been_alone(
    fleet: Fleet, helm: Helm, action: CancelAction
) -> None:
    here = await fleet.start(max_concurrent_runs=1)
    await here.admit("line", owner="carol", after_seconds=LATER)
    left = []
    for owner, cancel in (("alice", cancel_all), ("bob", one_by_one)):
        found = await scene(fleet, here, helm, owner)
        await cancel(here, owner, action)
        left.append(await left_by(fleet, found))
        helm.reset()
    assert left[0] == left[1]
    assert (left[0]["alone"][0] is None) is (action is CancelAction.ROLLBACK)
    untouched = await fleet.database.fetch("select cancel_action from slackwater.runs where owner = 'carol'")
    assert [row["cancel_action"] for row in untouched] == [None]
    with pytest.raises(NotFound):
        await cancel_all(here, "alice", action)


@pytest.mark.parametrize(
    "locked",
    ["slackwater.threads where thread_id", "slackwater.runs where kind = 'run' and thread_id"],
)
async def test_a_row_that_somebody_has_locked_delays_its_own_thread_only(fleet: Fleet, locked: str) -> None:
    here = await fleet.start(max_concurrent_runs=0)
    admitted = await here.runtime.admit_batch([new_run("line", after_seconds=LATER) for _ in range(5)])
    run_ids = [one.row["run_id"] for one in admitted]
    async with fleet.database.connection() as connection:
        async with connection.transaction():
            await connection.execute(
                f"select 1 from {locked} = %s for update".encode(), [admitted[2].row["thread_id"]]
            )
            cancelling = asyncio.create_task(cancel_all(here, OWNER, CancelAction.INTERRUPT))
            for run_id in run_ids:
                if run_id != run_ids[2]:
                    await fleet.ended(run_id)
            assert not cancelling.done()
            assert (await fleet.row(run_ids[2]))["status"] == "pending"
        await asyncio.wait_for(cancelling, 10)
    assert {(await fleet.row(run_id))["status"] for run_id in run_ids} == {"interrupted"}


async def test_two_that_cancel_everything_at_once_do_not_wait_for_each_other_in_a_circle(
    fleet: Fleet,
) -> None:
    processes = [await fleet.start(max_concurrent_runs=0) for _ in range(2)]
    for _ in range(3):
        news = [new_run("line", after_seconds=LATER) for _ in range(40)]
        admitted = await processes[0].runtime.admit_batch(news)
        run_ids = {one.row["thread_id"]: [one.row["run_id"]] for one in admitted}
        backwards = dict(reversed(run_ids.items()))
        found = await asyncio.gather(
            *(
                process.runtime.cancel_many(OWNER, of_threads, CancelAction.INTERRUPT, BULK_REASON)
                for process, of_threads in zip(processes, (run_ids, backwards), strict=True)
            )
        )
        assert any(found)
        rows = await fleet.database.fetch(
            "select distinct r.status, t.status as shown from slackwater.runs r join slackwater.threads t using (thread_id)"
        )
        assert rows == [{"status": "interrupted", "shown": "idle"}]


async def test_a_hundred_threads_are_one_transaction(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    here = await fleet.start(max_concurrent_runs=0)
    for _ in range(5):
        await here.runtime.admit_batch([new_run("line", after_seconds=LATER) for _ in range(50)])
    sent = []
    for name in ("fetch", "execute", "pipeline"):
        method = getattr(Database, name)

        async def counted(self: Database, *args: Any, method: Any = method, **options: Any) -> Any:
            sent.append(args[0])
            return await method(self, *args, **options)

        monkeypatch.setattr(Database, name, counted)
    await cancel_all(here, OWNER, CancelAction.INTERRUPT)
    assert len(sent) <= 8
    rows = await fleet.database.fetch(
        "select r.status, t.status as shown, count(*) from slackwater.runs r join slackwater.threads t using (thread_id) group by 1, 2"
    )
    assert rows == [{"status": "interrupted", "shown": "idle", "count": 250}]
