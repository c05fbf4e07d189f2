"""Which differences are meant, by the lines of docs/compatibility.md that say why."""

from __future__ import annotations

from typing import Any

from tests.differential.compare import ABSENT
from tests.differential.deliberate import ANYTHING, At, Deliberate


def present(value: Any) -> bool:
    return value is not ABSENT


def keys(*names: str, official: Any = ANYTHING, ours: Any = ANYTHING, where: str = "*.") -> tuple[At, ...]:
    """These keys, wherever they are."""
    return tuple(At(f"{where}{name}", official, ours) for name in names)


AUTH_BROKEN = {"detail": "The project's auth failed: the server's log says why."}

DELIBERATE: tuple[Deliberate, ...] = (
    # Streams
    Deliberate("every event has an id", (At("*: events[*].id", False, True),)),
    Deliberate(
        "`Location` is exposed to browsers", (At("system.browsers / *: access-control-expose-headers"),)
    ),
    Deliberate(
        "`Location` carries `stream_mode`",
        (
            At("streams.* / *: headers.location", ANYTHING, lambda text: "?stream_mode=" in text),
            At(
                "streams.left / *: headers.location", ANYTHING, lambda text: "?cancel_on_disconnect=1" in text
            ),
            At("threads.stream / *: headers.location", ABSENT, lambda text: "?stream_modes=" in text),
        ),
    ),
    Deliberate(
        "`tasks[].checkpoint` instead of internal keys",
        (
            *keys(
                "__after_seconds__",
                "__request_start_time_ms__",
                "__pregel_node_finished",
                "langgraph_auth_permissions",
                "langgraph_auth_user",
                "langgraph_request_id",
                "metadata.checkpoint_id",
                "metadata.checkpoint_map",
                "metadata.checkpoint_ns",
                "metadata.langgraph_checkpoint_ns",
                "metadata.langgraph_node",
                "metadata.langgraph_path",
                "metadata.langgraph_step",
                "metadata.langgraph_triggers",
                ours=ABSENT,
            ),
            At("*.tasks[*].checkpoint", ABSENT),
            At("*.tasks[*].state", ours=ABSENT),
        ),
    ),
    Deliberate(
        "metadata does not name the server",
        keys(
            "langgraph_api_url",
            "langgraph_api_version",
            "langgraph_host",
            "langgraph_plan",
            "langgraph_version",
            ours=ABSENT,
        ),
    ),
    Deliberate(
        "`user_id` and `langgraph_auth_user_id` in metadata", keys("user_id", "langgraph_auth_user_id")
    ),
    Deliberate("`user_id` is the owner's name", (At("crons.*: *user_id", "", None),)),
    # Runs
    Deliberate(
        "a run's `kwargs` are what was asked for",
        (
            *keys(
                "graph_id", "assistant_id", "run_id", "thread_id", where="*config.configurable.", ours=ABSENT
            ),
            At("*kwargs*config.metadata", present, ABSENT),
            At("runs.context / *.kwargs.config.configurable.undeclared", ABSENT),
        ),
    ),
    Deliberate(
        "a run that starts at once is answered as `running`",
        (At("runs.*: body*.status", "pending", "running"),),
    ),
    Deliberate(
        "stateless runs have a hidden, checkpointed thread",
        (
            At("* / * POST /runs/stream: headers.location", lambda text: text.startswith("/runs/")),
            At("streams.checkpoints.stateless / *: events[* checkpoints]", ABSENT),
            At("streams.debug.stateless / *: events[* debug]*"),
        ),
    ),
    Deliberate(
        "without API keys a foreign `Host` or `Origin`",
        (At("system.browsers / *: access-control-allow-origin"),),
    ),
    Deliberate(
        "the error of a thread says which node it comes from",
        (At("*: body.error.node", ABSENT),),
    ),
    Deliberate(
        "`/wait` and `/join` are made of the whole log",
        (
            At("runs.wait.modes / * stateless wait *: body.*", ABSENT),
            At("runs.cancel / *cancel: body.*", ABSENT),
            At("runs.multitask.reject / *cancel: body.*", ABSENT),
        ),
    ),
    Deliberate(
        "rollback restores the thread's values",
        (At("runs.cancel / * thread rollback: body.error", present, None),),
    ),
    Deliberate(
        "a pending run that is cancelled is over like any other",
        (
            At("runs.cancel.pending / * thread interrupt: body.error", ABSENT, present),
            At("runs.cancel.pending / * thread rollback: body.status", "busy", "idle"),
        ),
    ),
    Deliberate("a run's metadata always names its graph", keys("metadata.graph_id", official=ABSENT)),
    Deliberate(
        "deleting a run takes what it wrote from the thread's `values`",
        (At("runs.deleted / * GET /threads/<thread>: body.values.*"),),
    ),
    Deliberate(
        "`Location` and `Content-Location` name only what is there",
        (At("*join*: headers.*location", present, ABSENT), At("*stream: headers.*location", present, ABSENT)),
    ),
    # Requests
    Deliberate(
        "a method that a path does not have is 405",
        (At("system.refusals / * DELETE /assistants/search: status", 422, 405),),
    ),
    Deliberate(
        "wrong queries are 422 throughout",
        (
            At("*: 422 body.detail"),
            At("*: 422 found.detail"),
            At("threads.state / * POST *: 400 body.detail"),
            At("runs.multitask.reject / *: 409 body.detail"),
            At("crons.refusals / * POST /runs/crons: status", 500, 422),
            At("store.search / *: status", 200, 422),
            At("*: status", 400, 422),
            At("runs.* / * GET /threads/<thread>/runs: status", 200, 422),
            At("runs.bodies / * POST */runs {*: status", 200, 422),
            At("runs.cancel.many / * POST /runs/cancel: status", 404, 422),
            At("threads.history / * GET *: status", 200, 422),
            At("threads.extract / * POST *: status", 200, 422),
        ),
    ),
    Deliberate(
        "`/health` and `/ready`",
        (
            At("system.information / * GET /metrics: content-type"),
            At("system.information / * GET /metrics?format=json: "),
        ),
    ),
    Deliberate(
        "`/info` and `/ok` speak of this server",
        (
            At("system.information / * GET /info: body.version"),
            At("system.information / * GET /info: body.flags.langsmith_*"),
            At("system.information / * GET /ok: body.services.database", ABSENT, "healthy"),
        ),
    ),
    # Threads and assistants
    Deliberate(
        "making a version the latest restores all of it",
        (
            At("assistants.life / *: body.graph_id", "steps", "echo"),
            At("assistants.life / *: body.context.*"),
        ),
    ),
    Deliberate(
        "a new `context` of an assistant leaves",
        (
            At("assistants.life / *.config.tags", ABSENT),
            At("assistants.life / *.config.recursion_limit", ABSENT),
        ),
    ),
    Deliberate(
        "`supersteps` that fail: 4xx", (At("threads.supersteps / * POST /threads: status", 201, 422),)
    ),
    Deliberate(
        "a thread's `values` are those of its state", (At("runs.* / *: body.values.trail[*]", ABSENT),)
    ),
    Deliberate(
        "a state's `checkpoint` has its namespace",
        (
            *keys("checkpoint.checkpoint_ns", official=ABSENT, ours=""),
            *keys("metadata.assistant_id", official=ABSENT),
        ),
    ),
    Deliberate("a checkpoint id that is no UUID", (At("*/state/nonsense: status", 200, 422),)),
    Deliberate(
        "an unknown `stream_mode` of a joined stream", (At("streams.resumed / * GET *: status", 200, 422),)
    ),
    Deliberate(
        "copies show their true status",
        (
            At("threads.copy / * POST */copy: body.status", "idle", "interrupted"),
            At("threads.copy / *: body.values", ABSENT),
            At("threads.copy / *: body*.result.*_seen.thread_id"),
        ),
    ),
    Deliberate(
        "threads always have `interrupts` and `error`",
        (
            At("*interrupts", ABSENT),
            At("*error", ABSENT, None),
        ),
    ),
    Deliberate(
        "a thread's `config` is the `configurable` of its last run",
        (
            At("*: body.config.configurable", ABSENT),
            At("*: body.config.configurable.*"),
            At("runs.context / *: body.metadata.prefix", present, ABSENT),
            At("runs.*: body.config.tags", present, ABSENT),
            At("runs.*: body.config.recursion_limit", present, ABSENT),
            At("runs.*: body.config.metadata", present, ABSENT),
        ),
    ),
    Deliberate("`ttl` of a thread", (At("threads.create / * POST /threads: status", 422, 200),)),
    Deliberate("pruning is all or nothing", (At("threads.prune / *: status", 422, 200),)),
    Deliberate(
        "searching threads by `values`",
        (
            At("threads.search / *: status", 500, 200),
            At("threads.history / * POST *: status", 500, 200),
            At("threads.history / * POST *: status", 422, 200),
        ),
    ),
    # The store and crons
    Deliberate(
        'every refusal is `{"detail": …}`',
        (
            At("store.refusals / *: 422 headers.content-type", ABSENT, "application/json"),
            At("store.refusals / *: 422 body", lambda text: isinstance(text, str)),
            At("store.refusals / *: 400 body.error", present, ABSENT),
            At("store.refusals / *: 400 body.detail", ABSENT),
        ),
    ),
    Deliberate("a search without `namespace_prefix`", (At("store.search / *: status", 500, 200),)),
    Deliberate("`end_time` must be a time", (At("crons.refusals / * POST /runs/crons: status", 200, 422),)),
    # Other agents
    Deliberate(
        "MCP: a result's text is JSON",
        (
            At("mcp.calls / 7 *: body.result.content[0].text"),
            At("mcp.calls / 7 *: body.result.structuredContent", ABSENT),
            At("mcp.calls / 7 *: body.result.isError", ABSENT, False),
        ),
    ),
    Deliberate(
        "MCP: `isError` comes with the error's message", (At("mcp.calls / 8 *: body.result.content[0].text"),)
    ),
    Deliberate(
        "MCP: what is no message is 400 with an error of JSON-RPC",
        (
            At("mcp.refusals / *: 400 body.error", lambda text: isinstance(text, str)),
            At("mcp.refusals / *: 400 body.jsonrpc", ABSENT, "2.0"),
            At("mcp.refusals / *: 400 body.id", ABSENT, None),
        ),
    ),
    Deliberate(
        "A2A: a task's artifacts and state are the same whenever they are asked for",
        (
            At("a2a.calls / * tasks/get: body.result.artifacts", ABSENT),
            At("a2a.calls / * tasks/get: body.result.status.message", present, ABSENT),
        ),
    ),
    Deliberate(
        "MCP and A2A: what is said to people",
        (
            At("mcp.calls / * initialize: body.result.serverInfo.*"),
            At("mcp.calls / * tools: *description"),
            At("a2a.calls / * message/send: body.result.artifacts[0].*"),
            At("a2a.calls / * GET *: body.*description"),
            At("a2a.calls / * GET *: body.version"),
            At("a2a.calls / * GET *: body.default*putModes[*]"),
            At("a2a.calls / * GET *: body.skills[0].*"),
            At("a2a.calls / * broken: body.error.message"),
        ),
    ),
    Deliberate(
        "A2A: cards name the interface of 0.3, too",
        (
            At("a2a.calls / * GET *: body.supportedInterfaces[1]", ABSENT),
            At("a2a.calls / * GET *: body.preferredTransport", ABSENT),
            At("a2a.calls / * GET *: body.protocolVersion", ABSENT),
        ),
    ),
    Deliberate(
        'MCP and A2A: refusals by status are `{"detail": …}`',
        (
            At("mcp.refusals / *: 40* headers.*", ABSENT),
            At("mcp.refusals / *: 40* body", None),
            At("a2a.calls / *: 405 headers.*", ABSENT),
            At("a2a.calls / *: 405 body", None),
            At("a2a.calls / *: 400 body.error", present, ABSENT),
            At("a2a.calls / *: 400 body.detail", ABSENT),
            At("*/mcp tools/call: headers.*", ABSENT),
            At("*/a2a message/send: headers.*", ABSENT),
        ),
    ),
    # Protocol v2
    Deliberate(
        "graphs run as ever",
        (
            At("protocol.runs / * of chat*: *.messages[1].content"),
            At("protocol.runs / * of chat*: *.messages[1].response_metadata", present, ABSENT),
        ),
    ),
    Deliberate("a replay includes `error`", (At("protocol.runs / * of fail again: *.error", ABSENT),)),
    Deliberate("`input.requested` has `value`", (At("protocol.interrupts / * events: *.value", ABSENT),)),
    Deliberate(
        "`updates`, `custom`, `tasks`, `checkpoints` and `tools` are delivered",
        (At("protocol.refusals / * POST */stream/events: 400 body.detail"),),
    ),
)


def told(*names: str, official: Any = ANYTHING, ours: Any = ANYTHING) -> tuple[At, ...]:
    """These keys of what handlers were told."""
    return tuple(At(f"users.* told of *: *{name}", official, ours) for name in names)


def is_uuid(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"UUID"}


USERS: tuple[Deliberate, ...] = (
    # The same as without users, at other places
    Deliberate(
        'an internal error is `{"detail": …}`',
        (
            At("users.* / *: 500 headers.content-type", "text/plain; charset=utf-8", "application/json"),
            At("users.* / *: 500 body", "Internal Server Error", AUTH_BROKEN),
        ),
    ),
    Deliberate(
        "`/health` and `/ready`; `/metrics` has", (At("users.authenticate / * GET /metrics: ", 200, 401),)
    ),
    Deliberate(
        "[`http`](http.md): `/ready` and `/health`",
        (At("users.authenticate / * GET /mcp/: status", ANYTHING, 307),),
    ),
    Deliberate(
        "a run that starts at once is answered as",
        (At("users.*: body*.status", "pending", "running"),),
    ),
    Deliberate(
        "a run's `kwargs` are what",
        (
            *told("kwargs.on_disconnect", official=ABSENT),
            *told("kwargs.context.thread_id", ours=ABSENT),
            *told("kwargs.stream_mode[*]"),
            *told("kwargs.input.messages[*].*", "value.metadata.a2a"),
            At("users.protocol / *.kwargs.context.thread_id", ours=ABSENT),
            At("users.protocol / *.kwargs.stream_mode[*]"),
        ),
    ),
    Deliberate("wrong queries are 422 throughout", (At("users.threads / * POST */state: 400 body.detail"),)),
    Deliberate("a thread's `config` is the", (At("users.*: body.config.tags", present, ABSENT),)),
    Deliberate("copies show their true status", (At("users.*: body.values", ABSENT),)),
    Deliberate(
        "`POST /runs/batch` starts all runs or none",
        (At("users.* / * POST /runs/batch: 4* body.detail", ANYTHING, lambda text: text.startswith("0: ")),),
    ),
    Deliberate("`/wait` and `/join` are made of the", (At("users.runs.cancel / *cancel: body.*", ABSENT),)),
    Deliberate(
        "deleting an assistant does not stop its runs",
        (At("users.assistants / * told of delete: threads update", ours=ABSENT),),
    ),
    Deliberate(
        "a state's `metadata` has the texts", (At("users.* GET */state: body.metadata.members", ours=ABSENT),)
    ),
    # Their own
    Deliberate(
        "a user always has `permissions`",
        (
            At("users.kinds.* / *.fields.permissions", ABSENT),
            At("users.kinds.pair / *.permissions[*]", ABSENT),
        ),
    ),
    Deliberate(
        "what no `on` handler may return",
        (
            At("users.refusals.nonsense / *: 500 body.detail", present, AUTH_BROKEN["detail"]),
            At("users.refusals.alone / *: status", lambda status: status < 300, 500),
            At("users.refusals.deep / *: status", lambda status: status < 300, 500),
            At("users.refusals.alone / *: 500 body.detail", present, AUTH_BROKEN["detail"]),
            At("users.refusals.deep / *: 500 body.detail", present, AUTH_BROKEN["detail"]),
        ),
    ),
    Deliberate(
        "an `assert` that fails without a message",
        (At("users.refusals.asserted / *: 403 body.detail", "unknown error", "Forbidden"),),
    ),
    Deliberate(
        "who may start a run but not read its thread",
        (
            At("users.runs.* / * POST */wait: status", 200, lambda status: status in (403, 404)),
            At("users.runs.* / * POST */stream: status", 200, lambda status: status in (403, 404)),
        ),
    ),
    Deliberate(
        "a run on an assistant that its caller does not see",
        (
            At("users.assistants / * reader POST /runs/wait: status", 403, 404),
            At("users.assistants / * told of run: threads create_run", ours=ABSENT),
            At("users.assistants / * told of run: assistants read", ABSENT),
        ),
    ),
    Deliberate(
        "`create_run` is asked when a cron is made", (At("users.crons / *: threads create_run", ABSENT),)
    ),
    Deliberate(
        "`on` handlers get all ids as `UUID`s",
        (
            At("users.* told of *", lambda value: isinstance(value, str), is_uuid),
            *told("threads search[*].value.ids", official=ABSENT),
            *told("crons update[*].value.metadata", official=ABSENT),
            *told("assistants search[*].value.limit", official=100, ours=1000),
        ),
    ),
    Deliberate("1 in metadata is not `true`", (At("users.filters / * nested *"),)),
    Deliberate("the filter of a search of the store", (At("users.store / * finds *", ABSENT),)),
    Deliberate(
        "MCP and A2A: what a handler refuses",
        (
            At("users.agents.* tools*: [0]", 500, 200),
            At("users.agents.* message/*: [0]", 200, lambda status: status in (403, 404)),
            At("users.agents.* tasks/get: [0]", 200, lambda status: status in (403, 404)),
            At("users.agents.* sees a card: ", 400, lambda status: status in (403, 404)),
            *told("threads read", "threads search", "assistants read", ours=ABSENT),
        ),
    ),
)
"""Beside the others, those with users of a project's own `auth`."""

MEANT = {"project": DELIBERATE, "guarded": (*DELIBERATE, *USERS)}
"""By the project that both servers serve."""
