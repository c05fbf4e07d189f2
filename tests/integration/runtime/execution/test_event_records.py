"""The records of stream mode `events`: what they show of a node is what the graph has made of it."""

from __future__ import annotations

import asyncio
import json

from helm import Helm
from rig import Fleet, Process


async def test_a_message_that_a_node_returns_has_its_id_in_the_records_of_the_node(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    hold = helm.hold("answer")
    given = {"messages": [{"role": "user", "content": "?", "id": "m1"}]}
    run = (await process.admit("answers", given, stream_mode=["events"])).row
    await asyncio.wait_for(hold.reached.wait(), 15)
    # GIVEN a run that is behind in nothing: nobody waits for the database when the node ends
    (attempt,) = process.runtime.worker.live.values()
    await attempt.writer.written()
    await asyncio.sleep(0.05)
    hold.let_go()
    records = [
        json.loads(event.data) for event in await process.read(run["run_id"]) if event.name == "events"
    ]
    said = {
        record["event"]: record["data"].get("chunk") or record["data"].get("output")
        for record in records
        if record["name"] == "answer"
    }
    state = (await fleet.thread(run["thread_id"]))["values"]["messages"]
    for event in ("on_chain_stream", "on_chain_end"):
        assert [message["id"] for message in said[event]["messages"]] == [state[-1]["id"]]
    assert state[-1]["id"]
