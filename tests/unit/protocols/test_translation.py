"""From the log of a thread to the events of protocol v2."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import orjson
import pytest

from slackwater.protocols.events.translation import SPAN, Envelope, Translator, first_fence, translate
from slackwater.runtime.events.journal import EventId
from slackwater.runtime.events.thread_reader import RUN_DONE, ThreadEvent

RUN, NEXT = UUID(int=1), UUID(int=2)
CHILD = "child:7f82a80c-62a4-0c62-05d7-f2602429645d"
TASK = CHILD.partition(":")[2]

Line = tuple[str, Any]


def log_of(
    *lines: Line, run: UUID = RUN, fence: int = 1, status: str | None = "success"
) -> list[ThreadEvent]:
    """A run's log: what it says under one fence, and its end."""
    entries = [
        ThreadEvent(EventId(fence, seq), name, orjson.dumps(data), run, 1000 + seq, "demo")
        for seq, (name, data) in enumerate(lines, 1)
    ]
    if status is not None:
        done = EventId(fence, len(lines) + 1)
        entries.append(ThreadEvent(done, RUN_DONE, str(run).encode(), run, 2000, "demo", status))
    return entries


def said(events: Iterable[Envelope]) -> list[tuple[str, list[str], Any]]:
    """What a client sees: method, namespace, data."""
    seen = [orjson.loads(event.dumps()) for event in events]
    return [(event["method"], event["params"]["namespace"], event["params"]["data"]) for event in seen]


def lifecycle(event: str, **more: Any) -> Line:
    return ("lifecycle", [], {"event": event, "graph_name": "demo", **more})  # type: ignore[return-value]


def start(attempt: int = 1) -> Line:
    return ("metadata", {"run_id": str(RUN), "attempt": attempt})


def token(text: str, message_id: str = "m", last: bool = False, node: str = "model") -> Line:
    chunk = {"type": "AIMessageChunk", "content": text, "id": message_id, "tool_call_chunks": []}
    metadata = {"langgraph_node": node, "langgraph_checkpoint_ns": f"{node}:t-{message_id}"}
    return ("messages", [{**chunk, "chunk_position": "last" if last else None}, metadata])


def question(interrupt_id: str = "q") -> dict[str, Any]:
    return {"value": {"ask": interrupt_id}, "id": interrupt_id, "response_schema": None}


def test_what_a_node_writes_with_a_name_is_that_extensions() -> None:
    written = [
        {"name": "progress", "step": 1},
        {"name": "progress", "payload": [2]},
        {"name": ""},
        {"name": 7},
        {},
    ]
    log = log_of(start(), *(("custom", data) for data in written))

    customs = [event for event in translate(log) if event.method == "custom"]

    assert [event.extension for event in customs] == ["progress", "progress", None, None, None]
    assert [said([event])[0][2] for event in customs] == [
        *written[:2],
        *({"payload": data} for data in written[2:]),
    ]


def test_a_run_begins_says_its_states_and_ends() -> None:
    log = log_of(
        start(), ("values", {}), ("values", {"a": 1}), ("updates", {"node": {"a": 2}}), ("custom", [1])
    )
    events = list(translate(log))
    assert said(events) == [
        lifecycle("running"),
        ("values", [], {"a": 1}),
        ("updates", [], {"a": 2}),
        ("custom", [], {"payload": [1]}),
        lifecycle("completed"),
    ]
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert [event.event_id for event in events] == [
        f"synth:{RUN}:lc||running",
        "1-3",
        "1-4",
        "1-5",
        f"synth:{RUN}:lc||completed",
    ]
    assert events[2].node == "node"
    assert [event.at for event in events] == [1001, 1003, 1004, 1005, 2000]


def test_a_run_is_numbered_from_its_first_fence_on_whatever_was_before_it() -> None:
    # GIVEN a run that is handed over at a boundary, after another one
    before = log_of(start(), ("values", {"a": 1}))
    first = log_of(start(), ("values", {"b": 1}), run=NEXT, fence=3, status=None)
    second = log_of(("values", {"b": 2}), run=NEXT, fence=5)
    # THEN its numbers go on through the hand-over, and are the same without the run before it
    events = [event for event in translate([*before, *first, *second]) if event.seq > SPAN]
    assert [event.seq - 2 * SPAN for event in events] == [1, 2, 3, 4]
    assert events == list(translate([*first, *second]))
    assert {first_fence(event.seq) for event in events} == {3}


@pytest.mark.parametrize(
    ("status", "event"),
    [("error", "failed"), ("timeout", "failed"), ("interrupted", "interrupted"), ("success", "completed")],
)
def test_how_a_run_ended_is_how_its_graph_ended(status: str, event: str) -> None:
    assert said(translate(log_of(start(), status=status)))[-1] == lifecycle(event)


def test_a_failure_is_told_once_with_its_message() -> None:
    log = log_of(start(), ("error", {"error": "ValueError", "message": "boom"}), status="error")
    assert said(translate(log)) == [lifecycle("running"), lifecycle("failed", error="boom")]


def test_a_question_is_asked_once_from_the_graph_that_has_it_and_before_the_state() -> None:
    log = log_of(
        start(),
        (f"values|{CHILD}", {"a": 1, "__interrupt__": [question()]}),
        ("values", {"a": 0, "__interrupt__": [question()]}),
        ("updates", {"__interrupt__": [question()]}),
    )
    assert said(translate(log)) == [
        lifecycle("running"),
        ("input.requested", [CHILD], {"interrupt_id": "q", "payload": {"ask": "q"}, "value": {"ask": "q"}}),
        lifecycle("interrupted"),
        ("values", [CHILD], {"a": 1}),
        ("values", [], {"a": 0}),
    ]


def test_a_run_that_stops_at_a_breakpoint_has_no_question_and_is_completed() -> None:
    log = log_of(start(), ("updates", {"__interrupt__": []}))
    assert said(translate(log)) == [lifecycle("running"), lifecycle("completed")]


def test_a_graph_inside_another_starts_with_its_first_task_and_ends_with_the_task_around_it() -> None:
    outer = {"id": TASK, "name": "child", "triggers": []}
    inner = {"id": "inner", "name": "one", "triggers": [], "metadata": {}}
    log = log_of(
        start(),
        ("tasks", {**outer, "input": {}}),
        (f"values|{CHILD}", {"a": 1}),
        (f"tasks|{CHILD}", {**inner, "input": {}}),
        (f"tasks|{CHILD}", {"id": "inner", "name": "one", "result": {}, "error": None, "interrupts": []}),
        ("tasks", {"id": TASK, "name": "child", "result": {}, "error": None, "interrupts": []}),
    )
    seen = [(ns, data["event"]) for method, ns, data in said(translate(log)) if method == "lifecycle"]
    assert seen == [([], "running"), ([CHILD], "started"), ([CHILD], "completed"), ([], "completed")]
    translator = Translator()
    for entry in log:
        translator.feed(entry)
    assert translator.tree() == {
        "namespace": [],
        "status": "completed",
        "graph_name": "demo",
        "children": [{"namespace": [CHILD], "status": "completed", "graph_name": "child"}],
    }


@pytest.mark.parametrize(
    ("result", "status"),
    [({"interrupts": [question()]}, "interrupted"), ({"error": {"error": "E", "message": "no"}}, "failed")],
)
def test_how_the_task_around_a_graph_ended_is_how_it_ended(result: dict[str, Any], status: str) -> None:
    log = log_of(
        start(),
        (f"tasks|{CHILD}", {"id": "inner", "name": "one", "input": {}}),
        ("tasks", {"id": TASK, "name": "child", "result": {}, "error": None, "interrupts": [], **result}),
    )
    closed = [data for method, ns, data in said(translate(log)) if method == "lifecycle" and ns == [CHILD]]
    assert closed[-1] == {
        "event": status,
        "graph_name": "child",
        **({"error": "no"} if status == "failed" else {}),
    }


def test_an_agent_that_a_tool_has_called_has_its_own_name_and_its_cause() -> None:
    log = log_of(
        start(),
        ("tasks", {"id": TASK, "name": "child", "input": {"tool_call": {"id": "call-1"}}}),
        (f"tasks|{CHILD}", {"id": "inner", "input": {}, "metadata": {"lc_agent_name": "researcher"}}),
    )
    started = next(data for _, ns, data in said(translate(log)) if ns == [CHILD])
    assert started["graph_name"] == "researcher"
    assert started["cause"] == {"type": "toolCall", "tool_call_id": "call-1"}


def test_a_message_is_said_block_by_block() -> None:
    log = log_of(start(), token("You"), token(" said"), token("", last=True))
    messages = [event for event in translate(log) if event.method == "messages"]
    assert [event.data for event in messages] == [
        {"event": "message-start", "role": "ai", "id": "m"},
        {"event": "content-block-start", "index": 0, "content": {"type": "text", "text": ""}},
        {"event": "content-block-delta", "index": 0, "delta": {"type": "text-delta", "text": "You"}},
        {"event": "content-block-delta", "index": 0, "delta": {"type": "text-delta", "text": " said"}},
        {"event": "content-block-finish", "index": 0, "content": {"type": "text", "text": "You said"}},
        {"event": "message-finish"},
    ]
    assert [event.event_id for event in messages] == ["1-2", "1-2.1", "1-2.2", "1-3", "1-4", "1-4.1"]
    assert {event.node for event in messages} == {"model"}


def test_messages_that_are_said_at_the_same_time_are_told_apart() -> None:
    log = log_of(start(), token("a", "one"), token("b", "two"), token("", "one", True), token("c", "two"))
    data = [event.data for event in translate(log) if event.method == "messages"]
    deltas = [(d.get("message_id"), d["delta"]["text"]) for d in data if d["event"] == "content-block-delta"]
    assert deltas == [(None, "a"), ("two", "b"), (None, "c")]
    finished = next(d for d in data if d["event"] == "message-finish")
    assert finished["message_id"] == finished["run_id"] == "one"


def test_a_model_that_does_not_stream_says_its_message_whole_and_a_node_says_none() -> None:
    def done(message_id: str, kind: str = "ai", **model: str) -> Line:
        message = {"type": kind, "content": "Hi", "id": message_id, "tool_calls": []}
        return ("messages", [message, {"langgraph_node": "n", **model}])

    log = log_of(
        start(),
        token("Hi", "m", True),
        done("m", ls_model_type="chat"),
        done("w", ls_model_type="chat"),
        done("returned"),
        done("h", "human"),
        done("t", "tool"),
    )
    starts = [
        d["id"]
        for e in translate(log)
        if e.method == "messages" and (d := e.data)["event"] == "message-start"
    ]
    assert starts == ["m", "w"]


def test_what_was_being_said_when_the_superstep_was_cut_is_broken_off_and_the_next_attempt_announced() -> (
    None
):
    cut = log_of(start(), token("Hal", "one"), status=None)
    again = log_of(start(2), token("Hello", "two", True), fence=2)
    events = list(translate([*cut, *again]))
    heard = [(m, d.get("event")) for m, _, d in said(events)]
    assert heard[4:7] == [("messages", "error"), ("lifecycle", "running"), ("messages", "message-start")]
    assert heard[-1] == ("lifecycle", "completed")
    ids = [event.event_id for event in events]
    assert len(set(ids)) == len(ids)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


def test_a_message_ends_with_its_task_or_with_the_run() -> None:
    ended = {"id": "t-m", "name": "model", "result": {}, "error": None, "interrupts": []}
    data = [
        e.data for e in translate(log_of(start(), token("a"), ("tasks", ended))) if e.method == "messages"
    ]
    assert data[-1] == {"event": "message-finish"}
    failed = log_of(start(), token("a"), ("error", {"error": "E", "message": "no"}), status="error")
    data = [e.data for e in translate(failed) if e.method == "messages"]
    assert data[-1] == {"event": "error", "message": "no"}


def test_checkpoints_say_where_to_fork_from() -> None:
    def config(checkpoint_id: str) -> dict[str, Any]:
        return {"configurable": {"checkpoint_id": checkpoint_id, "thread_id": "t"}}

    first = {"config": config("c1"), "parent_config": None, "metadata": {"step": -1, "source": "input"}}
    second = {
        "config": config("c2"),
        "parent_config": config("c1"),
        "metadata": {"step": 0, "source": "loop"},
    }
    log = log_of(start(), ("checkpoints", first), ("checkpoints", second), ("checkpoints", second))
    assert [data for method, _, data in said(translate(log)) if method == "checkpoints"] == [
        {"id": "c1", "step": -1, "source": "input"},
        {"id": "c2", "parent_id": "c1", "step": 0, "source": "loop"},
    ]


def test_a_tool_that_has_finished_is_a_message_too() -> None:
    output = {"type": "tool", "content": "5", "id": "tm", "tool_call_id": "call"}
    begun = {"event": "tool-started", "tool_call_id": "call", "tool_name": "add", "input": {"a": 2}}
    ended = {"event": "tool-finished", "tool_call_id": "call", "output": output}
    events = said(translate(log_of(start(), ("tools|x:1", begun), ("tools|x:1", ended))))
    assert [data for method, _, data in events if method == "tools"] == [begun, ended]
    messages = [(ns, data["event"]) for method, ns, data in events if method == "messages"]
    assert messages[0] == (["x:1", "tools:call"], "message-start")
    assert messages[-1] == (["x:1", "tools:call"], "message-finish")


def test_states_are_shown_without_what_is_empty_in_their_messages() -> None:
    message = {
        "type": "ai",
        "content": "Hi",
        "additional_kwargs": {},
        "response_metadata": {},
        "name": None,
        "id": "m",
        "tool_calls": [{"name": "add", "args": {"a": 1}, "id": "c"}],
        "invalid_tool_calls": [],
        "usage_metadata": None,
    }
    own = {"type": "human", "content": "a state of one's own", "empty": []}
    [_, (_, _, data), _] = said(translate(log_of(start(), ("values", {"messages": [message], "own": own}))))
    assert data == {
        "messages": [
            {
                "type": "ai",
                "content": "Hi",
                "id": "m",
                "tool_calls": [{"name": "add", "args": {"a": 1}, "id": "c", "type": "tool_call"}],
            }
        ],
        "own": own,
    }


def test_what_retention_has_trimmed_says_nothing() -> None:
    trimmed = [
        ThreadEvent(EventId(1, 8), "gap", b'{"first_available_id":"1-9"}'),
        ThreadEvent(EventId(1, 9), RUN_DONE, str(RUN).encode(), RUN, 0, "demo", "success"),
    ]
    kept = log_of(start(), run=NEXT, fence=2)
    assert list(translate([*trimmed, *kept])) == list(translate(kept))


def test_a_state_update_and_what_is_unknown_say_nothing() -> None:
    update = ThreadEvent(EventId(1, 1), "state_update", b"{}", RUN, 0)
    assert list(translate([update])) == []
    assert said(translate(log_of(start(), ("feedback", {}), ("messages/partial", []), ("debug", {})))) == [
        lifecycle("running"),
        lifecycle("completed"),
    ]
