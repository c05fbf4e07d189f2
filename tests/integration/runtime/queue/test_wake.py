"""What waits is begun as soon as it can be, not at the next poll."""

from __future__ import annotations

import asyncio
import time

from helm import Helm
from rig import Fleet

# Polling alone would take longer than anybody waits here: the processes of this rig poll every 20 s.


async def test_the_next_run_of_a_thread_begins_when_the_one_before_ends(fleet: Fleet) -> None:
    process = await fleet.start()
    first = await process.admit("line")
    thread_id = first.row["thread_id"]
    others = [await process.admit("line", thread_id=thread_id) for _ in range(3)]
    began = time.monotonic()
    for admitted in (first, *others):
        assert (await fleet.ended(admitted.row["run_id"]))["status"] == "success"
    assert time.monotonic() - began < 10


async def test_a_run_begins_when_there_is_room_for_it(fleet: Fleet, helm: Helm) -> None:
    # GIVEN a process with room for one run, which is in a node
    process = await fleet.start(max_concurrent_runs=1)
    hold = helm.hold("b")
    first = await process.admit("line")
    await asyncio.wait_for(hold.reached.wait(), 15)
    # WHEN other threads have runs too
    others = [await process.admit("line") for _ in range(3)]
    hold.let_go()
    # THEN each begins when the one before has made room
    for admitted in (first, *others):
        assert (await fleet.ended(admitted.row["run_id"]))["status"] == "success"


async def test_who_has_no_room_for_a_run_tells_those_who_have(fleet: Fleet, helm: Helm) -> None:
    # GIVEN a process that is full, and another one that listens
    full = await fleet.start(max_concurrent_runs=1, wake="listen")
    hold = helm.hold("b")
    await full.admit("line")
    await asyncio.wait_for(hold.reached.wait(), 15)
    helm.hooks.clear()
    await fleet.start(wake="listen")
    await fleet.until_listening(2)
    # WHEN the full one is asked for a run
    run = (await full.admit("line")).row
    # THEN the other one works on it
    assert (await fleet.ended(run["run_id"]))["status"] == "success"
    assert helm.begun_by(run["run_id"]) == list("abcd")
    hold.let_go()
