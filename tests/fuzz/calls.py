"""The calls: every route of the API, about one's own things, about those of others, and about nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from tests.fuzz.draw import Ask, Draw
from tests.fuzz.things import Learn, Sort, Thing, field_of, run_in, thread_in
from tests.fuzz.wire import Answer

Call = Callable[[Draw], Ask]

CALLS: dict[str, Call] = {}
WEIGHTED: list[str] = []
"""Each name as often as it is called."""

GRAPHS = ("tell", "tell", "nest", "made")
MODES = (
    "values",
    "updates",
    "messages-tuple",
    "messages",
    "events",
    "debug",
    "tasks",
    "checkpoints",
    "custom",
)
YEARLY = "0 5 1 1 *"


def call(weight: int = 1) -> Callable[[Call], Call]:
    def add(function: Call) -> Call:
        name = function.__name__.strip("_")
        CALLS[name] = function
        WEIGHTED.extend([name] * weight)
        return function

    return add


# What runs are started with


def run_of(d: Draw, thread: Thing | None = None, things: dict[str, Thing] | None = None) -> dict[str, Any]:
    """The body of a request for a run, all of it with the mark."""
    text, shared = d.text(thread), thread is not None and thread.shared
    body: dict[str, Any] = {
        "assistant_id": d.one(*GRAPHS),
        "input": {
            "text": text,
            "messages": [{"role": "human", "content": text}],
            "look": not shared,
            "nap": d.one(0, 0, 0, 0.02, 0.1),
            "ask": d.number(6) == 5,
        },
        "metadata": {"whose": d.mark(thread), "text": text},
    }
    more = d.number(14)
    if more == 0:
        body["config"] = {"configurable": {"flavour": text}, "tags": [text], "metadata": {"note": text}}
    elif more == 1:
        body["context"] = {"flavour": text}
    elif more == 2:
        body["webhook"] = f"{d.hook}/{d.mark(thread)}"
    elif more == 3:
        body["multitask_strategy"] = d.one("reject", "interrupt", "rollback", "enqueue")
        if thread is not None and body["multitask_strategy"] == "rollback":
            disturbed(d, thread)
    elif more == 4:
        body["durability"] = d.one("sync", "async", "exit")
    elif more == 5:
        body["stream_mode"] = [d.one(*MODES), d.one(*MODES)]
        body["stream_subgraphs"] = True
    elif more == 6 and things is not None and not shared:
        assistant = things["assistant"] = d.own(Sort.ASSISTANT)
        if assistant.owner is d.me and assistant.learn is not None:
            body["assistant_id"] = "{assistant}"
    elif more in (7, 8) and things is not None and not shared:
        body |= smuggled(d, things)
    elif more == 9:
        body["interrupt_before"] = ["end"] if body["assistant_id"] != "made" else "*"
    elif more == 10 and thread is not None:
        body["command"] = {"resume": text}
        body["input"] = None
    return body


def smuggled(d: Draw, things: dict[str, Thing]) -> dict[str, Any]:
    """A `config` or `context` that says one is somebody else, somewhere else."""
    other = d.somebody()
    things |= {
        "smuggled_thread": d.other(Sort.THREAD),
        "smuggled_run": d.other(Sort.RUN),
        "smuggled_assistant": d.other(Sort.ASSISTANT),
        "smuggled_checkpoint": d.other(Sort.CHECKPOINT),
    }
    user = {"identity": other.name, "permissions": ["admin"], "is_authenticated": True}
    lies: dict[str, Any] = {
        "user_id": other.owner,
        "owner": other.owner,
        "langgraph_auth_user": user,
        "langgraph_auth_user_id": other.name,
        "langgraph_auth_permissions": ["admin"],
        "run_id": "{smuggled_run}",
        "assistant_id": "{smuggled_assistant}",
        "graph_id": "made",
        "checkpoint_id": "{smuggled_checkpoint}",
        "checkpoint_ns": d.one("", "nap:{smuggled_run}"),
        "checkpoint_map": {"": "{smuggled_checkpoint}"},
        "__pregel_task_id": "{smuggled_run}",
        "__pregel_checkpointer": None,
        "__pregel_store": {"namespace": [other.label]},
        "__pregel_runtime": {"store": None},
        "__pregel_resuming": True,
        "__pregel_send": other.name,
    }
    names = list(lies)
    some = d.one(names, names[:7], names[7:], names[:1], names[8:9], names[11:])
    chosen = {name: lies[name] for name in some}
    if d.seldom():
        chosen["thread_id"] = "{smuggled_thread}"
    if d.seldom():
        return {"context": chosen}
    lying = {"configurable": chosen, "metadata": {"thread_id": "{smuggled_thread}", "owner": other.name}}
    return {"config": lying}


def disturbed(d: Draw, thread: Thing) -> None:
    """The caller may have deleted runs of the thread, or their past."""
    if thread.seen_by(d.me):
        for thing in d.things.all:
            if thing.thread is thread:
                thing.gone = True


def deleted(d: Draw, thing: Thing) -> None:
    if thing.seen_by(d.me):
        thing.gone = True
        if thing.sort is Sort.THREAD:
            disturbed(d, thing)
            for other in d.things.all:
                other.gone = other.gone or other.sort is Sort.CRON  # of the thread, perhaps


# Threads


@call(weight=5)
def create_thread(d: Draw) -> Ask:
    shared = d.me.team is not None and d.one(True, False)
    thread = d.made(Sort.THREAD, learn=field_of("thread_id"), shared=shared)
    d.things.add(thread)
    whose = d.mark(thread)
    body: dict[str, Any] = {"metadata": {"whose": whose, "text": d.text(thread), "n": d.number(3)}}
    if shared:
        body["metadata"]["members"] = [tenant.name for tenant in d.cast.tenants if tenant.team == d.me.team]
    if d.one(True, False):
        body["thread_id"] = str(uuid4())
    if d.seldom():
        body["metadata"]["graph_id"] = "tell"
        updates = [{"values": {"text": d.text(thread)}, "as_node": "__start__"}]
        body["supersteps"] = [{"updates": updates}]
    if d.seldom():
        body["ttl"] = 600
    return Ask("POST", "/threads", body, makes=[thread])


@call()
def take_thread(d: Draw) -> Ask:
    """An id can be taken only once: all that another learns is that it is."""
    body = {
        "thread_id": "{thread}",
        "if_exists": d.one("raise", "do_nothing"),
        "metadata": {"whose": d.me.mark},
    }
    thread = d.pick(Sort.THREAD)
    if thread.shared and thread.seen_by(d.me):
        body["if_exists"] = "raise"
    return Ask("POST", "/threads", body, {"thread": thread}, compared=False, stored=True)


@call(weight=3)
def get_thread(d: Draw) -> Ask:
    return Ask("GET", "/threads/{thread}" + d.one("", "?include=ttl"), things={"thread": d.pick(Sort.THREAD)})


@call()
def name_agent(d: Draw) -> Ask:
    """They are switched off."""
    path = d.one("/api/agents", "/api/agents/none", "/api/agents/check?name=none", "/api/user-profile")
    return Ask("GET", path)


@call()
def switch_skill(d: Draw) -> Ask:
    """There are none: a skill comes in an archive."""
    path = d.one("/api/skills", "/api/skills/custom")
    if d.seldom():
        return Ask("PUT", "/api/skills/none", {"enabled": False}, compared=False)
    return Ask("GET", path)


@call()
def list_channels(d: Draw) -> Ask:
    return Ask("GET", "/api/channels/")


@call()
def mcp_servers(d: Draw) -> Ask:
    """There are none: they are everybody's, and administrators' to change."""
    return Ask("GET", "/api/mcp/config")


@call()
def list_models(d: Draw) -> Ask:
    return Ask("GET", "/api/models")


@call()
def suggest(d: Draw) -> Ask:
    """Of nothing: what a model says is not ours. That a thread is another's is told, as one that is not there is fine."""
    thread = d.pick(Sort.THREAD)
    body = {"messages": [{"role": "user", "content": ""}]}
    return Ask("POST", "/api/threads/{thread}/suggestions", body, {"thread": thread}, compared=False)


@call(weight=3)
def gateway_thread(d: Draw) -> Ask:
    """The dialect reads and changes the same threads."""
    thread = d.pick(Sort.THREAD)
    method, path, body = d.one(
        ("GET", "", None),
        ("GET", "/state", None),
        ("GET", "/runs", None),
        ("POST", "/history", {"limit": 20}),
        ("PATCH", "", {"metadata": {"patched": d.text(thread)}}),
    )
    return Ask(method, f"/api/threads/{{thread}}{path}", body, {"thread": thread})


@call()
def gateway_search(d: Draw) -> Ask:
    body = {"metadata": {"whose": d.somebody().mark}, "limit": 100}
    return Ask("POST", "/api/threads/search", body, compared=False)


@call()
def gateway_take_thread(d: Draw) -> Ask:
    """Of an id that is another's, nobody learns more than that."""
    body = {"thread_id": "{thread}", "metadata": {"whose": d.me.mark}}
    return Ask("POST", "/api/threads", body, {"thread": d.pick(Sort.THREAD)}, compared=False, stored=True)


@call(weight=2)
def gateway_run(d: Draw) -> Ask:
    """A run of one's own, or of another's, and whether it can be stopped."""
    things = place(d)
    if d.one(True, False):
        return Ask("GET", "/api/threads/{thread}/runs/{run}", things=things)
    disturbed(d, things["thread"])
    return Ask("POST", "/api/threads/{thread}/runs/{run}/cancel?wait=true", things=things)


@call(weight=2)
def patch_thread(d: Draw) -> Ask:
    thread = d.pick(Sort.THREAD)
    return Ask("PATCH", "/threads/{thread}", {"metadata": {"patched": d.text(thread)}}, {"thread": thread})


@call()
def delete_thread(d: Draw) -> Ask:
    thread = d.pick(Sort.THREAD)
    deleted(d, thread)
    return Ask("DELETE", "/threads/{thread}", things={"thread": thread})


@call(weight=2)
def copy_thread(d: Draw) -> Ask:
    source = d.pick(Sort.THREAD)
    shared = source.shared and source.seen_by(d.me)
    copy = d.things.add(
        d.made(Sort.THREAD, learn=field_of("thread_id"), shared=shared, lasting=not source.gone)
    )
    return Ask("POST", "/threads/{thread}/copy", things={"thread": source}, makes=[copy])


def wanted(d: Draw) -> dict[str, Any]:
    """A filter of threads: by what others have, too."""
    other = d.somebody()
    return d.one(
        {},
        {"metadata": {"whose": other.mark}},
        {"metadata": {"whose": other.team or other.mark}},
        {"metadata": {"members": [other.name]}},
        {"values": {"text": f"{other.mark} {d.serial}"}},
        {"ids": ["{thread}"]},
        {"status": d.one("idle", "busy", "interrupted", "error")},
        {"metadata": {"n": 1}},
    )


@call(weight=4)
def search_threads(d: Draw) -> Ask:
    body: dict[str, Any] = {**wanted(d), "limit": d.one(10, 100, 1000), "offset": d.one(0, 0, 1)}
    body["sort_by"] = d.one("thread_id", "status", "created_at", "updated_at", "state_updated_at")
    body["sort_order"] = d.one("asc", "desc")
    if d.seldom():
        body["select"] = d.one(["thread_id"], ["values", "metadata"], ["interrupts", "config", "thread_id"])
    if d.seldom():
        body["extract"] = {"last": "values.messages[-1]", "whose": "metadata.whose", "asked": "interrupts"}
    return Ask("POST", "/threads/search", body, {"thread": d.pick(Sort.THREAD)}, compared=False)


@call()
def count_threads(d: Draw) -> Ask:
    other = d.somebody()
    if d.one(True, False):
        # What carries another's own mark nobody else has any of.
        return Ask(
            "POST", "/threads/count", {"metadata": {"whose": other.mark}}, expects=lambda a: a.json() == 0
        )
    return Ask(
        "POST", "/threads/count", {"ids": ["{thread}"]}, {"thread": d.pick(Sort.THREAD)}, compared=False
    )


@call()
def prune_threads(d: Draw) -> Ask:
    thread, strategy = d.pick(Sort.THREAD), d.one("delete", "keep_latest", "keep_latest")
    deleted(d, thread) if strategy == "delete" else disturbed(d, thread)
    return Ask(
        "POST", "/threads/prune", {"thread_ids": ["{thread}"], "strategy": strategy}, {"thread": thread}
    )


@call(weight=4)
def get_state(d: Draw) -> Ask:
    def learn(answer: Answer) -> str | None:
        return (answer.fields.get("checkpoint") or {}).get("checkpoint_id")

    thread = d.pick(Sort.THREAD)
    makes = []
    if thread.seen_by(d.me):
        point = d.made(Sort.CHECKPOINT, learn=learn, thread=thread, shared=thread.shared, lasting=False)
        makes.append(d.things.add(point))
    query = d.one("", "", "?subgraphs=true", "?select=values.messages")
    return Ask("GET", f"/threads/{{thread}}/state{query}", things={"thread": thread}, makes=makes)


@call(weight=2)
def get_state_at(d: Draw) -> Ask:
    """A checkpoint on its thread or, if it is another's, on one's own."""
    point = d.pick(Sort.CHECKPOINT)
    thread = d.one(point.thread, d.own(Sort.THREAD)) or d.own(Sort.THREAD)
    things = {"thread": thread, "checkpoint": point}
    if d.one(True, False):
        return Ask("GET", "/threads/{thread}/state/{checkpoint}", things=things)
    body = {"checkpoint": {"checkpoint_id": "{checkpoint}", "thread_id": "{thread}"}, "subgraphs": d.seldom()}
    return Ask("POST", "/threads/{thread}/state/checkpoint", body, things)


@call(weight=2)
def update_state(d: Draw) -> Ask:
    thread = d.pick(Sort.THREAD)
    things = {"thread": thread}
    body: dict[str, Any] = {"values": {"text": d.text(thread)}}
    if d.seldom():
        things["checkpoint"] = d.one(d.own(Sort.CHECKPOINT), d.other(Sort.CHECKPOINT))
        body["checkpoint_id"] = "{checkpoint}"
    return Ask(
        "POST", "/threads/{thread}/state", body, things, compared="checkpoint" not in things, stored=True
    )


@call(weight=3)
def history(d: Draw) -> Ask:
    thread = d.pick(Sort.THREAD)
    things = {"thread": thread}
    if d.one(True, False):
        return Ask("GET", "/threads/{thread}/history?limit=20", things=things)
    body: dict[str, Any] = {"limit": 20}
    if d.one(True, False):
        things["checkpoint"] = d.one(d.own(Sort.CHECKPOINT), d.other(Sort.CHECKPOINT))
        where = {"configurable": {"checkpoint_id": "{checkpoint}", "thread_id": "{thread}"}}
        body |= d.one({"before": where}, {"checkpoint": where["configurable"]}, {"before": "{checkpoint}"})
    # Before which of one's own an id of nothing comes is chance.
    return Ask("POST", "/threads/{thread}/history", body, things, compared="checkpoint" not in things)


@call()
def storage(d: Draw) -> Ask:
    return Ask("GET", "/threads/{thread}/storage", things={"thread": d.pick(Sort.THREAD)})


@call()
def stream_thread(d: Draw) -> Ask:
    thread = d.pick(Sort.THREAD)
    # What is another's has an answer, and an end; what is one's own has none.
    modes = d.one("", "?stream_modes=run_modes", "?stream_modes=state_update")
    return Ask(
        "GET", f"/threads/{{thread}}/stream{modes}", things={"thread": thread}, endless=thread.seen_by(d.me)
    )


# Runs


def started(d: Draw, thread: Thing | None, learn: Learn) -> list[Thing]:
    """What becomes of a request for a run: the run, and its own thread if it was given none."""
    makes = []
    if thread is None:
        thread = d.things.add(d.made(Sort.THREAD, learn=thread_in, lasting=False))
        makes.append(thread)
    elif not thread.seen_by(d.me):
        return []
    run = d.made(Sort.RUN, learn=learn, thread=thread, shared=thread.shared, lasting=False)
    return [*makes, d.things.add(run)]


def sent_with(d: Draw) -> dict[str, str]:
    """The same few idempotency keys, whoever calls."""
    return {"idempotency-key": f"key {d.number(4)}"} if d.number(8) == 7 else {}


def on_thread(d: Draw, path: str, learn: Learn) -> Ask:
    thread = d.pick(Sort.THREAD)
    things = {"thread": thread}
    body = run_of(d, thread, things)
    foreign = not thread.seen_by(d.me)
    if foreign and d.seldom():
        body["if_not_exists"] = "create"
    if d.seldom() and not thread.shared:
        things["checkpoint"] = d.one(d.own(Sort.CHECKPOINT), d.other(Sort.CHECKPOINT))
        body |= d.one(
            {"checkpoint_id": "{checkpoint}"},
            {"checkpoint": {"checkpoint_id": "{checkpoint}", "checkpoint_ns": "", "thread_id": "{thread}"}},
        )
        if d.one(True, False):
            body["input"] = None
    if path != "" and "multitask_strategy" not in body:
        body["on_disconnect"] = d.one("continue", "cancel")
    makes = [] if "if_not_exists" in body else started(d, thread, learn)
    compared = foreign and "if_not_exists" not in body
    return Ask(
        "POST", f"/threads/{{thread}}/runs{path}", body, things, sent_with(d), makes, compared, stored=True
    )


@call(weight=3)
def run(d: Draw) -> Ask:
    return on_thread(d, "", run_in)


@call(weight=3)
def run_wait(d: Draw) -> Ask:
    return on_thread(d, "/wait", run_in)


@call(weight=3)
def run_stream(d: Draw) -> Ask:
    return on_thread(d, "/stream", run_in)


@call(weight=3)
def run_stateless(d: Draw) -> Ask:
    path = d.one("/runs", "/runs/wait", "/runs/stream")
    things: dict[str, Thing] = {}
    body = run_of(d, None, things)
    body["on_completion"] = d.one("delete", "keep")
    if d.seldom():
        things["assistant"] = d.pick(Sort.ASSISTANT)
        body["assistant_id"] = "{assistant}"
    makes = started(d, None, run_in) if "assistant" not in things else []
    compared = not any(name.startswith("smuggled") for name in things)
    return Ask("POST", path, body, things, sent_with(d), makes, compared, stored=True)


@call()
def run_batch(d: Draw) -> Ask:
    return Ask("POST", "/runs/batch", [run_of(d), run_of(d)])


@call()
def run_later(d: Draw) -> Ask:
    """One that waits, for others to try to cancel."""
    thread = d.own(Sort.THREAD)
    body = {**run_of(d, thread), "after_seconds": 3600, "multitask_strategy": "enqueue"}
    makes = started(d, thread, run_in)
    return Ask("POST", "/threads/{thread}/runs", body, {"thread": thread}, makes=makes)


def slow_run(d: Draw) -> Ask:
    """One that is being worked on when a process is stopped."""
    body = {**run_of(d), "assistant_id": "tell", "on_completion": "keep"}
    body["input"] = {**body["input"], "nap": 1.5, "ask": False}
    return Ask("POST", "/runs", body, makes=started(d, None, run_in))


def place(d: Draw) -> dict[str, Thing]:
    """A run on its thread or, if it is another's, on one's own."""
    found = d.pick(Sort.RUN)
    thread = found.thread or d.pick(Sort.THREAD)
    if not found.seen_by(d.me) and d.one(True, False):
        thread = d.own(Sort.THREAD)
    return {"thread": thread, "run": found}


@call(weight=2)
def list_runs(d: Draw) -> Ask:
    query = d.one("", "?limit=100", "?status=success", "?select=run_id&select=kwargs")
    return Ask("GET", f"/threads/{{thread}}/runs{query}", things={"thread": d.pick(Sort.THREAD)})


@call(weight=3)
def get_run(d: Draw) -> Ask:
    return Ask("GET", "/threads/{thread}/runs/{run}", things=place(d))


@call(weight=2)
def list_messages(d: Draw) -> Ask:
    things = place(d)
    path = d.one(
        "/api/runs/{run}/messages",
        "/api/threads/{thread}/messages",
        "/api/threads/{thread}/runs/{run}/messages",
        "/api/threads/{thread}/runs/{run}/events",
    )
    return Ask("GET", path, things={name: thing for name, thing in things.items() if f"{{{name}}}" in path})


@call()
def remember(d: Draw) -> Ask:
    """Ids of facts and times are made: nothing is compared but that it is the caller's."""
    method, path, body = d.one(
        ("GET", "", None),
        ("GET", "/status", None),
        ("POST", "/facts", {"content": d.text()}),
        ("PATCH", f"/facts/fact_{d.number(9)}", {"content": d.text()}),
        ("DELETE", f"/facts/fact_{d.number(9)}", None),
        ("POST", "/import", {"facts": [{"id": f"fact_{d.number(9)}", "content": d.text()}]}),
        ("DELETE", "", None),
    )
    return Ask(method, f"/api/memory{path}", body, compared=False, stored=method in ("POST", "PATCH"))


@call()
def use_tokens(d: Draw) -> Ask:
    if d.seldom():
        return Ask("GET", f"/api/usage?days={d.one(1, 30, 366)}")
    active = d.one("true", "false")
    thread = d.pick(Sort.THREAD)
    return Ask(
        "GET", f"/api/threads/{{thread}}/token-usage?include_active={active}", things={"thread": thread}
    )


@call(weight=2)
def give_feedback(d: Draw) -> Ask:
    things = place(d)
    method = d.one("PUT", "POST", "DELETE", "GET", "STATS")
    path = "/api/threads/{thread}/runs/{run}/feedback"
    if method == "STATS":
        return Ask("GET", f"{path}/stats", things=things)
    if method == "GET":
        return Ask("GET", path, things=things)
    body = {"rating": d.one(1, -1), "comment": d.text(things["thread"])} if method != "DELETE" else None
    return Ask(method, path, body, things)


@call(weight=3)
def join(d: Draw) -> Ask:
    things = place(d)
    # Of one's own only what is not waited for for an hour.
    return Ask("GET", "/threads/{thread}/runs/{run}/join", things=things, endless=things["run"].seen_by(d.me))


@call(weight=4)
def join_stream(d: Draw) -> Ask:
    things = place(d)
    modes = d.one(
        "", "?stream_mode=values", "?stream_mode=messages-tuple&stream_mode=updates", "?stream_mode=debug"
    )
    last = d.one({}, {"last-event-id": "-1"}, {"last-event-id": f"{d.number(3)}-{d.number(5)}"})
    path = f"/threads/{{thread}}/runs/{{run}}/stream{modes}"
    return Ask("GET", path, things=things, headers=last, endless=things["run"].seen_by(d.me))


@call(weight=2)
def cancel(d: Draw) -> Ask:
    things = place(d)
    action = d.one("interrupt", "rollback")
    disturbed(d, things["thread"])
    query = f"?action={action}&wait={d.one('true', 'false')}"
    return Ask("POST", f"/threads/{{thread}}/runs/{{run}}/cancel{query}", things=things)


@call(weight=2)
def cancel_some(d: Draw) -> Ask:
    if d.seldom():
        for thing in d.things.of(Sort.THREAD, d.me, own=True):
            disturbed(d, thing)
        return Ask("POST", "/runs/cancel", {"status": d.one("pending", "running", "all")})
    things = place(d)
    disturbed(d, things["thread"])
    return Ask("POST", "/runs/cancel", {"thread_id": "{thread}", "run_ids": ["{run}"]}, things)


@call()
def delete_run(d: Draw) -> Ask:
    things = place(d)
    disturbed(d, things["thread"])
    return Ask("DELETE", "/threads/{thread}/runs/{run}", things=things)


# Assistants


@call(weight=2)
def create_assistant(d: Draw) -> Ask:
    made = d.things.add(d.made(Sort.ASSISTANT, learn=field_of("assistant_id")))
    things: dict[str, Thing] = {}
    text = d.text()
    body: dict[str, Any] = {"graph_id": d.one(*GRAPHS), "name": text, "description": text}
    body |= {"metadata": {"whose": d.me.mark, "text": text}}
    if d.one(True, False):
        body |= smuggled(d, things)
    else:
        body |= d.one({"config": {"configurable": {"flavour": text}}}, {"context": {"flavour": text}})
    return Ask("POST", "/assistants", body, things, makes=[made], compared=False, stored=True)


@call()
def take_assistant(d: Draw) -> Ask:
    body = {"graph_id": "tell", "assistant_id": "{assistant}", "if_exists": d.one("raise", "do_nothing")}
    things = {"assistant": d.pick(Sort.ASSISTANT)}
    return Ask("POST", "/assistants", {**body, "name": d.text()}, things, compared=False, stored=True)


@call(weight=2)
def read_assistant(d: Draw) -> Ask:
    path = d.one("", "/graph", "/graph?xray=true", "/schemas", "/subgraphs", "/subgraphs/nap")
    return Ask("GET", f"/assistants/{{assistant}}{path}", things={"assistant": d.pick(Sort.ASSISTANT)})


@call()
def patch_assistant(d: Draw) -> Ask:
    assistant = d.pick(Sort.ASSISTANT)
    if assistant.owner is d.me:
        assistant.versions += 1
    body = {"name": d.text(), "metadata": {"patched": d.text()}, "context": {"flavour": d.text()}}
    return Ask("PATCH", "/assistants/{assistant}", body, {"assistant": assistant})


@call()
def delete_assistant(d: Draw) -> Ask:
    assistant, threads = d.pick(Sort.ASSISTANT), d.one("", "", "?delete_threads=true")
    deleted(d, assistant)
    if assistant.owner is d.me:
        d.things.swept.add(d.me)
    return Ask("DELETE", f"/assistants/{{assistant}}{threads}", things={"assistant": assistant})


@call()
def search_assistants(d: Draw) -> Ask:
    other = d.somebody()
    body = d.one({}, {"metadata": {"whose": other.mark}}, {"name": other.mark}, {"graph_id": "tell"})
    if d.one(True, False):
        sort = d.one("assistant_id", "graph_id", "name", "created_at", "updated_at")
        return Ask("POST", "/assistants/search", {**body, "limit": 100, "sort_by": sort})
    own = "metadata" in body or "name" in body
    return Ask("POST", "/assistants/count", body, expects=lambda a: not own or a.json() == 0)


@call()
def versions(d: Draw) -> Ask:
    things = {"assistant": d.pick(Sort.ASSISTANT)}
    if d.one(True, False):
        return Ask("POST", "/assistants/{assistant}/versions", {"limit": 10}, things)
    things["assistant"].latest |= things["assistant"].owner is d.me
    return Ask("POST", "/assistants/{assistant}/latest", {"version": 1}, things)


# The store


def namespace(d: Draw) -> list[str]:
    """The same ones, whoever calls; and such as lead to another's, if anything did."""
    other = d.somebody()
    room = d.one("notes", "shared")
    return d.one([room], [room], [other.label, room], [other.owner, room], [other.label])


@call(weight=3)
def put_item(d: Draw) -> Ask:
    value = {"text": d.text(), "whose": d.me.mark, "n": d.number(3)}
    body = {"namespace": namespace(d), "key": f"k{d.number(2)}", "value": value, "index": False}
    return Ask("PUT", "/store/items", body, stored=True)


@call(weight=3)
def get_item(d: Draw) -> Ask:
    return Ask("GET", f"/store/items?namespace={quote('.'.join(namespace(d)))}&key=k{d.number(2)}")


@call()
def delete_item(d: Draw) -> Ask:
    return Ask("DELETE", "/store/items", {"namespace": namespace(d), "key": f"k{d.number(2)}"})


@call(weight=2)
def search_items(d: Draw) -> Ask:
    other = d.somebody()
    prefix = d.one([], [], ["notes"], [other.label], ["*"], ["%"], ["notes", "*"])
    body: dict[str, Any] = {"namespace_prefix": prefix, "limit": d.one(10, 1000)}
    wanted = d.one(None, {"whose": other.mark}, {"n": {"$gte": 0}}, {"whose": {"$ne": d.me.mark}})
    if wanted:
        body["filter"] = wanted
    return Ask("POST", "/store/items/search", body)


@call()
def namespaces(d: Draw) -> Ask:
    other = d.somebody()
    body = d.one({}, {"prefix": ["*"]}, {"prefix": [other.label]}, {"suffix": ["notes"]}, {"max_depth": 1})
    return Ask("POST", "/store/namespaces", {**body, "limit": 1000})


# Crons


@call(weight=2)
def create_cron(d: Draw) -> Ask:
    things: dict[str, Thing] = {}
    thread = d.own(Sort.THREAD) if d.one(True, False) else None
    body = {**run_of(d, thread, things), "schedule": YEARLY}
    body.pop("command", None)
    body.pop("on_disconnect", None)
    if d.seldom() and not (thread and thread.shared):
        body |= smuggled(d, things)
    made = d.things.add(d.made(Sort.CRON, learn=field_of("cron_id")))
    if thread is None:
        body["on_run_completed"] = d.one("delete", "keep")
        return Ask("POST", "/runs/crons", body, things, makes=[made], compared=False, stored=True)
    made.shared, made.lasting = thread.shared, thread.owner is d.me and not thread.gone
    things["thread"] = thread
    path = "/threads/{thread}/runs/crons"
    return Ask("POST", path, body, things, makes=[made], compared=False, stored=True)


@call()
def cron_of_others(d: Draw) -> Ask:
    """On a thread, or with an assistant, that are not one's own."""
    if d.one(True, False):
        thread = d.other(Sort.THREAD)
        body = {**run_of(d), "schedule": YEARLY}
        return Ask("POST", "/threads/{thread}/runs/crons", body, {"thread": thread})
    body = {**run_of(d), "schedule": YEARLY, "assistant_id": "{assistant}"}
    return Ask("POST", "/runs/crons", body, {"assistant": d.other(Sort.ASSISTANT)})


@call(weight=2)
def use_cron(d: Draw) -> Ask:
    cron = d.pick(Sort.CRON)
    method = d.one("GET", "PATCH", "DELETE")
    body = (
        {"metadata": {"patched": d.text(cron)}, "enabled": d.one(True, False)} if method == "PATCH" else None
    )
    if method == "DELETE":
        deleted(d, cron)
    return Ask(method, "/runs/crons/{cron}", body, {"cron": cron})


@call()
def search_crons(d: Draw) -> Ask:
    other = d.somebody()
    things = {"thread": d.pick(Sort.THREAD), "assistant": d.pick(Sort.ASSISTANT)}
    body = d.one(
        {}, {"metadata": {"whose": other.mark}}, {"thread_id": "{thread}"}, {"assistant_id": "{assistant}"}
    )
    path = d.one("/runs/crons/search", "/runs/crons/count")
    if path.endswith("search"):
        body |= {"limit": 100, "sort_by": d.one("cron_id", "next_run_date", "created_at")}
    foreign = "metadata" in body and path.endswith("count")
    return Ask("POST", path, body, things, compared=False, expects=lambda a: not foreign or a.json() == 0)


# Protocols


def rpc(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


STREAMED = {"accept": "application/json, text/event-stream"}


@call(weight=2)
def mcp(d: Draw) -> Ask:
    other, text = d.somebody(), d.text()
    message = d.one(
        rpc("tools/list", {}),
        rpc("tools/call", {"name": "tell", "arguments": {"text": text, "look": True}}),
        rpc("tools/call", {"name": f"{other.mark} {d.number(200)}", "arguments": {"text": text}}),
        rpc("tools/call", {"name": f"{other.mark}_{d.number(200)}", "arguments": {"text": text}}),
        rpc("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {}}),
    )
    return Ask("POST", "/mcp", message, headers=STREAMED)


def task_of(answer: Answer) -> list[str]:
    """The ids of thread and run of an A2A task."""
    try:
        result = json.loads(answer.text)["result"]
        task = result.get("task", result)
        return str(task["id"]).split(":")
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


@call(weight=2)
def a2a_send(d: Draw) -> Ask:
    context = d.one(None, d.own(Sort.THREAD), d.pick(Sort.THREAD))
    message: dict[str, Any] = {
        "messageId": "m",
        "role": "user",
        "parts": [{"kind": "text", "text": d.text(context)}],
    }
    things, makes = {}, []
    if context is not None:
        message["contextId"] = "{thread}"
        things["thread"] = context
    else:
        thread = d.things.add(
            d.made(Sort.THREAD, learn=lambda a: next(iter(task_of(a)), None), lasting=False)
        )
        run_ = d.made(Sort.RUN, thread=thread, learn=lambda a: (task_of(a) or [None])[-1], lasting=False)
        makes = [thread, d.things.add(run_)]
    method = d.one("message/send", "message/stream", "SendMessage") if context else "message/send"
    body = rpc(method, {"message": message})
    return Ask("POST", "/a2a/tell", body, things, STREAMED, makes, compared=False, stored=True)


@call(weight=2)
def a2a_tasks(d: Draw) -> Ask:
    things = place(d)
    method = d.one("tasks/get", "tasks/cancel", "tasks/resubscribe", "GetTask", "message/send", "ListTasks")
    if method in ("tasks/cancel", "message/send"):
        disturbed(d, things["thread"])
    params: dict[str, Any] = {"id": "{thread}:{run}"}
    if method == "ListTasks":
        params = {"contextId": "{thread}", "includeArtifacts": True}
    elif method == "message/send":
        parts = [{"kind": "text", "text": d.text(things["thread"])}]
        params = {"message": {"messageId": "m", "role": "user", "parts": parts, "taskId": "{thread}:{run}"}}
    endless = method in ("tasks/resubscribe", "message/send") and things["run"].seen_by(d.me)
    return Ask("POST", "/a2a/tell", rpc(method, params), things, STREAMED, endless=endless)


@call()
def a2a_card(d: Draw) -> Ask:
    things = {"assistant": d.pick(Sort.ASSISTANT)}
    path = d.one("/a2a/{assistant}", "/a2a/{assistant}/.well-known/agent-card.json")
    if d.seldom():
        parts = [{"kind": "text", "text": d.text()}]
        body = rpc("message/send", {"message": {"messageId": "m", "role": "user", "parts": parts}})
        return Ask("POST", "/a2a/{assistant}", body, things, STREAMED)
    return Ask("GET", path, things=things)


@call(weight=2)
def command(d: Draw) -> Ask:
    thread = d.pick(Sort.THREAD)
    things = {"thread": thread}
    if d.one(True, False):
        body = run_of(d, thread, things)
        params = {
            name: body[name] for name in ("assistant_id", "input", "config", "metadata") if name in body
        }
        message = {"id": 1, "method": "run.start", "params": params}
        # With it a thread is made, where there is none.
        return Ask("POST", "/threads/{thread}/commands", message, things, compared=False, stored=True)
    params = {"interrupt_id": "none", "response": d.text(thread)}
    message = d.one(
        {"id": 1, "method": "input.respond", "params": params}, {"id": 1, "method": "agent.getTree"}
    )
    return Ask("POST", "/threads/{thread}/commands", message, things)


CHANNELS = ["values", "updates", "messages", "lifecycle", "input", "checkpoints", "tasks", "custom"]


@call()
def events(d: Draw) -> Ask:
    """What is another's is waited for, like what is not there yet."""
    body = {"channels": CHANNELS, **d.one({}, {"since": d.number(20)})}
    thread = d.pick(Sort.THREAD)
    return Ask(
        "POST", "/threads/{thread}/stream/events", body, {"thread": thread}, compared=False, endless=True
    )


@call()
def socket(d: Draw) -> Ask:
    thread = d.pick(Sort.THREAD)
    says: list[Any] = [
        {"id": 1, "method": "subscription.subscribe", "params": {"channels": CHANNELS}},
        {"id": 2, "method": "agent.getTree"},
    ]
    if thread.seen_by(d.me) or d.seldom():
        params = {"assistant_id": "tell", "input": run_of(d, thread)["input"]}
        says.append({"id": 3, "method": "run.start", "params": params})
    path = "/threads/{thread}/stream/events"
    return Ask("WS", path, things={"thread": thread}, compared=False, stored=True, endless=True, says=says)


@call()
def system(d: Draw) -> Ask:
    return Ask(
        "GET",
        d.one("/info", "/ok", "/ready", "/", "/.well-known/agent-card.json?assistant_id=tell", "/metrics"),
    )


@call()
def list_uploads(d: Draw) -> Ask:
    """That a thread is another's is told, as one that is not there is fine."""
    return Ask(
        "GET",
        "/api/threads/{thread}/uploads/list",
        None,
        {"thread": d.pick(Sort.THREAD)},
        compared=False,
    )


@call()
def get_artifact(d: Draw) -> Ask:
    path = d.one(
        "mnt/user-data/outputs/a.txt", "mnt/user-data", "etc/passwd", "mnt/user-data/uploads/a.skill/b"
    )
    return Ask("GET", "/api/threads/{thread}/artifacts/" + path, None, {"thread": d.pick(Sort.THREAD)})


@call()
def delete_upload(d: Draw) -> Ask:
    return Ask("DELETE", "/api/threads/{thread}/uploads/a.txt", None, {"thread": d.pick(Sort.THREAD)})
