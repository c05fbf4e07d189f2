"""The floor: the same graphs through `graph.ainvoke` with LangGraph's own saver, in a process of its own.

As people have it without a server: one `AsyncPostgresSaver` over one pool, prepared statements on (its documented
set-up), and no HTTP. On uvloop, like the server.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from app.graphs.registry import Graphs
from bench.companion import serve_commands


class Stock:
    """Carries out the commands."""

    def __init__(self, conninfo: str, pool_size: str, project: str) -> None:
        self._graphs = Graphs.load(Path(project))
        self._pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
            conninfo,
            min_size=2,
            max_size=int(pool_size),
            open=False,
            kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
        )

    async def set_up(self) -> dict[str, Any]:
        await self._pool.open()
        self._saver = AsyncPostgresSaver(self._pool)
        await self._saver.setup()
        return {}

    async def closed(
        self, *, graph: str, input: dict[str, Any], clients: int, seconds: float
    ) -> dict[str, Any]:
        """`clients` tasks that each run the graph on a new thread, one run after another. Milliseconds."""
        started, cpu = time.perf_counter(), time.process_time()
        until = started + seconds
        latencies: list[float] = []
        async with self._open(graph) as compiled:

            async def client() -> None:
                while (begun := time.perf_counter()) < until:
                    await compiled.ainvoke(input, {"configurable": {"thread_id": str(uuid4())}})
                    now = time.perf_counter()
                    if now <= until:
                        latencies.append((now - begun) * 1000)

            await asyncio.gather(*(client() for _ in range(clients)))
        return {
            "per_second": len(latencies) / seconds,
            "latencies": latencies,
            "cpu_ms": (time.process_time() - cpu) * 1000 / max(1, len(latencies)),
        }

    async def first_chunks(self, *, graph: str, input: dict[str, Any], seconds: float) -> dict[str, Any]:
        """From `astream` to its first chunk, one run after another. Milliseconds."""
        until = time.perf_counter() + seconds
        firsts: list[float] = []
        async with self._open(graph) as compiled:
            while (begun := time.perf_counter()) < until:
                first = 0.0
                async for _ in compiled.astream(
                    input, {"configurable": {"thread_id": str(uuid4())}}, stream_mode="values"
                ):
                    first = first or time.perf_counter()
                firsts.append((first - begun) * 1000)
        return {"firsts": firsts}

    def _open(self, graph: str) -> Any:
        return self._graphs.open(
            graph, config={}, access="threads.create_run", checkpointer=self._saver, store=None
        )


if __name__ == "__main__":
    serve_commands(Stock)
