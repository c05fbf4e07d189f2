"""The events of whole runs, as the clients of a LangGraph server know them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langgraph.types import Command
from streaming import Run, data_of, graphs, names, run_of

from slackwater.errors import Invalid
from slackwater.runtime.execution.encoding import Encoder, StreamPlan, matches

ALL_MODES = [
    "values",
    "updates",
    "messages",
    "messages-tuple",
    "events",
    "debug",
    "tasks",
    "checkpoints",
    "custom",
]
SAY_HI = {"messages": [{"role": "user", "content": "hi"}]}


async def ran(
    name: str, given: Any, modes: str | list[str] | None = None, *, subgraphs: bool = False, **options: Any
) -> Run:
    run = run_of(name, modes, subgraphs=subgraphs)
    await run.attempt(given, **options)
    return run


# ---------------------------------------------------------------- the plan


@pytest.mark.parametrize("asked", [None, [], "values", ["values", "values"]])
def test_values_are_the_default(asked: str | list[str] | None) -> None:
    assert StreamPlan.of(asked, subgraphs=False).public == ("values",)


def test_values_and_updates_are_always_asked_of_langgraph_but_not_published() -> None:
    plan = StreamPlan.of(["messages-tuple", "custom"], subgraphs=True)
    assert plan.public == ("messages-tuple", "custom")
    assert plan.langgraph == ("values", "updates", "messages", "custom")
    assert not plan.use_events


def test_events_are_no_stream_mode_of_langgraph() -> None:
    plan = StreamPlan.of("events", subgraphs=False)
    assert plan.langgraph == ("values", "updates")
    assert plan.use_events


@pytest.mark.parametrize("mode", ["lifecycle", "bogus", ""])
def test_a_mode_that_the_sdk_does_not_have_is_refused(mode: str) -> None:
    with pytest.raises(Invalid, match="Expected one of: values, updates"):
        StreamPlan.of(["values", mode], subgraphs=False)


# ----------------------------------------------------------------- filters


@pytest.mark.parametrize(
    ("name", "asked", "delivered"),
    [
        ("values", [], True),
        ("metadata", [], True),
        ("values", ["values"], True),
        ("values|child:1", ["values"], True),
        ("values|child:1", ["values|child:1"], True),
        ("values", ["values|child:1"], False),
        ("updates", ["values"], False),
        ("metadata", ["values"], False),
        ("messages/partial", ["messages"], True),
        ("messages/partial", ["messages-tuple"], True),
        ("messages|child:1", ["messages-tuple"], True),
        ("messages/partial", ["values"], False),
        ("error", ["values"], True),
        ("gap", ["values"], True),
    ],
)
def test_a_joining_reader_gets_the_modes_it_asked_for(name: str, asked: list[str], delivered: bool) -> None:
    assert matches(name, asked) is delivered


# ------------------------------------------------------- modes, one by one


@pytest.mark.parametrize("mode", ALL_MODES)
async def test_only_the_requested_mode_is_published(mode: str) -> None:
    run = await ran("subgraph", {"text": "x"}, mode)
    bases = {name.partition("|")[0].partition("/")[0] for name, _ in run.log}
    assert bases <= {"messages" if mode == "messages-tuple" else mode}


async def test_values_are_the_state_after_each_superstep() -> None:
    run = await ran("steps", {"n": 1})
    assert data_of(run.log, "values") == [
        {"n": 1, "log": []},
        {"n": 1, "i": 1, "log": ["step-1"]},
        {"n": 1, "i": 1, "log": ["step-1"], "done": True},
    ]


async def test_a_list_of_modes_interleaves() -> None:
    run = await ran("steps", {"n": 2}, ["values", "updates", "custom"])
    assert names(run.log) == [
        *["values", "custom", "updates", "values"],
        *["custom", "updates", "values", "updates", "values"],
    ]
    assert data_of(run.log, "custom") == [{"step": 1, "of": 2}, {"step": 2, "of": 2}]
    assert data_of(run.log, "updates")[-1] == {"finish": {"done": True}}


async def test_messages_are_accumulated_and_announced_once() -> None:
    run = await ran("chat", SAY_HI, "messages")
    assert names(run.log) == ["messages/metadata", *["messages/partial"] * (len(run.log) - 1)]
    (metadata,) = data_of(run.log, "messages/metadata")
    partials = data_of(run.log, "messages/partial")
    assert [message["content"] for (message,) in partials] == ["You", "You said:", *["You said: hi"] * 2]
    assert {message["type"] for (message,) in partials} == {"ai"}
    assert list(metadata) == [partials[0][0]["id"]]
    assert metadata[partials[0][0]["id"]]["metadata"]["langgraph_node"] == "model"
    assert metadata[partials[0][0]["id"]]["metadata"]["run_id"] == str(run.run_id)


async def test_tool_calls_are_accumulated_and_finished_messages_complete() -> None:
    run = await ran("tools", {"messages": [{"role": "user", "content": "add 1 2"}]}, "messages")
    calls = [message["tool_calls"] for (message,) in data_of(run.log, "messages/partial")]
    assert [call["args"] for (call,) in calls[:2]] == [{}, {"a": 1, "b": 2}]
    ((tool,),) = data_of(run.log, "messages/complete")
    assert (tool["type"], tool["content"], tool["tool_call_id"]) == ("tool", "3", "call_add_1")
    assert len(data_of(run.log, "messages/metadata")) == 3


async def test_message_tuples_are_deltas_with_metadata_and_win_over_messages() -> None:
    run = await ran("chat", SAY_HI, ["messages", "messages-tuple"])
    assert set(names(run.log)) == {"messages"}
    data = data_of(run.log, "messages")
    assert "".join(chunk["content"] for chunk, _ in data) == "You said: hi"
    assert {chunk["type"] for chunk, _ in data} == {"AIMessageChunk"}
    assert data[-1][0]["chunk_position"] == "last"
    assert {metadata["langgraph_node"] for _, metadata in data} == {"model"}


async def test_tasks_start_with_an_input_and_end_with_a_result() -> None:
    run = await ran("steps", {"n": 1}, "tasks")
    tasks = data_of(run.log, "tasks")
    assert [("input" in task, task["name"]) for task in tasks] == [
        (True, "step"),
        (False, "step"),
        (True, "finish"),
        (False, "finish"),
    ]
    assert tasks[1] == {
        "id": tasks[0]["id"],
        "name": "step",
        "error": None,
        "result": {"i": 1, "log": ["step-1"]},
        "interrupts": [],
    }


async def test_the_tasks_of_a_failing_node_show_the_masked_error() -> None:
    run = run_of("fail", "tasks")
    with pytest.raises(ValueError, match="boom: x"):
        await run.attempt({"text": "x"})
    assert data_of(run.log, "tasks")[-1]["error"] == {"error": "ValueError", "message": "boom: x"}


async def test_checkpoints_hold_no_keys_of_the_server() -> None:
    run = await ran("subgraph", {"text": "x"}, "checkpoints")
    checkpoints = data_of(run.log, "checkpoints")
    assert [(c["metadata"]["source"], c["metadata"]["step"], c["next"]) for c in checkpoints] == [
        ("input", -1, ["__start__"]),
        ("loop", 0, ["outer_start"]),
        ("loop", 1, ["child"]),
        ("loop", 2, ["outer_end"]),
        ("loop", 3, []),
    ]
    assert checkpoints[0]["parent_config"] is None
    assert checkpoints[0]["tasks"][0]["state"] is None
    configurable = checkpoints[1]["config"]["configurable"]
    assert set(configurable) == {"thread_id", "run_id", "checkpoint_ns", "checkpoint_id"}
    assert checkpoints[2]["parent_config"]["configurable"]["checkpoint_id"] == configurable["checkpoint_id"]


async def test_a_subgraphs_task_names_its_checkpoints() -> None:
    run = await ran("subgraph", {"text": "x"}, ["debug", "checkpoints"])
    told = [data["payload"] for data in data_of(run.log, "debug") if data["type"] == "checkpoint"]
    for task in (told[2]["tasks"][0], data_of(run.log, "checkpoints")[2]["tasks"][0]):
        assert task["name"] == "child"
        assert task["checkpoint"] == {"thread_id": run.thread_id, "checkpoint_ns": f"child:{task['id']}"}
        assert "state" not in task


async def test_debug_wraps_checkpoints_tasks_and_results() -> None:
    run = await ran("steps", {"n": 1}, "debug")
    data = data_of(run.log, "debug")
    assert [(d["step"], d["type"]) for d in data] == [
        (-1, "checkpoint"),
        (0, "checkpoint"),
        *[(1, "task"), (1, "task_result"), (1, "checkpoint")],
        *[(2, "task"), (2, "task_result"), (2, "checkpoint")],
    ]
    first, second = data[0]["payload"], data[1]["payload"]
    assert first["parent_checkpoint"] is None
    assert second["parent_checkpoint"] == first["checkpoint"]
    assert set(second["checkpoint"]) == {"checkpoint_id", "thread_id", "checkpoint_ns"}


async def test_a_run_without_a_checkpointer_has_no_checkpoints() -> None:
    run = Run(graphs.steps, ["checkpoints", "debug"])
    await run.attempt({"n": 1})
    assert {data["type"] for data in data_of(run.log, "debug")} == {"task", "task_result"}
    assert data_of(run.log, "checkpoints") == []


async def test_events_are_the_records_of_the_run_without_hidden_ones() -> None:
    run = await ran("echo", {"text": "x"}, "events")
    assert set(names(run.log)) == {"events"}
    records = data_of(run.log, "events")
    assert records[0]["event"] == "on_chain_start"
    assert records[0]["run_id"] == str(run.run_id)
    assert records[-1]["event"] == "on_chain_end"
    assert records[-1]["data"]["output"]["echo"] == "x"
    assert not [r for r in records if "langsmith:hidden" in r["tags"] or r["name"] == "__start__"]


async def test_beside_events_the_root_graphs_stream_comes_out_as_its_modes() -> None:
    run = await ran("subgraph", {"text": "x"}, ["events", "updates", "custom"], subgraphs=True)
    alone = await ran("subgraph", {"text": "x"}, ["updates", "custom"], subgraphs=True)
    assert [name for name in names(run.log) if name != "events"] == names(alone.log)
    of_root = [r for r in data_of(run.log, "events") if r["run_id"] == str(run.run_id)]
    assert [r["event"] for r in of_root] == ["on_chain_start", "on_chain_end"]


# --------------------------------------------------------------- subgraphs


async def test_without_subgraphs_nothing_of_them_is_streamed() -> None:
    run = await ran("subgraph", {"text": "x"}, ["updates", "custom"])
    assert [list(data) for data in data_of(run.log, "updates")] == [["outer_start"], ["child"], ["outer_end"]]
    assert data_of(run.log, "custom") == []


async def test_with_subgraphs_names_carry_the_namespace() -> None:
    run = await ran("tree", {"text": "x"}, ["updates", "custom"], subgraphs=True)
    deep = "|child:<id>|middle:<id>"
    assert [name for name in names(run.log) if name.startswith("updates")] == [
        "updates",
        "updates|child:<id>",
        *[f"updates{deep}"] * 2,
        *["updates|child:<id>"] * 2,
        *["updates"] * 2,
    ]
    assert names(run.log).count(f"custom{deep}") == 2


async def test_message_tuples_carry_the_namespace_and_whole_messages_do_not() -> None:
    given = {"messages": [{"role": "user", "content": "hi"}]}
    tuples = await ran("talk", given, "messages-tuple", subgraphs=True)
    assert set(names(tuples.log)) == {"messages", "messages|child:<id>"}
    whole = await ran("talk", given, "messages", subgraphs=True)
    assert set(names(whole.log)) == {"messages/metadata", "messages/partial", "messages/complete"}


async def test_without_subgraphs_their_messages_come_finished() -> None:
    run = await ran("talk", {"messages": [{"role": "user", "content": "hi"}]}, "messages")
    finished = [message["content"] for (message,) in data_of(run.log, "messages/complete")]
    assert finished == ["You said: hi", "Thank you"]


# -------------------------------------------------------------- interrupts


async def test_an_interrupt_is_in_the_values_and_in_the_updates() -> None:
    run = run_of("hitl", ["values", "updates"])
    encoder = await run.attempt({"text": "u"})
    assert encoder.interrupted
    assert names(run.log) == ["values", "updates", "values"]
    (update,) = data_of(run.log, "updates")
    (interrupt,) = update["__interrupt__"]
    assert interrupt["value"] == {"question": "approve u?", "n": 0}
    assert (interrupt["response_schema"], list(update)) == (None, ["__interrupt__"])
    assert data_of(run.log, "values")[-1]["__interrupt__"] == [interrupt]
    assert json.loads(encoder.last_values or b"") == {"text": "u", "answers": []}


async def test_two_interrupts_are_two_chunks() -> None:
    run = await ran("panel", {"text": "x"}, "updates")
    asked = [data["__interrupt__"] for data in data_of(run.log, "updates") if "__interrupt__" in data]
    assert sorted(interrupt["value"]["from"] for (interrupt,) in asked) == ["one", "two"]


@pytest.mark.parametrize("mode", ["custom", "messages", "tasks"])
async def test_other_modes_hide_the_interrupt_from_the_client_but_not_from_the_server(mode: str) -> None:
    run = run_of("asking", mode)
    encoder = await run.attempt({"text": "x"})
    assert encoder.interrupted
    assert not any("__interrupt__" in json.loads(data) for _, data in run.log)


async def test_a_static_breakpoint_is_an_empty_interrupt_in_the_updates() -> None:
    run = run_of("steps", ["updates", "values"])
    encoder = await run.attempt({"n": 2}, interrupt_after=["step"])
    assert encoder.interrupted
    assert data_of(run.log, "updates")[-1] == {"__interrupt__": []}
    assert "__interrupt__" not in data_of(run.log, "values")[-1]


async def test_a_new_run_that_answers_streams_the_state_it_goes_on_from() -> None:
    first = await ran("hitl", {"text": "r"})
    answer = Run(first.graph, ["updates", "values"], thread_id=first.thread_id)
    encoder = await answer.attempt(Command(resume="ok"))
    assert not encoder.interrupted
    assert data_of(answer.log, "updates") == [{"ask": {"answers": ["ok"]}}, {"after": {"result": "r:ok"}}]
    assert names(answer.log)[0] == "values"


# ------------------------------------------------------------- last values


@pytest.mark.parametrize("modes", ["values", "custom", "events", ["messages", "tasks"]])
async def test_the_last_values_are_known_whatever_was_asked(modes: str | list[str]) -> None:
    run = run_of("subgraph", modes, subgraphs=True)
    encoder = await run.attempt({"text": "x"})
    state = await run.graph.aget_state({"configurable": {"thread_id": run.thread_id}})
    assert json.loads(encoder.last_values or b"") == state.values


async def test_the_last_values_are_the_bytes_that_were_published() -> None:
    run = run_of("steps", "values")
    encoder = await run.attempt({"n": 1})
    assert encoder.last_values is run.log[-1][1]


def test_no_values_are_no_values() -> None:
    encoder = Encoder(StreamPlan.of(None, subgraphs=False), run_id="r", resumed=False)
    assert encoder.last_values is None


async def test_the_functional_api_streams_its_tasks_and_its_result() -> None:
    run = await ran("flow", [1, 2], ["updates", "values"])
    assert data_of(run.log, "updates") == [{"double": 2}, {"double": 4}, {"flow": {"doubled": [2, 4]}}]
    assert data_of(run.log, "values") == [{"doubled": [2, 4]}]
