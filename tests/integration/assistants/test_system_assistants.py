"""One assistant for each graph, made when a process starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from slackwater.api.assistants import service
from slackwater.api.assistants.models import AssistantCreate
from slackwater.errors import Invalid, NotFound
from slackwater.identity.principal import Principal
from slackwater.postgres.pool import Database

Load = Replica = Callable[..., Any]

ALICE, BOB = Principal("alice"), Principal("bob")


async def rows(database: Database) -> list[dict[str, Any]]:
    return await database.fetch("select * from slackwater.assistants order by graph_id")


def test_their_ids_are_those_of_every_langgraph_server() -> None:
    assert service.system_id("echo") == UUID("046b5dc7-2108-582c-9c6c-31d556d138f0")


async def test_each_graph_gets_one_that_belongs_to_the_system(running: Any) -> None:
    factory, flow = await rows(running.database)

    assert factory["assistant_id"] == service.system_id("factory")
    assert (factory["name"], factory["description"]) == ("factory", None)
    assert (flow["name"], flow["description"]) == ("Flow", "Flows.")
    for row in (factory, flow):
        assert (row["owner"], row["metadata"], row["version"]) == ("system", {"created_by": "system"}, 1)


async def test_a_restart_keeps_them_and_a_new_name_or_description_is_a_new_version(
    running: Any, load: Load, replica: Replica
) -> None:
    # GIVEN
    before = await rows(running.database)

    # WHEN nothing has changed
    await service.register(replica(running.graphs))

    # THEN
    assert await rows(running.database) == before

    # WHEN a description has
    changed = load({"flow": "./graphs.py:flow", "factory": "./graphs.py:factory"})
    await service.register(replica(changed))

    # THEN
    factory, flow = await rows(running.database)
    assert factory == before[0]
    assert (flow["description"], flow["version"]) == (None, 2)
    assert flow["created_at"] == before[1]["created_at"]
    assert flow["updated_at"] > before[1]["updated_at"]


async def test_eight_replicas_may_start_at_once(running: Any, load: Load, replica: Replica) -> None:
    changed = load({"factory": "./graphs.py:factory", "flow": "./graphs.py:flow"})

    await asyncio.gather(*(service.register(replica(changed)) for _ in range(8)))

    assert [row["version"] for row in await rows(running.database)] == [1, 2]


async def test_nobody_can_sit_on_the_id_of_a_graph_that_comes_later(
    running: Any, load: Load, replica: Replica
) -> None:
    # GIVEN
    later = service.system_id("later")
    await service.create(running, ALICE, AssistantCreate(graph_id="flow", assistant_id=later, name="mine"))

    # WHEN
    await service.register(replica(load({"later": "./graphs.py:flow"})))

    # THEN
    (row,) = (row for row in await rows(running.database) if row["assistant_id"] == later)
    assert (row["owner"], row["graph_id"], row["name"]) == ("system", "later", "Flow")


async def test_a_run_may_name_a_graph_or_its_assistant_and_no_query_is_made(running: Any) -> None:
    expected = {"flow": "flow", str(service.system_id("factory")): "factory"}
    await running.database.close(1)

    for named, graph_id in expected.items():
        row = await service.resolve(running, ALICE, named)
        assert (row.graph_id, row.metadata, row.config) == (graph_id, {"created_by": "system"}, {})


async def test_a_run_may_name_its_owners_assistant_only(running: Any, load: Load, replica: Replica) -> None:
    made = await service.create(running, ALICE, AssistantCreate(graph_id="flow", context={"prefix": "<"}))
    named = str(made.assistant_id)

    assert await service.resolve(running, ALICE, named) == made
    for principal, absent in ((BOB, named), (ALICE, str(uuid4()))):
        with pytest.raises(NotFound) as caught:
            await service.resolve(running, principal, absent)
        assert caught.value.message == "Thread or assistant not found."

    # A process that does not serve its graph
    other = replica(load({"factory": "./graphs.py:factory"}))
    with pytest.raises(NotFound):
        await service.resolve(other, ALICE, named)


async def test_what_can_be_neither_is_explained(running: Any) -> None:
    with pytest.raises(Invalid) as caught:
        await service.resolve(running, ALICE, "nope")

    assert caught.value.message == (
        "Invalid assistant: 'nope'. Must be either:\n- A valid assistant UUID, or\n"
        "- One of the registered graphs: flow, factory"
    )
