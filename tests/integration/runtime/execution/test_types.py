"""What comes back from a checkpoint: values of known types, and nothing that is called because a row says so."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from helm import Helm
from langchain_core.runnables import RunnableConfig
from rig import TYPED, Fleet

from slackwater.graphs.registry import Graphs
from slackwater.postgres.pool import Database
from slackwater.runtime.execution.checkpointer import PooledSaver


async def test_the_classes_of_a_projects_state_survive_a_hand_over(fleet: Fleet, helm: Helm) -> None:
    first = await fleet.start(project=TYPED)
    second = await fleet.start(project=TYPED)
    hold = helm.hold("load")
    run = (await first.admit("cargo", {})).row
    await hold.reached.wait()
    hold.let_go()
    await first.stop()
    assert (await fleet.row(run["run_id"]))["stopped"] == "drained"

    await second.claim()
    await fleet.ended(run["run_id"])

    values = (await fleet.thread(run["thread_id"]))["values"]
    assert values["seen"] == ["Hold", "Crate", "Colour", "Port", "Crate", "HumanMessage", "SafeUUID"]


def stored(module: str, name: str, argument: Any) -> bytes:
    """What LangGraph would store for an object that is made by calling `module.name(argument)`."""
    packed = ormsgpack.packb((module, name, argument))
    return ormsgpack.packb(ormsgpack.Ext(0, packed))


@pytest.fixture
async def saver(database: Database) -> PooledSaver:
    """One that has been opened with the project."""
    saver = PooledSaver(database)
    config: RunnableConfig = {"configurable": {}}
    graphs = Graphs.load(Path(TYPED))
    async with graphs.open(
        "cargo", owner="alice", config=config, access="threads.read", checkpointer=saver, store=None
    ):
        return saver


@pytest.mark.parametrize(
    ("module", "name", "argument"),
    [
        ("os", "system", "echo 1 > {file}"),
        ("subprocess", "getoutput", "echo 1 > {file}"),
        ("pathlib", "Path.touch", "{file}"),
        ("ast", "literal_eval", "[1]"),
        ("argparse", "Namespace", {}),
    ],
)
async def test_what_a_row_names_is_not_called(
    saver: PooledSaver,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    module: str,
    name: str,
    argument: Any,
) -> None:
    file = tmp_path / "called"
    given = argument.format(file=file) if isinstance(argument, str) else argument

    with caplog.at_level(logging.WARNING):
        found = saver.serde.loads_typed(("msgpack", stored(module, name, given)))

    assert found == given
    assert not file.exists()
    (line,) = [
        record for record in caplog.records if getattr(record, "event", "") == "checkpoint.unknown_type"
    ]
    assert f'["{module}", "{name}"]' in line.getMessage()


async def test_what_the_project_names_comes_back(saver: PooledSaver) -> None:
    assert saver.serde.loads_typed(("msgpack", stored("fractions", "Fraction", "1/3"))) == Fraction(1, 3)


async def test_functions_of_the_project_are_no_data(
    saver: PooledSaver, caplog: pytest.LogCaptureFixture
) -> None:
    module = next(iter(Graphs.load(Path(TYPED))._imported.values())).graph.builder.state_schema.__module__  # type: ignore[union-attr]

    assert saver.serde.loads_typed(("msgpack", stored(module, "scuttle", "x"))) == "x"
    assert saver.serde.loads_typed(("msgpack", stored(module, "Colour", "red"))).name == "RED"
