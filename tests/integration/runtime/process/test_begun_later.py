"""A run that is only taken in: whoever asks for it is answered before LangGraph is imported, and it begins all the same."""

from __future__ import annotations

from rig import Fleet, new_run


async def test_it_begins_at_once_and_not_by_who_asks(fleet: Fleet) -> None:
    # GIVEN a process with room, which looks by itself only after this test
    process = await fleet.start(poll_seconds=20)

    # WHEN a run is only taken in
    admitted = await process.runtime.admit(new_run("line"), begin=False)

    # THEN nobody has claimed it yet
    assert admitted.claimed is None
    assert (admitted.row["status"], admitted.row["attempt"]) == ("pending", 0)
    # AND the process has heard of it
    assert (await fleet.ended(admitted.row["run_id"]))["status"] == "success"
