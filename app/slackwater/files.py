"""The files of a thread, for the nodes and tools of a graph.

    from slackwater.files import user_data

    def report(state: State) -> State:
        folder = user_data()                                   # with `workspace`, `uploads` and `outputs`
        text = (folder / "uploads" / "a.txt").read_text()      # what the user has uploaded
        (folder / "outputs" / "report.md").write_text(text)    # an artifact of the thread
        return {"artifacts": ["/mnt/user-data/outputs/report.md"]}

It is a local folder of this run, which is made when it is first asked for. What was changed in it is stored at the end of each
superstep, together with its checkpoint: the next node finds it, in whichever process, and so do `/api/threads/{id}/artifacts`
and `/uploads`. A superstep that was cut leaves nothing behind; it runs again on the files of the last one.
"""

from __future__ import annotations

from pathlib import Path

from slackwater.errors import OutsideRun
from slackwater.runtime.execution.node_files import RunFiles, current_files

VIRTUAL = "/mnt/user-data"
"""What the folder is called in messages, and where artifacts are asked for."""


def user_data() -> Path:
    """The folder of the run's owner and thread. Call it anywhere in a node or a tool, sync or async.

    The first call of a run fetches the files, and whoever calls waits for it; in an `async def`, `await auser_data()` holds up
    nobody else. Raises OutsideRun, and StoreSilent if the files cannot be fetched.
    """
    return _of_this_run().path()


async def auser_data() -> Path:
    """As `user_data`, for an `async def`."""
    return await _of_this_run().apath()


def _of_this_run() -> RunFiles:
    files = current_files.get()
    if files is None:
        raise OutsideRun
    return files
