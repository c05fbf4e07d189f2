"""A later start over real checkpoints: where it goes on, with what, and when it must not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from helm import Helm
from langgraph.checkpoint.base import id as generator
from rig import CUT, Fleet, Process, Told

from slackwater.kit.ids import uuid7
from slackwater.runtime.execution import executor


async def reached(hold: object) -> None:
    await asyncio.wait_for(hold.reached.wait(), 15)  # type: ignore[attr-defined]


class Clock:
    """The wall clock of the process that acts; checkpoint ids follow it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() + int(self.ahead * 1e9))

    def of_another_process(self, ahead: float) -> None:
        self.ahead = ahead
        generator._last_v6_timestamp = None  # it has never made an id


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    yield Clock(monkeypatch)
    generator._last_v6_timestamp = None


async def stop_in(
    fleet: Fleet,
    helm: Helm,
    graph: str,
    node: str,
    how: str = "drain",
    rests: tuple[str, ...] = ("pending",),
    **options: Any,
) -> dict[str, Any]:
    """A run whose process was stopped while `node` ran: drained after it, cut inside, or killed; its row."""
    process = await fleet.start(linked=True)
    hold = helm.hold(node)
    run_id = (await process.admit(graph, **options)).row["run_id"]
    await reached(hold)
    if how == "kill":
        await process.runtime.worker.live[run_id].writer.written()
        await process.die()
        await fleet.expire(run_id)
        sweeper = await fleet.start(max_concurrent_runs=0)
        await sweeper.runtime.sweep()
    elif how == "cut":
        await process.stop(**CUT)
    else:
        asyncio.get_running_loop().call_later(0.05, hold.let_go)
        await process.stop()
    del helm.hooks[node]
    row = await fleet.row(run_id)
    assert row["status"] in rests, row
    return row


async def go_on(fleet: Fleet, run: dict[str, Any], process: Process | None = None) -> Told:
    process = process or await fleet.start()
    await process.claim()
    return await fleet.told(process, run["run_id"], run["thread_id"])


async def in_order(fleet: Fleet, thread_id: UUID) -> bool:
    """Whether the thread's checkpoints sort by their ids as their steps do."""
    rows = await fleet.database.fetch(
        "select (metadata ->> 'step')::int as step from checkpoints where thread_id = %s and checkpoint_ns = '' "
        "order by checkpoint_id",
        [str(thread_id)],
    )
    steps = [row["step"] for row in rows]
    return len(steps) > 3 and steps == sorted(steps)


# Clocks


@pytest.mark.parametrize("how", ["drain", "cut", "kill"])
async def test_a_process_whose_clock_is_behind_goes_on_after_the_head(
    fleet: Fleet, helm: Helm, clock: Clock, how: str
) -> None:
    clock.of_another_process(ahead=5)
    run = await stop_in(fleet, helm, "nest", "in_2", how)
    clock.of_another_process(ahead=0)
    told = await go_on(fleet, run)
    assert told.thread["values"] == {"log": ["a", "a", "in_1", "in_2", "in_3", "z"]}
    assert await in_order(fleet, run["thread_id"])
    again = await fleet.reference(await fleet.start(), "line", thread_id=run["thread_id"])
    assert again.thread["values"]["log"][-4:] == list("abcd")


async def test_a_fork_by_a_process_whose_clock_is_behind_becomes_the_head(
    fleet: Fleet, process: Process, helm: Helm, clock: Clock
) -> None:
    first = await fleet.reference(process, "line")
    thread_id = first.row["thread_id"]
    old = (await fleet.checkpoints(thread_id))[2]["checkpoint_id"]  # before b
    clock.of_another_process(ahead=5)
    await fleet.reference(process, "line", thread_id=thread_id)
    clock.of_another_process(ahead=0)
    fork = {"configurable": {"checkpoint_id": old, "checkpoint_ns": ""}}
    await fleet.reference(process, "line", {"log": ["forked"]}, thread_id=thread_id, config=fork)
    await process.runtime.refresh_thread(thread_id)
    assert (await fleet.thread(thread_id))["values"] == {"log": ["a", "forked", *"abcd"]}


async def test_a_state_update_by_a_process_whose_clock_is_behind_becomes_the_head(
    fleet: Fleet, process: Process, clock: Clock
) -> None:
    clock.of_another_process(ahead=5)
    told = await fleet.reference(process, "line")
    thread_id = told.row["thread_id"]
    old = (await fleet.checkpoints(thread_id))[2]["checkpoint_id"]
    clock.of_another_process(ahead=0)
    config: Any = {"configurable": {"thread_id": str(thread_id), "checkpoint_id": old, "checkpoint_ns": ""}}
    hold = process.runtime.hold(thread_id, owner="alice", graph_id="line", assistant_id=uuid7())
    async with (
        hold as held,
        process.runtime.graphs.open(
            "line",
            owner="alice",
            config=config,
            access="threads.update",
            checkpointer=held.saver,
            store=process.runtime.store,
        ) as graph,
    ):
        await graph.aupdate_state(config, {"log": ["told"]}, "a")
    await process.runtime.refresh_thread(thread_id)
    assert (await fleet.thread(thread_id))["values"]["log"][-1] == "told"


# Inputs


@pytest.mark.parametrize("how", ["drain", "cut", "kill"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_a_command_that_updates_and_jumps_is_applied_once(
    fleet: Fleet, process: Process, helm: Helm, how: str, durability: str
) -> None:
    thread_id = (await fleet.reference(process, "jump")).row["thread_id"]
    run = await stop_in(
        fleet,
        helm,
        "jump",
        "b",
        how,
        thread_id=thread_id,
        command={"update": {"log": ["told"]}, "goto": "b"},
        durability=durability,
    )
    told = await go_on(fleet, run)
    assert told.thread["values"] == {"log": ["a", "told", "b", "c"]}


@pytest.mark.parametrize("how", ["drain", "cut", "kill"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("by_id", [False, True], ids=["one answer", "by id"])
async def test_an_answer_is_not_offered_to_the_next_question(
    fleet: Fleet, process: Process, helm: Helm, how: str, durability: str, by_id: bool
) -> None:
    first = await fleet.reference(process, "ask_twice")
    thread_id = first.row["thread_id"]
    ((interrupt,),) = first.thread["interrupts"].values()
    resume = {interrupt["id"]: "one"} if by_id else "one"
    # GIVEN a run that is stopped between the answer that it got and the next question
    run = await stop_in(
        fleet,
        helm,
        "ask_twice",
        "q_after_0",
        how,
        thread_id=thread_id,
        command={"resume": resume},
        durability=durability,
        rests=("pending", "success"),
    )
    told = await go_on(fleet, run, process)
    # THEN the second question waits for an answer of its own
    assert (told.row["status"], told.thread["status"]) == ("success", "interrupted")
    ((interrupt,),) = told.thread["interrupts"].values()
    assert interrupt["value"] == {"from": "q", "n": 1}
    told = await fleet.reference(process, "ask_twice", thread_id=thread_id, command={"resume": "two"})
    assert told.thread["values"]["log"] == ["a", "q:one+two", "z"]


@pytest.mark.parametrize("node", ["a", "in_1"])
@pytest.mark.parametrize("how", ["drain", "cut", "kill"])
async def test_a_subgraph_that_keeps_its_state_does_its_work_in_every_run(
    fleet: Fleet, process: Process, helm: Helm, node: str, how: str
) -> None:
    # GIVEN one that has ended its work in an earlier run
    thread_id = (await fleet.reference(process, "keeps")).row["thread_id"]
    reference = await fleet.reference(process, "keeps", thread_id=thread_id)
    thread_id = (await fleet.reference(process, "keeps")).row["thread_id"]
    # WHEN the next run is stopped before it, or in it
    run = await stop_in(fleet, helm, "keeps", node, how, thread_id=thread_id)
    told = await go_on(fleet, run, process)
    assert told.state == reference.state
    assert set(helm.done_by(run["run_id"])) == {"a", "in_1", "in_2", "z"}


# Ends that nobody has heard of


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize(
    "options",
    [{}, {"interrupt_before": ["c"]}, {"interrupt_after": ["b"]}, {"config": {"recursion_limit": 2}}],
    ids=["the end", "before", "after", "out of steps"],
)
async def test_the_end_that_a_dead_process_has_stored_but_not_said_is_said(
    fleet: Fleet,
    process: Process,
    helm: Helm,
    monkeypatch: pytest.MonkeyPatch,
    durability: str,
    options: dict[str, Any],
) -> None:
    reference = await fleet.reference(process, "line", durability=durability, **options)
    # GIVEN a process that dies when everything is stored but the end of the run, and the events since
    ended = asyncio.Event()

    async def never(*arguments: Any, **settled: Any) -> Any:
        ended.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr("slackwater.runtime.fenced.writer.EVENT_FLUSH_SECONDS", 60)
        patch.setattr("slackwater.runtime.fenced.writer.Writer.hold_to_the_end", lambda _, *, ends: None)
        patch.setattr("slackwater.runtime.fenced.settlements.end", never)
        dying = await fleet.start(linked=True)
        run = (await dying.admit("line", durability=durability, **options)).row
        await asyncio.wait_for(ended.wait(), 5)
        await dying.die()
    done = helm.done_by(run["run_id"])
    await fleet.bury(dying, process, run["run_id"])
    told = await fleet.told(process, run["run_id"], run["thread_id"])
    # THEN nothing runs again, and whoever waits hears the same answer
    assert told.state == reference.state
    assert told.body == reference.body
    assert helm.done_by(run["run_id"]) == done


# Forks


@pytest.mark.parametrize("how", ["drain", "cut", "kill"])
async def test_a_fork_goes_on_from_its_own_last_checkpoint(
    fleet: Fleet, process: Process, helm: Helm, how: str
) -> None:
    told = await fleet.reference(process, "line")
    thread_id = told.row["thread_id"]
    after_a = next(
        row["checkpoint_id"] for row in await fleet.checkpoints(thread_id) if row["metadata"]["step"] == 1
    )
    run = await stop_in(
        fleet,
        helm,
        "line",
        "c",
        how,
        thread_id=thread_id,
        given={"log": ["forked"]},
        config={"configurable": {"checkpoint_id": after_a, "checkpoint_ns": ""}},
    )
    told = await go_on(fleet, run)
    assert told.thread["values"] == {"log": ["a", "forked", "a", "b", "c", "d"]}
    assert helm.done_by(run["run_id"]) == list("abcd")


@pytest.mark.parametrize("how", ["cut", "kill"])
async def test_an_answer_to_a_question_of_the_past_is_not_taken_to_the_present(
    fleet: Fleet, process: Process, helm: Helm, how: str
) -> None:
    # GIVEN a thread that has been asked a second question, with the first one left open
    first = await fleet.reference(process, "ask")
    thread_id = first.row["thread_id"]
    asked = max(row["checkpoint_id"] for row in await fleet.checkpoints(thread_id))
    again = await fleet.reference(process, "ask", thread_id=thread_id)
    assert again.thread["values"] == {"log": ["a", "a"]}
    # WHEN the first one is answered, and the process stops before that has made a checkpoint of its own
    run = await stop_in(
        fleet,
        helm,
        "ask",
        "q_after_0",
        how,
        thread_id=thread_id,
        command={"resume": "yes"},
        durability="sync",
        config={"configurable": {"checkpoint_id": asked, "checkpoint_ns": ""}},
    )
    assert run["input_applied"] is False
    told = await go_on(fleet, run)
    assert told.thread["values"] == {"log": ["a", "q:yes", "z"]}


# Deploys


@pytest.mark.parametrize(
    ("graph", "node", "missing"),
    [("line", "b", "'c'"), ("nest", "in_1", "'in_2'"), ("joined", "left", "'both'")],
)
@pytest.mark.parametrize("how", ["drain", "kill"])
async def test_a_deploy_that_renames_the_next_node_ends_the_run_and_names_it(
    fleet: Fleet, helm: Helm, graph: str, node: str, missing: str, how: str
) -> None:
    if how == "drain":
        run = await stop_in(fleet, helm, graph, node)
    else:
        run = await stop_in(fleet, helm, graph, missing.strip("'"), how, durability="sync")
    done = helm.done_by(run["run_id"])
    told = await go_on(fleet, run, await fleet.start(project="renamed.json"))
    assert told.row["status"] == "error"
    assert told.row["error"]["error"] == "NodeMissing"
    assert f"node {missing}," in told.row["error"]["message"]
    assert told.events[-1].name == "error"
    assert told.thread["status"] == "error"
    assert helm.done_by(run["run_id"]) == done


async def test_a_deploy_that_renames_another_node_disturbs_nobody(fleet: Fleet, helm: Helm) -> None:
    run = await stop_in(fleet, helm, "line", "a")
    told = await go_on(fleet, run, await fleet.start(project="renamed.json"))
    assert told.thread["values"] == {"log": ["a", "b", "see", "d"]}


async def test_a_run_whose_checkpoints_were_deleted_says_so(fleet: Fleet, helm: Helm) -> None:
    run = await stop_in(fleet, helm, "line", "b")
    await fleet.database.execute("delete from checkpoints")
    told = await go_on(fleet, run)
    assert (told.row["status"], told.row["error"]["error"]) == ("error", "CheckpointMissing")


async def test_a_graph_whose_factory_fails_ends_its_run_with_that(
    fleet: Fleet, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any, **options: Any) -> Any:
        raise ValueError("no graph today")

    graphs = process.runtime.graphs
    monkeypatch.setattr(graphs, "open", fails, raising=False)
    run = (await process.admit("line")).row
    row = await fleet.ended(run["run_id"])
    assert (row["status"], row["error"]) == ("error", {"error": "ValueError", "message": "no graph today"})
    monkeypatch.undo()


# What is heard of it


@pytest.mark.parametrize(
    "modes", ["values", "updates", "checkpoints", "debug", "tasks", "events", "messages"]
)
@pytest.mark.parametrize("subgraphs", [False, True])
async def test_nothing_is_said_twice_in_any_mode(
    fleet: Fleet, process: Process, helm: Helm, modes: str, subgraphs: bool
) -> None:
    options: dict[str, Any] = {"stream_mode": [modes], "subgraphs": subgraphs}
    reference = await fleet.reference(process, "nest", **options)
    run = await stop_in(fleet, helm, "nest", "in_2", **options)
    told = await go_on(fleet, run, process)
    assert told.sequence == reference.sequence


async def test_the_attempts_of_a_run_are_counted_where_something_runs_again(fleet: Fleet, helm: Helm) -> None:
    run = await stop_in(fleet, helm, "line", "a")
    assert (run["attempt"], run["handovers"]) == (1, 1)
    process = await fleet.start(linked=True)
    hold = helm.hold("b")
    await process.claim()
    await reached(hold)
    assert (await fleet.row(run["run_id"]))["attempt"] == 1
    await process.die()
    await fleet.expire(run["run_id"])
    hold.let_go()
    del helm.hooks["b"]
    last = await fleet.start()
    await last.runtime.sweep()
    told = await go_on(fleet, run, last)
    assert (told.row["attempt"], told.row["handovers"]) == (2, 2)
    assert [e.data.decode() for e in told.events if e.name == "metadata"] == [
        f'{{"run_id":"{run["run_id"]}","attempt":{n}}}' for n in (1, 2)
    ]


# Durability


@pytest.mark.parametrize("graph", ["nest", "keeps"])
async def test_exit_is_not_used_where_it_would_lose_what_a_subgraph_has_done(
    fleet: Fleet, helm: Helm, graph: str
) -> None:
    run = await stop_in(fleet, helm, graph, "in_1", durability="exit")
    await go_on(fleet, run)
    assert helm.done_by(run["run_id"]).count("in_1") == 1


async def test_a_slow_database_holds_async_runs_back(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(linked=True)
    assert process.link is not None
    process.link.delay = 0.02
    for graph, ahead in (("loop", 3), ("nest", 3)):
        given = {"n": 8} if graph == "loop" else {"log": []}
        run = (await process.admit(graph, given, durability="async")).row
        worst = 0
        while (row := await fleet.row(run["run_id"]))["status"] == "running":
            done = len(helm.begun_by(run["run_id"]))
            stored = await fleet.database.fetch_one(
                "select count(distinct task_id) as n from checkpoint_writes w where w.thread_id = %s and exists "
                "(select 1 from checkpoints c where c.thread_id = w.thread_id and c.parent_checkpoint_id = w.checkpoint_id)",
                [str(run["thread_id"])],
            )
            assert stored is not None
            worst = max(worst, done - stored["n"])
            await asyncio.sleep(0.001)
        assert row["status"] == "success"
        assert worst <= ahead, graph


async def test_a_later_start_reads_no_whole_log_where_nothing_tells_supersteps_apart(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await fleet.start(), await fleet.start()
    hold = helm.hold("c")
    run = (await first.admit("line", stream_mode=["custom", "updates"])).row
    await hold.reached.wait()
    drained = asyncio.create_task(first.drain(10.0))
    await asyncio.sleep(0.1)
    hold.let_go()
    await drained
    # GIVEN what a long run has said, which no `values` divide
    await fleet.database.execute(
        "insert into slackwater.run_events (run_id, fence, seq, thread_id, event, data) "
        "select %s, 1, 1000 + n, %s, 'custom', '{\"n\": ' || n || '}' from generate_series(1, 12000) n",
        [run["run_id"], run["thread_id"]],
    )
    read: list[int] = []
    fetch = second.database.fetch

    async def counted(*arguments: Any) -> list[dict[str, Any]]:
        rows = await fetch(*arguments)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(second.database, "fetch", counted)
    await second.claim()
    await fleet.ended(run["run_id"])
    # THEN the next attempt reads the last of it, and the beginning
    assert max(read) == executor.FIRST_EVENTS + executor.RECENT_EVENTS
    said = [json.loads(row["data"]) for row in await fleet.events(run["run_id"]) if row["event"] == "updates"]
    assert [next(iter(update)) for update in said] == list("abcd")
