"""Items survive the process that took them: what was acknowledged is there, whenever the SIGTERM comes."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import httpx
import pytest
from langgraph_sdk import get_client

from tests.drills.drill import BATCH, COUNT
from tests.support.server import ROOT, ServerProcess, fleet_of

ROUNDS = max(1, COUNT // BATCH)


@pytest.mark.drill
async def test_a_sigterm_in_the_middle_of_puts_loses_none_that_was_acknowledged(
    database_uri: str, tmp_path: Path
) -> None:
    async with fleet_of(database_uri, tmp_path, ROOT / "tests" / "graphs") as fleet:
        first, second = await fleet.start(2)
        for number in range(ROUNDS):
            await _round(first, second, f"round-{number}")
            if number + 1 < ROUNDS:
                first, second = second, fleet.launch()
                await second.until_ready()
        assert not fleet.complaints


async def _round(first: ServerProcess, second: ServerProcess, name: str) -> None:
    acknowledged: list[str] = []

    async def write(number: int) -> None:
        async with get_client(url=first.url) as client:
            for turn in range(1000):
                key = f"{number}-{turn}"
                try:
                    await client.store.put_item([name, str(number)], key, {"turn": turn})
                except httpx.HTTPError:
                    return
                acknowledged.append(key)

    writers = [asyncio.create_task(write(number), name=f"writer:{number}") for number in range(4)]
    async with asyncio.timeout(20):
        while not all(f"{number}-0" in acknowledged for number in range(4)):
            await asyncio.sleep(0.01)
    await asyncio.sleep(random.uniform(0, 0.5))
    first.sigterm()
    await asyncio.wait_for(asyncio.gather(*writers), 30)
    assert await first.wait() == 0

    async with get_client(url=second.url) as client:
        items = (await client.store.search_items([name], limit=10_000))["items"]
        assert set(acknowledged) <= {item["key"] for item in items}
        item = await client.store.get_item([name, "0"], "0-0")
        assert item["value"] == {"turn": 0}
        assert [name, "0"] in (await client.store.list_namespaces(prefix=[name]))["namespaces"]
        await client.store.delete_item([name, "0"], "0-0")
        assert await client.store.get_item([name, "0"], "0-0") is None
