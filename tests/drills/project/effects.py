"""How a node tells the drill what it does."""

from __future__ import annotations

import os
import threading
import time

import psycopg
from langchain_core.runnables import RunnableConfig

_lock = threading.Lock()
_connection: psycopg.Connection | None = None


def record(config: RunnableConfig, node: str, phase: str) -> None:
    """Write down that `node` of the run starts, or is done. On a connection that is none of the server's."""
    global _connection
    run = str(config["metadata"]["run_id"])
    step = config["metadata"].get("langgraph_step")
    with _lock:
        if _connection is None:
            _connection = psycopg.connect(os.environ["DRILL_EFFECTS_URI"], autocommit=True)
        _connection.execute(
            "insert into effects (run, node, step, pid, phase) values (%s, %s, %s, %s, %s)",
            (run, node, step, os.getpid(), phase),
        )


def marker(path: str | None) -> bool:
    """True the first time it is asked for `path`, in whatever process."""
    if not path:
        return True
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def nap(seconds: float | None) -> None:
    time.sleep(seconds or 0)
