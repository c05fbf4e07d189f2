"""A run that is stopped and goes on reads like one that was never stopped.

Every test drives real graphs through `RunControl` drains (or a cut connection) at many places, goes on with `None`
each time, and compares everything that was published with an undisturbed run.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from langgraph.errors import GraphDrained
from langgraph.types import Command
from streaming import Run, data_of, names, run_of, shown, unordered

from slackwater.runtime.events.replay import Published

EVERYTHING = ["values", "updates", "messages-tuple", "custom", "tasks", "checkpoints", "debug"]
SAY = {"messages": [{"role": "user", "content": "a b"}]}
CROWD = {"n": 2, "log": []}

SEQUENTIAL: dict[str, Any] = {
    "steps": {"n": 3},
    "tools": {"messages": [{"role": "user", "content": "add 1 2"}]},
    "jump": {"text": "x"},
    "quiet": {"text": "x"},
    "tree": {"text": "x"},
    "memory": {"text": "x"},
    "calls": {"text": "x"},
    "talk": SAY,
    "asking": {"text": "x"},
}
SIDE_BY_SIDE: dict[str, Any] = {
    "fan": {"text": "x"},
    "panel": {"text": "x"},
    "crowd": CROWD,
    "crews": CROWD,
}

# Where a drain is asked for: at a chunk that the server takes, or at the start or end of a node.
PLACES = [
    *[{"drain_at_chunk": n} for n in (0, 5, 13, 24, 39)],
    *[{"drain_at_step": n} for n in (0, 3, 5, 8, 12, 17, 23)],
]


async def undisturbed(name: str, given: Any, modes: Any, **options: Any) -> Run:
    run = run_of(name, modes, **options)
    await run.attempt(given)
    return run


async def stopped_somewhere(name: str, given: Any, modes: Any, **options: Any) -> list[Run]:
    """One run per place, stopped there once; and one that is stopped in every attempt."""
    runs = []
    for place in PLACES:
        run = run_of(name, modes, **options)
        await run.to_end(given, **place)
        runs.append(run)
    run = run_of(name, modes, **options)
    await run.to_end(given, every={"drain_at_step": 12 if name in SIDE_BY_SIDE else 6})
    stopped = [run for run in (*runs, run) if run.attempts > 1]
    assert stopped
    return stopped


# ------------------------------------------------------------- handed over


@pytest.mark.parametrize("name", SEQUENTIAL)
async def test_a_drained_run_reads_like_an_undisturbed_one_event_by_event(name: str) -> None:
    given = SEQUENTIAL[name]
    whole = await undisturbed(name, given, EVERYTHING, subgraphs=True)
    for run in await stopped_somewhere(name, given, EVERYTHING, subgraphs=True):
        assert shown(run.log) == shown(whole.log)


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
async def test_branches_side_by_side_say_everything_once(name: str) -> None:
    given = SIDE_BY_SIDE[name]
    whole = await undisturbed(name, given, EVERYTHING, subgraphs=True)
    for run in await stopped_somewhere(name, given, EVERYTHING, subgraphs=True):
        assert unordered(run.log) == unordered(whole.log)


@pytest.mark.parametrize(
    ("name", "mode", "subgraphs"),
    [
        ("tree", "values", True),
        ("tree", "tasks", True),
        ("tree", "debug", False),
        ("talk", "messages", True),
        ("talk", "messages-tuple", False),
    ],
)
async def test_each_mode_alone_is_exact_too(name: str, mode: str, subgraphs: bool) -> None:
    given = SEQUENTIAL[name]
    whole = await undisturbed(name, given, mode, subgraphs=subgraphs)
    for run in await stopped_somewhere(name, given, mode, subgraphs=subgraphs):
        assert shown(run.log) == shown(whole.log)


async def test_a_drain_before_the_first_superstep_shows_no_state_from_before_the_input() -> None:
    run = run_of("steps", "values")
    with pytest.raises(GraphDrained):
        await run.attempt({"n": 1}, drain_at_step=0)
    assert run.log == []
    await run.attempt(None, resumed=True)
    assert data_of(run.log, "values")[0] == {"n": 1, "log": []}


@pytest.mark.parametrize("place", [{"drain_at_step": 0}, {"drain_at_step": 2}])
async def test_a_subgraph_without_checkpoints_that_starts_in_a_later_attempt_is_new(
    place: dict[str, int],
) -> None:
    whole = await undisturbed("aside", {"text": "x"}, EVERYTHING, subgraphs=True)
    run = run_of("aside", EVERYTHING, subgraphs=True)
    await run.to_end({"text": "x"}, **place)
    assert run.attempts == 2
    assert shown(run.log) == shown(whole.log)


@pytest.mark.parametrize("name", ["hitl", "asking"])
async def test_a_drained_answer_reads_like_an_undisturbed_one(name: str) -> None:
    async def asked() -> Run:
        first = await undisturbed(name, {"text": "x"}, "values")
        return Run(first.graph, EVERYTHING, subgraphs=True, thread_id=first.thread_id)

    whole = await asked()
    await whole.attempt(Command(resume="yes"))
    for place in PLACES:
        run = await asked()
        await run.to_end(Command(resume="yes"), **place)
        assert shown(run.log) == shown(whole.log)


async def test_messages_of_a_node_that_is_entered_again_are_not_said_again() -> None:
    # GIVEN a subgraph that is stopped after its model has spoken and before a node that sees no messages
    run = run_of("talk", "messages-tuple")
    run.subgraphs = True
    await run.to_end(SAY, drain_at_step=4)
    # THEN each message is told of once: by its deltas or as a whole
    kinds: dict[str, set[str]] = {}
    for _, data in run.log:
        message = json.loads(data)[0]
        kinds.setdefault(message["id"], set()).add(message["type"])
    assert run.attempts == 2
    assert all(len(kind) == 1 for kind in kinds.values())


async def test_beside_events_the_other_modes_stay_exact_and_the_run_starts_once() -> None:
    whole = await undisturbed(
        "tree", {"text": "x"}, ["events", "values", "updates", "custom"], subgraphs=True
    )

    def rest(run: Run) -> list[str]:
        return shown((name, data) for name, data in run.log if name != "events")

    for run in await stopped_somewhere(
        "tree", {"text": "x"}, ["events", "values", "updates", "custom"], subgraphs=True
    ):
        assert rest(run) == rest(whole)
        of_root = [r["event"] for r in data_of(run.log, "events") if r["run_id"] == str(run.run_id)]
        assert of_root == ["on_chain_start", "on_chain_end"]


async def test_between_two_supersteps_of_the_root_even_the_records_are_exact() -> None:
    whole = await undisturbed("steps", {"n": 3}, "events")
    for run in await stopped_somewhere("steps", {"n": 3}, "events"):
        assert shown(run.log) == shown(whole.log)


@pytest.mark.parametrize("name", ["tree", "talk"])
async def test_a_subgraph_that_is_entered_again_begins_once_and_keeps_its_ids(name: str) -> None:
    whole = await undisturbed(name, SEQUENTIAL[name], "events")
    for run in await stopped_somewhere(name, SEQUENTIAL[name], "events"):
        assert shown(run.log) == shown(whole.log)


@pytest.mark.parametrize("name", ["tree", "talk"])
async def test_without_knowing_what_was_published_states_and_updates_are_still_exact(name: str) -> None:
    modes = ["values", "updates", "custom", "checkpoints"]
    whole = await undisturbed(name, SEQUENTIAL[name], modes, subgraphs=True)
    for run in await stopped_somewhere(name, SEQUENTIAL[name], modes, subgraphs=True, told=False):
        assert shown(run.log) == shown(whole.log)


async def test_the_last_values_of_an_attempt_that_only_repeats_are_known() -> None:
    run = run_of("steps", "values")
    with pytest.raises(GraphDrained):
        await run.attempt({"n": 3}, drain_at_chunk=2)
    published = len(run.log)
    with pytest.raises(GraphDrained):
        await run.attempt(None, resumed=True, drain_at_step=0)
    assert len(run.log) == published
    assert run.encoder is not None
    assert run.encoder.last_values == run.log[-1][1]


# -------------------------------------------------------------- taken over


def steps_of(run: Run) -> list[int]:
    return [checkpoint["metadata"]["step"] for checkpoint in data_of(run.log, "checkpoints")]


@pytest.mark.parametrize("cut", range(1, 12))
async def test_a_crash_between_a_checkpoint_and_its_events_loses_none_and_doubles_none(cut: int) -> None:
    """Durability `sync`: the checkpoint is stored before its events are seen, so each cut here loses some."""
    whole = await undisturbed("steps", {"n": 3}, ["values", "checkpoints"], durability="sync")
    run = run_of("steps", ["values", "checkpoints"], durability="sync")
    await run.to_end({"n": 3}, cut_at_chunk=cut)
    assert run.attempts == 2
    assert data_of(run.log, "values") == data_of(whole.log, "values")
    assert steps_of(run) == steps_of(whole) == [-1, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["tree", "fan", "crews"])
async def test_a_crash_inside_a_subgraph_loses_no_state(name: str) -> None:
    given = {**SEQUENTIAL, **SIDE_BY_SIDE}[name]
    whole = await undisturbed(name, given, "values", subgraphs=True, durability="sync")
    for cut in range(1, 24, 4):
        run = run_of(name, "values", subgraphs=True, durability="sync")
        await run.to_end(given, cut_at_chunk=cut)
        assert unordered(run.log) == unordered(whole.log)


@pytest.mark.parametrize("cut", range(1, 12, 2))
async def test_a_crash_with_durability_async_loses_no_state_and_repeats_two_supersteps_at_most(
    cut: int,
) -> None:
    whole = await undisturbed("steps", {"n": 3}, "values")
    run = run_of("steps", "values")
    await run.to_end({"n": 3}, cut_at_chunk=cut)
    want, got = Counter(shown(whole.log)), Counter(shown(run.log))
    assert not want - got
    assert (got - want).total() <= 2


async def test_after_a_crash_a_task_that_starts_again_says_so() -> None:
    run = run_of("steps", ["tasks", "custom"])
    await run.to_end({"n": 1}, cut_at_chunk=2)
    assert run.attempts == 2
    assert [("input" in task, task["name"]) for task in data_of(run.log, "tasks")] == [
        *[(True, "step"), (True, "step"), (False, "step")],
        *[(True, "finish"), (False, "finish")],
    ]


# ---------------------------------------------------------------- evidence


def test_each_published_event_is_found_as_often_as_it_was_published() -> None:
    update = b'{"work":{"log":["worked"]}}'
    published = Published.of(
        [("updates", update), ("updates", update), ("updates|child:1", b"{}")], clean=True
    )
    assert published.namespaces == {"child:1"}
    (mark,) = [mark for mark in published.marks if mark[0] == "updates"]
    assert [published.take(*mark) for _ in range(3)] == [True, True, False]


async def test_evidence_is_found_in_every_kind_of_event() -> None:
    run = run_of("asking", [*EVERYTHING, "events"], subgraphs=True)
    await run.attempt({"text": "x"})
    published = Published.of([*run.log, ("metadata", b"{}"), ("error", b"{}")], clean=False)
    assert {mark[0].partition("|")[0] for mark in published.marks} == {
        *["values", "updates", "tasks", "checkpoints", "debug"]
    }
    assert set(names(run.log)) > {"custom", "events"}
