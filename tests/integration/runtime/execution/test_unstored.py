"""Nothing has finished, and nothing stands at a boundary, whose last checkpoint was not stored."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from helm import Helm
from rig import Fleet, Process

from slackwater.runtime.process import stop

DURABILITIES = ["async", "sync", "exit"]


async def stopped_at(
    process: Process, helm: Helm, node: str, durability: str
) -> tuple[Any, dict[str, Any], Any]:
    hold = helm.hold(node)
    run = (await process.admit("line", durability=durability)).row
    await asyncio.wait_for(hold.reached.wait(), 15)
    (attempt,) = process.runtime.worker.live.values()
    return hold, dict(run), attempt


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("node", ["b", "d"], ids=["at a boundary", "at its end"])
async def test_a_run_whose_last_checkpoint_was_refused_goes_on_elsewhere(
    fleet: Fleet, process: Process, helm: Helm, node: str, durability: str
) -> None:
    hold, run, attempt = await stopped_at(process, helm, node, durability)
    stop.stop_claiming(process.runtime, "SIGTERM")
    attempt.ask_to_drain("SIGTERM")
    # WHEN its node returns behind the shut gate
    process.database.gate.shut()
    hold.let_go()
    await asyncio.wait({attempt.task}, timeout=5)
    # THEN it was cut, since nobody has stored that it got further
    row = await fleet.row(run["run_id"])
    assert (row["status"], row["stopped"]) == ("pending", "cut")
    stored = [checkpoint["checkpoint_id"] for checkpoint in await fleet.checkpoints(run["thread_id"])]
    assert row["last_checkpoint_id"] == (stored[-1] if stored else None)
    other = await fleet.start()
    await other.claim()
    assert (await fleet.ended(run["run_id"]))["status"] == "success"
    assert (await fleet.thread(run["thread_id"]))["values"]["log"] == list("abcd")


REFUSING = """
create function refuse() returns trigger language plpgsql as $$ begin
  raise exception 'this value is too much' using errcode = '{state}';
end $$;
create trigger refuse before insert on checkpoints for each row when ((new.metadata ->> 'step')::int = {step})
execute function refuse()"""


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize(
    ("state", "error"),
    [("22000", "DataException"), ("54000", "LimitExceeded")],
    ids=["a value", "larger than an index or a document may be"],
)
async def test_a_run_whose_checkpoint_the_database_does_not_take_fails_at_its_boundary_too(
    fleet: Fleet, process: Process, helm: Helm, state: str, error: str, durability: str
) -> None:
    hold, run, attempt = await stopped_at(process, helm, "b", durability)
    await fleet.database.execute(REFUSING.format(step=2, state=state))
    attempt.ask_to_drain("SIGTERM")
    hold.let_go()
    row = await fleet.ended(run["run_id"])
    assert (row["status"], row["error"]["error"]) == ("error", error)
    assert (await fleet.thread(run["thread_id"]))["status"] == "error"
    assert [event.name for event in await process.read(run["run_id"])][-1] == "error"
