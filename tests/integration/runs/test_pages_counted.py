from __future__ import annotations

from gateway import Gateway, read

from slackwater.telemetry.metrics import Metric, recorder


async def test_every_page_after_which_its_reader_has_to_come_back_is_counted(gateway: Gateway) -> None:
    before = recorder.totals[Metric.STREAM_PAGES]
    async with gateway.serve() as client:
        await read(client, "line", {"n": 8, "sleep": 0.25}, stream_mode="updates")
    assert len(gateway.pages) >= 2
    assert recorder.totals[Metric.STREAM_PAGES] - before == len(gateway.pages) - 1
