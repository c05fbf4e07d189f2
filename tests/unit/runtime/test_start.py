"""How an attempt begins: what a later start decides from what is stored. Real graphs over LangGraph's own memory."""

from __future__ import annotations

import contextlib
import operator
from dataclasses import replace
from typing import Annotated, Any
from uuid import uuid4

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import RunControl
from langgraph.types import Command, Send, StateSnapshot
from typing_extensions import TypedDict

from slackwater.graphs.topology import subgraph_at
from slackwater.runtime.execution import start
from slackwater.runtime.execution.start import AlreadyFinished, Begin, CannotResume, Level
from slackwater.runtime.queue.claims import ClaimedRun
from slackwater.runtime.queue.lease import Lease
from slackwater.runtime.queue.states import Stopped


class State(TypedDict, total=False):
    log: Annotated[list, operator.add]


def walk(name: str, stop: RunControl | None = None) -> Any:
    async def node(state: State) -> dict:
        if stop is not None:
            stop.request_drain("test")
        return {"log": [name]}

    return node


CONTROL = RunControl()


def chain(*names: str, drain_in: str = "", **options: Any) -> StateGraph:
    builder = StateGraph(State)
    nodes = options.pop("nodes", {})
    for before, name in zip((START, *names), names, strict=False):
        builder.add_node(name, nodes.get(name) or walk(name, CONTROL if name == drain_in else None))
        builder.add_edge(before, name)
    builder.add_edge(names[-1], END)
    return builder


@pytest.fixture(autouse=True)
def control(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_start.CONTROL", RunControl())


class Story:
    """A run over a graph that stops somewhere, and what a later start sees of it."""

    def __init__(self, builder: StateGraph, **compiled: Any) -> None:
        self.saver = InMemorySaver()
        self.graph = builder.compile(checkpointer=self.saver, **compiled)
        run_id, thread_id = uuid4(), uuid4()
        self.config: Any = {
            "configurable": {"thread_id": str(thread_id)},
            "metadata": {"run_id": str(run_id)},
            "run_id": run_id,
        }
        self.run = ClaimedRun(
            run_id=run_id,
            thread_id=thread_id,
            owner="me",
            assistant_id=uuid4(),
            graph_id="g",
            kwargs={"config": {}},
            metadata={},
            on_completion=None,
            fence=2,
            attempt=2,
            handovers=0,
            stopped=Stopped.LOST,
            input_applied=True,
            input_step=-1,
            base_checkpoint_id=None,
            cancel_action=None,
            cancel_reason=None,
            worked_seconds=0.0,
            lease=Lease(run_id, thread_id, 2, "w", 0.0),
        )

    async def go(self, given: Any = None, **options: Any) -> Story:
        options.setdefault("durability", "sync")
        with contextlib.suppress(GraphDrained):
            await self.graph.ainvoke(
                {"log": []} if given is None else given, self.config, control=CONTROL, **options
            )
        return self

    async def levels(self, graph: CompiledStateGraph | None = None) -> list[Level]:
        loaded = graph or self.graph
        loaded.checkpointer = self.saver
        found, todo = [], [(loaded, await loaded.aget_state(self.config, subgraphs=True))]
        while todo:
            here, state = todo.pop(0)
            head = await self.saver.aget_tuple(state.config)
            assert head is not None
            parent = await self.saver.aget_tuple(head.parent_config) if head.parent_config else None
            found.append(Level(here, head, parent, state.tasks))
            todo += [
                (subgraph_at(here, (task.name,)), task.state)  # type: ignore[misc]
                for task in state.tasks
                if isinstance(task.state, StateSnapshot)
            ]
        return found

    async def opening(self, graph: CompiledStateGraph | None = None, **kwargs: Any) -> start.StartPlan:
        return start.plan_resume(replace(self.run, kwargs={"config": {}, **kwargs}), await self.levels(graph))


# What the request asked for


def test_the_first_input_is_the_requests_input_or_its_command() -> None:
    assert start.first_input({"input": {"a": 1}, "command": None}) == {"a": 1}
    assert start.first_input({"input": None}) is None
    assert start.first_input({"input": {"a": 1}, "command": {"resume": "yes"}}) == Command(
        resume="yes", goto=[]
    )


def test_a_command_in_the_sdks_json() -> None:
    assert start.command_of({"goto": "b"}) == Command(goto=["b"])
    assert start.command_of({"goto": ["b", {"node": "c", "input": {"n": 1}}]}) == Command(
        goto=["b", Send("c", {"n": 1})]
    )
    assert start.command_of({"goto": {"node": "c"}}) == Command(goto=[Send("c", None)])
    assert start.command_of({"update": {"a": 1}}) == Command(update={"a": 1}, goto=[])
    assert start.command_of({"update": [["a", 1], ["a", 2]]}) == Command(update=[("a", 1), ("a", 2)], goto=[])


def test_the_limit_is_the_requests_and_else_the_graphs() -> None:
    graph = chain("a").compile()
    assert start.recursion_limit({"config": {}}, graph) is None
    assert start.recursion_limit({"config": {"recursion_limit": 7}}, graph) == 7
    graph = graph.with_config(recursion_limit=9)
    assert start.recursion_limit({}, graph) == 9
    assert start.recursion_limit({"config": {"recursion_limit": 7}}, graph) == 7


# What comes next


async def test_the_next_nodes_are_read_from_edges_sends_joins_and_commands() -> None:
    def fan(state: State) -> list[Send]:
        return [Send("work", {"log": []})]

    story = await Story(
        StateGraph(State)
        .add_node("a", walk("a", None))
        .add_node("work", walk("work"))
        .add_edge(START, "a")
        .add_conditional_edges("a", fan, ["work"])
    ).go(interrupt_after=["a"])
    (level, *_) = await story.levels()
    assert start.pending_nodes(level.head.checkpoint) == {"work"}

    join = StateGraph(State).add_node("l", walk("l")).add_node("r", walk("r")).add_node("both", walk("both"))
    join.add_edge(START, "l").add_edge(START, "r").add_edge(["l", "r"], "both")
    story = await Story(join).go(interrupt_before=["both"])
    (level, *_) = await story.levels()
    assert start.pending_nodes(level.head.checkpoint) == {"both"}

    story = await Story(chain("a", "b")).go(interrupt_after=["a"])
    (level, *_) = await story.levels()
    writes = [
        (start.NULL_TASK_ID, "branch:to:x", None),
        (start.NULL_TASK_ID, "__pregel_tasks", Send("y", {})),
        (start.NULL_TASK_ID, "log", ["told"]),
        ("other", "branch:to:z", None),
    ]
    assert start.pending_nodes(level.head.checkpoint, writes) == {"b", "x", "y"}


async def test_half_a_join_leads_nowhere_yet() -> None:
    join = StateGraph(State).add_node("l", walk("l")).add_node("r", walk("r")).add_node("both", walk("both"))
    join.add_edge(START, "l").add_edge("l", "r").add_edge(["l", "r"], "both")
    story = await Story(join).go(interrupt_after=["l"])
    (level, *_) = await story.levels()
    assert start.pending_nodes(level.head.checkpoint) == {"r"}


async def test_the_nodes_that_ran_are_those_of_the_superstep_between_two_checkpoints() -> None:
    story = await Story(chain("a", "b", "c")).go(interrupt_after=["b"])
    (level, *_) = await story.levels()
    assert level.parent is not None
    assert start.nodes_that_ran(level.parent.checkpoint, level.head.checkpoint) == {"b"}
    assert start.nodes_that_ran(None, level.head.checkpoint) == {"a", "b"}


# What a later start does


async def test_a_run_whose_checkpoints_are_gone_cannot_go_on() -> None:
    opening = start.plan_resume(Story(chain("a")).run, [])
    assert isinstance(opening, CannotResume)
    assert opening.error == "CheckpointMissing"


async def test_it_goes_on_without_an_input_from_the_boundary() -> None:
    story = await Story(chain("a", "b", "c", drain_in="a")).go()
    assert await story.opening() == Begin(None, resumed=True)


async def test_with_nothing_next_it_is_over() -> None:
    story = await Story(chain("a", "b")).go()
    assert await story.opening() == AlreadyFinished(held=False)


async def test_a_superstep_whose_tasks_are_stored_but_not_its_end_is_not_over() -> None:
    story = await Story(chain("a", "b")).go()
    checkpoints = story.saver.storage[story.config["configurable"]["thread_id"]][""]
    del checkpoints[max(checkpoints)]
    (level,) = await story.levels()
    assert [task.result for task in level.tasks] == [{"log": ["b"]}]
    assert await story.opening() == Begin(None, resumed=True)


async def test_another_runs_head_is_not_taken_for_the_end_of_this_one() -> None:
    story = await Story(chain("a", "b")).go()
    story.run = replace(story.run, run_id=uuid4())
    assert await story.opening() == Begin(None, resumed=True)


@pytest.mark.parametrize("durability", ["sync", "exit"])
@pytest.mark.parametrize("where", [{"interrupt_before": ["c"]}, {"interrupt_after": ["b"]}], ids=str)
async def test_it_does_not_step_over_a_breakpoint(where: dict[str, Any], durability: str) -> None:
    story = await Story(chain("a", "b", "c")).go(**where, durability=durability)
    assert await story.opening(**where) == AlreadyFinished(held=True)
    assert isinstance(await story.opening(interrupt_before=["a"]), Begin)
    assert isinstance(await story.opening(interrupt_after=["a"] if durability == "sync" else ["c"]), Begin)


@pytest.mark.parametrize("where", [{"interrupt_before": ["c"]}, {"interrupt_after": ["b"]}], ids=str)
async def test_nor_over_one_that_its_graph_was_compiled_with(where: dict[str, Any]) -> None:
    story = await Story(chain("a", "b", "c"), **where).go()
    assert await story.opening() == AlreadyFinished(held=True)


async def test_nor_over_one_inside_a_subgraph() -> None:
    child = chain("x", "y").compile(interrupt_before=["y"])
    story = await Story(chain("a", "child", nodes={"child": child})).go()
    assert await story.opening() == AlreadyFinished(held=True)


async def test_a_breakpoint_that_an_earlier_run_stopped_at_is_passed() -> None:
    # `Command(resume)` at it was stored, and then the process died: nothing of this run's own is there yet.
    story = await Story(chain("a", "b", "c")).go(interrupt_before=["c"])
    story.run = replace(story.run, run_id=uuid4())
    assert await story.opening(interrupt_before=["c"]) == Begin(None, resumed=True)


@pytest.mark.parametrize(
    ("loaded", "missing"),
    [(chain("a", "other"), "'b'"), (chain("a", "b"), None)],
    ids=["renamed", "the same"],
)
async def test_a_node_that_the_loaded_graph_lacks_is_named(loaded: StateGraph, missing: str | None) -> None:
    story = await Story(chain("a", "b", drain_in="a")).go()
    opening = await story.opening(loaded.compile())
    if missing is None:
        assert isinstance(opening, Begin)
    else:
        assert isinstance(opening, CannotResume)
        assert opening.error == "NodeMissing"
        assert missing in opening.message
        assert "'g'" in opening.message


async def test_a_node_that_a_subgraph_lacks_is_named_too() -> None:
    def nested(*names: str) -> StateGraph:
        return chain("a", "child", nodes={"child": chain(*names, drain_in="x").compile()})

    story = await Story(nested("x", "y")).go()
    assert isinstance(await story.opening(), Begin)
    opening = await story.opening(nested("x", "why").compile())
    assert isinstance(opening, CannotResume)
    assert "'y'" in opening.message


async def test_the_limit_counts_on_from_where_the_run_began() -> None:
    story = await Story(chain("a", "b", "c", drain_in="b")).go()
    (level, *_) = await story.levels()
    step = level.head.metadata["step"]
    limits = {limit: await story.opening(config={"recursion_limit": limit}) for limit in range(1, 7)}
    for limit, opening in limits.items():
        if step > story.run.input_step + limit:  # type: ignore[operator]
            assert isinstance(opening, CannotResume)
            assert opening.error == "GraphRecursionError"
            assert f"limit of {limit} " in opening.message
        else:
            assert opening == Begin(None, resumed=True, last_from=-1 + limit)
    assert {type(opening) for opening in limits.values()} == {Begin, CannotResume}
