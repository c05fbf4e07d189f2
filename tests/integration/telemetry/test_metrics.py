"""`/metrics`: what a process has done, for who has a key, until it is gone."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.api import Api


async def figures(http: httpx.AsyncClient) -> dict[str, float]:
    """Our figures that are one number; of a duration how many there were."""
    answer = await http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name.startswith("slackwater_") and not sample.labels
    }


async def gained(http: httpx.AsyncClient, before: dict[str, float]) -> dict[str, float]:
    """What has become more: other tests have run in this process, too."""
    now = await figures(http)
    return {
        name.removeprefix("slackwater_"): value - before[name]
        for name, value in now.items()
        if value != before[name] and not name.endswith("_sum")
    }


async def test_a_run_that_is_served_is_counted(api: Api, http: httpx.AsyncClient) -> None:
    before = await figures(http)
    for graph, given in (("steps", {"n": 2}), ("fail", {})):
        await http.post("/runs/wait", json={"assistant_id": graph, "input": given})
    found = await gained(http, before)
    assert (found["runs_started_total"], found["runs_finished_total"]) == (2, 2)
    assert found["runs_failed_total"] == 1
    assert "runs_handed_over_total" not in found


async def test_a_drain_is_counted_and_can_still_be_read_when_nothing_else_can(
    api: Api, http: httpx.AsyncClient
) -> None:
    before = await figures(http)
    slow = {"assistant_id": "steps", "input": {"n": 50, "sleep": 0.2}}
    await http.post("/runs", json=slow)
    await http.post("/runs", json=slow)
    assert (await figures(http))["slackwater_runs_live"] == 2
    await api.services.stop.drain("test")
    assert (await http.post("/runs", json=slow)).status_code == 503
    found = await gained(http, before)
    assert (found["runs_started_total"], found["runs_drained_total"], found["runs_handed_over_total"]) == (
        2,
        2,
        2,
    )
    assert found["drain_ms_count"] == 1
    assert "runs_finished_total" not in found
    assert (await figures(http))["slackwater_runs_live"] == 0


async def test_a_request_that_has_to_wait_for_a_connection_is_counted(
    api: Api, http: httpx.AsyncClient
) -> None:
    before = await figures(http)
    sleeps = [api.database.fetch("select pg_sleep(0.2)") for _ in range(8)]  # with four connections
    began = time.monotonic()
    await asyncio.gather(*sleeps)
    found, now = await gained(http, before), await figures(http)
    assert found["pool_wait_ms_count"] >= 4
    waited = now["slackwater_pool_wait_ms_sum"] - before["slackwater_pool_wait_ms_sum"]
    assert 4 * 150 < waited < 8 * (time.monotonic() - began) * 1000


async def test_with_keys_the_figures_need_one_too(serve: Any) -> None:
    async with serve(names=("scraper",)) as api:
        assert (await api.client().get("/metrics")).status_code == 401
        scraper = api.client("scraper", peer="10.0.0.9", host="pod")
        assert "slackwater_runs_live" in await figures(scraper)


async def test_the_figures_say_nothing_of_whom(serve: Any) -> None:
    async with serve(names=("alice", "scraper")) as api:
        run = {"assistant_id": "echo", "input": {"text": "a secret"}}
        answer = await api.client("alice").post("/runs/wait", json=run)
        text = (await api.client("scraper").get("/metrics")).text
        thread_id = answer.headers["location"].split("/")[2]
        for word in ("alice", "a secret", "echo", thread_id):
            assert word not in text, word
        labels = {
            name
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith("slackwater_")
            for name in sample.labels
        }
        assert labels == {"le"}


async def test_on_lambda_the_figures_are_in_cloudwatch(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(names=("scraper",)) as api:
        monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
        answer = await api.client("scraper").get("/metrics")
        assert (answer.status_code, answer.json()) == (
            404,
            {"detail": "On AWS Lambda, metrics are in CloudWatch."},
        )
        monkeypatch.undo()


async def test_what_a_graph_counts_by_itself_is_there_too(api: Api, http: httpx.AsyncClient) -> None:
    from prometheus_client import REGISTRY, Counter

    tokens = Counter("graph_tokens", "Of a node of somebody's own.")
    tokens.inc(7)
    try:
        assert "graph_tokens_total 7.0" in (await http.get("/metrics")).text
    finally:
        REGISTRY.unregister(tokens)
