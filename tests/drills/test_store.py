"""Items survive the process that took them: what was acknowledged is there, whenever the SIGTERM comes."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import httpx
import pytest
from langgraph_sdk import get_client

from tests.support.server import ROOT, fleet_of


@pytest.mark.drill
async def test_a_sigterm_in_the_middle_of_puts_loses_none_that_was_acknowledged(
    database_uri: str, tmp_path: Path
) -> None:
    async with fleet_of(database_uri, tmp_path, ROOT / "tests" / "graphs") as fleet:
        first, second = await fleet.start(2)
        acknowledged: list[str] = []

        async def write(number: int) -> None:
            client = get_client(url=first.url)
            for turn in range(1000):
                key = f"{number}-{turn}"
                try:
                    await client.store.put_item(["drill", str(number)], key, {"turn": turn})
                except httpx.HTTPError:
                    return
                acknowledged.append(key)

        writers = [asyncio.create_task(write(number), name=f"writer:{number}") for number in range(4)]
        await asyncio.sleep(random.uniform(0.1, 0.6))
        first.sigterm()
        await asyncio.wait_for(asyncio.gather(*writers), 30)
        assert await first.wait() == 0

        client = get_client(url=second.url)
        items = (await client.store.search_items(["drill"], limit=10_000))["items"]
        assert acknowledged
        assert set(acknowledged) <= {item["key"] for item in items}
        item = await client.store.get_item(["drill", "0"], "0-0")
        assert item["value"] == {"turn": 0}
        assert ["drill", "0"] in (await client.store.list_namespaces(prefix=["drill"]))["namespaces"]
        await client.store.delete_item(["drill", "0"], "0-0")
        assert await client.store.get_item(["drill", "0"], "0-0") is None
        assert not fleet.complaints
