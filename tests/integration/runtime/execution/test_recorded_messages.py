"""With the gateway, what models and tools say is recorded once, and what models cost once per call, however a run is stopped."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from helm import Helm
from rig import BRISK, CUT, Fleet, Process

from slackwater.runtime.queue.cancel import CancelAction

SHAPES = [("recorded", "async"), ("recorded_nested", "async"), ("recorded", "sync"), ("recorded", "exit")]
GIVEN = {"messages": [{"role": "user", "content": "Hello", "id": "human"}], "tools": ["a", "b"]}


@pytest.fixture
async def gateway(fleet: Fleet) -> Process:
    return await fleet.start(gateway=True)


async def rows_of(fleet: Fleet, run_id: UUID, category: str = "message") -> list[dict[str, Any]]:
    return await fleet.database.fetch(
        "select * from slackwater.messages where run_id = %s and category = %s order by seq",
        [run_id, category],
    )


async def usage_of(fleet: Fleet, run_id: UUID) -> list[dict[str, Any]]:
    return await fleet.database.fetch(
        "select * from slackwater.token_usage where run_id = %s order by created_at, place", [run_id]
    )


async def messages_of_state(fleet: Fleet, thread_id: UUID) -> list[dict[str, Any]]:
    row = await fleet.thread(thread_id)
    return list(row["values"]["messages"])


def said(rows: list[dict[str, Any]]) -> list[str]:
    return [row["content"]["content"] for row in rows]


async def check(fleet: Fleet, run: dict[str, Any]) -> None:
    """Whatever the state has is recorded once, under the same ids."""
    rows = await rows_of(fleet, run["run_id"])
    shown = [row["content"]["id"] for row in rows if not row["metadata"]["caller"].startswith("middleware:")]
    state = await messages_of_state(fleet, run["thread_id"])
    assert sorted(shown) == sorted(message["id"] for message in state), said(rows)


@pytest.mark.parametrize(("graph", "durability"), SHAPES)
async def test_rows_have_the_ids_of_the_state(
    fleet: Fleet, gateway: Process, graph: str, durability: str
) -> None:
    """E1, E2, E4: in the order in which they were said."""
    run = (await gateway.admit(graph, {**GIVEN, "tools": ["a", "bad"]}, durability=durability)).row
    await fleet.ended(run["run_id"])
    await check(fleet, run)
    rows = await rows_of(fleet, run["run_id"])
    assert [row["event_type"] for row in rows[:2]] == ["llm.human.input", "llm.ai.response"]
    assert sorted(said(rows[2:4])) == ["not there", "seen a"]
    assert said(rows)[4:6] == ["title", "answer"]
    assert rows[4]["metadata"]["caller"] == "middleware:title"
    assert [row["metadata"]["llm_call_index"] for row in rows if "usage" in row["metadata"]] == [
        *range(3 if graph == "recorded" else 5)
    ]
    assert [row["event_type"] for row in await rows_of(fleet, run["run_id"], "trace")] == ["run.start"]
    assert [row["event_type"] for row in await rows_of(fleet, run["run_id"], "outputs")] == ["run.end"]
    usage = await usage_of(fleet, run["run_id"])
    assert {row["model"] for row in usage} == {"costly-1"}
    assert [row["caller"] for row in usage][:3] == ["lead_agent", "middleware:title", "lead_agent"]
    assert (usage[0]["input_tokens"], usage[0]["output_tokens"], usage[0]["total_tokens"]) == (10, 5, 15)
    assert (usage[0]["cached_tokens"], usage[0]["reasoning_tokens"]) == (4, 2)
    assert not any(row["repeated"] for row in usage)


@pytest.mark.parametrize(("graph", "durability"), SHAPES)
@pytest.mark.parametrize("at", ["look:b", "answer", "answered"])
async def test_a_cut_superstep_leaves_its_tokens_and_none_of_its_messages(
    fleet: Fleet, gateway: Process, helm: Helm, graph: str, at: str, durability: str
) -> None:
    hold = helm.hold(at)
    run = (await gateway.admit(graph, GIVEN, durability=durability)).row
    await asyncio.wait_for(hold.reached.wait(), 15)
    await gateway.stop(**CUT)
    assert (await fleet.row(run["run_id"]))["stopped"] == "cut"
    calls = len(await usage_of(fleet, run["run_id"]))
    assert calls == {"look:b": 1, "answer": 2, "answered": 3}[at]
    helm.hooks.clear()
    await fleet.start(gateway=True, **BRISK)
    await fleet.ended(run["run_id"])
    await check(fleet, run)
    rows = await rows_of(fleet, run["run_id"])
    assert len(rows) == (6 if graph == "recorded" else 8)
    usage = await usage_of(fleet, run["run_id"])
    assert sum(row["repeated"] for row in usage) == len(usage) - (3 if graph == "recorded" else 5)
    if durability != "exit":
        assert len(usage) == len(helm_models(helm)) - (at == "answer")


def helm_models(helm: Helm) -> list[str]:
    """The calls of models that were begun."""
    return [
        step.node for step in helm.steps if step.phase == "begin" and step.node in ("plan", "title", "answer")
    ]


@pytest.mark.parametrize("at", ["look:b", "answer", "answered"])
async def test_after_a_sigkill_each_message_is_there_once(fleet: Fleet, helm: Helm, at: str) -> None:
    first = await fleet.start(linked=True, gateway=True)
    hold = helm.hold(at)
    run = (await first.admit("recorded", GIVEN)).row
    await asyncio.wait_for(hold.reached.wait(), 15)
    await first.die()
    helm.hooks.clear()
    home = await fleet.start(gateway=True, begin=False)
    await fleet.bury(first, home, run["run_id"])
    await check(fleet, run)
    assert len(await rows_of(fleet, run["run_id"])) == 6
    usage = await usage_of(fleet, run["run_id"])
    assert len([row for row in usage if not row["repeated"]]) == 3


async def test_a_run_that_is_drained_at_a_boundary_goes_on_where_it_was(
    fleet: Fleet, gateway: Process, helm: Helm
) -> None:
    hold = helm.hold("plan")
    run = (await gateway.admit("recorded", GIVEN)).row
    await asyncio.wait_for(hold.reached.wait(), 15)
    stopping = asyncio.create_task(gateway.stop())
    await fleet.until(lambda: gateway.runtime.worker.stop_reason)
    hold.let_go()
    await stopping
    assert (await fleet.row(run["run_id"]))["stopped"] == "drained"
    await check_prefix(fleet, run, ["Hello", "plan"])
    await fleet.start(gateway=True, **BRISK)
    await fleet.ended(run["run_id"])
    await check(fleet, run)
    usage = await usage_of(fleet, run["run_id"])
    assert (len(usage), sum(row["repeated"] for row in usage)) == (3, 0)
    seqs = [row["seq"] for row in await rows_of(fleet, run["run_id"])]
    assert seqs == sorted(set(seqs))


async def check_prefix(fleet: Fleet, run: dict[str, Any], wanted: list[str]) -> None:
    assert said(await rows_of(fleet, run["run_id"])) == wanted


async def test_a_cancelled_run_keeps_what_was_said(fleet: Fleet, gateway: Process, helm: Helm) -> None:
    hold = helm.hold("answered")
    run = (await gateway.admit("recorded", GIVEN)).row
    await asyncio.wait_for(hold.reached.wait(), 15)
    await gateway.cancel(run["thread_id"], run["run_id"])
    assert (await fleet.ended(run["run_id"]))["status"] == "interrupted"
    assert said(await rows_of(fleet, run["run_id"]))[-2:] == ["title", "answer"]
    assert len(await usage_of(fleet, run["run_id"])) == 3


async def test_a_rollback_leaves_the_tokens_alone(fleet: Fleet, gateway: Process, helm: Helm) -> None:
    hold = helm.hold("answered")
    run = (await gateway.admit("recorded", GIVEN)).row
    await asyncio.wait_for(hold.reached.wait(), 15)
    await gateway.cancel(run["thread_id"], run["run_id"], action=CancelAction.ROLLBACK)
    await fleet.until(lambda: is_gone(fleet, run["run_id"]))
    assert await rows_of(fleet, run["run_id"]) == []
    assert len(await usage_of(fleet, run["run_id"])) == 3


async def is_gone(fleet: Fleet, run_id: UUID) -> bool:
    return await fleet.find(run_id) is None


async def test_what_a_task_says_before_it_asks_is_recorded_when_it_is_answered(
    fleet: Fleet, gateway: Process
) -> None:
    run = (await gateway.admit("recorded_doubts", {"messages": []})).row
    await fleet.ended(run["run_id"])
    (human,) = await rows_of(fleet, run["run_id"])
    assert human["content"]["content"][0]["image_url"] == "data:image/png;base64,[left out]"
    assert len(await usage_of(fleet, run["run_id"])) == 1
    second = (
        await gateway.admit(
            "recorded_doubts", command={"resume": "yes"}, thread_id=run["thread_id"], create_thread=False
        )
    ).row
    await fleet.ended(second["run_id"])
    assert said(await rows_of(fleet, second["run_id"])) == ["doubt"]


@pytest.mark.parametrize("durability", ["async", "exit"])
async def test_what_was_said_in_a_subgraph_before_it_asks_is_recorded_once(
    fleet: Fleet, gateway: Process, durability: str
) -> None:
    run = (await gateway.admit("recorded_nested_doubts", {**GIVEN, "tools": []}, durability=durability)).row
    await fleet.ended(run["run_id"])
    assert said(await rows_of(fleet, run["run_id"])) == ["Hello", "plan"]
    options: dict[str, Any] = {
        "thread_id": run["thread_id"],
        "create_thread": False,
        "durability": durability,
    }
    second = (await gateway.admit("recorded_nested_doubts", command={"resume": "yes"}, **options)).row
    await fleet.ended(second["run_id"])
    assert said(await rows_of(fleet, second["run_id"])) == ["doubt"]


async def test_a_task_that_is_tried_again_has_said_its_last_answer_only(
    fleet: Fleet, gateway: Process
) -> None:
    run = (await gateway.admit("recorded_tries", GIVEN)).row
    await fleet.ended(run["run_id"])
    await check(fleet, run)
    usage = await usage_of(fleet, run["run_id"])
    assert [row["repeated"] for row in usage] == [False, True]


async def test_messages_are_kept_for_so_many_days(fleet: Fleet) -> None:
    process = await fleet.start(gateway=True, message_retention_days=2)
    run = (await process.admit("recorded", GIVEN)).row
    await fleet.ended(run["run_id"])
    await process.runtime.sweep()
    assert len(await rows_of(fleet, run["run_id"])) == 6
    await fleet.database.execute(
        "update slackwater.messages set created_at = created_at - interval '3 days' where event_type <> 'llm.ai.response'"
    )
    await process.runtime.sweep()
    assert said(await rows_of(fleet, run["run_id"])) == ["plan", "title", "answer"]
    assert len(await usage_of(fleet, run["run_id"])) == 3


async def test_nothing_is_recorded_without_the_gateway(fleet: Fleet, process: Process) -> None:
    run = (await process.admit("recorded", GIVEN)).row
    await fleet.ended(run["run_id"])
    assert await rows_of(fleet, run["run_id"]) == []
    assert await usage_of(fleet, run["run_id"]) == []
