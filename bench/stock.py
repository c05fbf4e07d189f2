"""The floors: the same graphs without a server, with LangGraph's own savers, in a process of their own.

As people have it: one `AsyncPostgresSaver` over one pool, prepared statements on (its documented set-up), or one
`InMemorySaver`, and no HTTP. On uvloop, like the server.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from bench.companion import serve_commands
from slackwater.graphs.registry import Graphs


class Stock:
    """Carries out the commands."""

    def __init__(self, project: str) -> None:
        self._graphs = Graphs.load(Path(project))
        self._saver: BaseCheckpointSaver[Any] = InMemorySaver()

    async def connect(self, *, conninfo: str, pool_size: int) -> dict[str, Any]:
        """Keep the checkpoints in Postgres."""
        pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
            conninfo,
            min_size=2,
            max_size=pool_size,
            open=False,
            kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
        )
        await pool.open()
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        self._saver = saver
        return {}

    async def closed(
        self, *, graph: str, input: dict[str, Any], streamed: bool, clients: int, seconds: float
    ) -> dict[str, Any]:
        """`clients` tasks that each run the graph on a new thread, one run after another, and count as `client.Load` does."""
        started, cpu = time.perf_counter(), time.process_time()
        until = started + seconds
        latencies: list[float] = []
        firsts: list[float] = []
        last = started
        async with self._open(graph) as compiled:

            async def client() -> None:
                nonlocal last
                while (begun := time.perf_counter()) < until:
                    first = await _run(compiled, input, "values" if streamed else None)
                    now = time.perf_counter()
                    if now <= until or not latencies:
                        last = now
                        latencies.append((now - begun) * 1000)
                        if streamed:
                            firsts.append((first - begun) * 1000)

            await asyncio.gather(*(client() for _ in range(clients)))
        return {
            "per_second": len(latencies) / (last - started),
            "latencies": latencies,
            "firsts": firsts,
            "cpu_ms": (time.process_time() - cpu) * 1000 / len(latencies),
        }

    async def together(
        self, *, graph: str, input: dict[str, Any], stream_mode: str, streams: int
    ) -> dict[str, Any]:
        """`streams` at once, each to its end."""
        started, cpu = time.perf_counter(), time.process_time()
        async with self._open(graph) as compiled:
            await asyncio.gather(*(_run(compiled, input, stream_mode) for _ in range(streams)))
        return {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}

    def _open(self, graph: str) -> Any:
        return self._graphs.open(
            graph, owner="bench", config={}, access="threads.create_run", checkpointer=self._saver, store=None
        )


async def _run(compiled: Any, input: dict[str, Any], stream_mode: str | None) -> float:
    """One run on a new thread; when its first chunk came, if it is streamed."""
    config = {"configurable": {"thread_id": str(uuid4())}}
    first = 0.0
    if stream_mode is None:
        await compiled.ainvoke(input, config)
    else:
        async for _ in compiled.astream(input, config, stream_mode=stream_mode):
            first = first or time.perf_counter()
    return first


if __name__ == "__main__":
    serve_commands(Stock)
