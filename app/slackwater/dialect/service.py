"""What requests of the dialect turn into, and what becomes of them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from slackwater.api.assistants import service as assistants
from slackwater.api.runs import service as runs
from slackwater.api.runs.reading import Reading
from slackwater.api.threads import service as threads
from slackwater.api.threads.models import ThreadCreate, ThreadSearch
from slackwater.blobs import queries as files
from slackwater.dialect import messages, queries, view
from slackwater.dialect.models import RECURSION_LIMIT, GatewayRun, GatewayThread, GatewayThreadSearch
from slackwater.errors import BadRequest, Conflict, NotFound
from slackwater.identity.principal import Principal
from slackwater.identity.safe_id import safe_id
from slackwater.kit.ids import parse_canonical, parse_uuid
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.runtime.events.run_reader import StreamCut
from slackwater.runtime.queue.cancel import CancelAction
from slackwater.runtime.queue.states import RunStatus
from slackwater.web.route_table import GATEWAY
from slackwater.workspace.agents import service as agents
from slackwater.workspace.llm_models.allowed import require_model
from slackwater.workspace.usage import service as usage

if TYPE_CHECKING:
    from slackwater.graphs.registry import Graphs
    from slackwater.postgres.pool import Row
    from slackwater.services import Services
    from slackwater.web.streams.bounds import Bounds

LEAD_AGENT = "lead_agent"
"""The graph that runs are for whose assistant is none of ours: DeerFlow's."""

END_SECONDS = 25.0
"""How long a cancel waits for the end of its run: proxies in front give up after 30 seconds without a byte."""

_AGENT = re.compile(r"[a-z0-9-]+")


class NotCancellable(Conflict):
    """The run has ended."""

    def __init__(self, run_id: UUID, status: str) -> None:
        super().__init__(f"Run {run_id} is not cancellable (status: {status})")


# Threads


async def create_thread(services: Services, principal: Principal, body: GatewayThread) -> Row:
    """The thread; the caller's own, if it is there already. Raises NotFound for another's."""
    if body.thread_id is not None:
        parse_canonical(body.thread_id, "thread")
    wanted = ThreadCreate(thread_id=body.thread_id, metadata=body.metadata, if_exists="do_nothing")
    try:
        return await threads.create(services, principal, wanted)
    except Conflict:
        raise NotFound(f"Thread {body.thread_id} not found") from None


async def delete_thread(services: Services, principal: Principal, thread_id: UUID) -> str:
    """Delete a thread; what has been done. Its clients do so twice. Raises NotFound for what never was the caller's."""
    try:
        await threads.delete(services, principal, thread_id)
    except NotFound:
        # Files may be there before their thread is, and stay if it never comes.
        if await files.delete_all(services.database, principal.owner, thread_id):
            return f"Deleted the files of thread {thread_id}"
        if not await queries.was_deleted(services.database, principal.owner, thread_id):
            raise NotFound(f"Thread {thread_id} not found") from None
        return f"Thread {thread_id} was deleted before"
    return f"Deleted thread {thread_id}"


async def search_threads(services: Services, principal: Principal, body: GatewayThreadSearch) -> list[Row]:
    """One page and, where there is more, one row of the next. Of their values only the title is read."""
    wanted = ThreadSearch(
        metadata=body.metadata,
        status="busy" if body.status == "running" else body.status,
        limit=body.limit,
        offset=body.offset,
        sort_by=body.sort_by,
        sort_order=body.sort_order,
        select=[*_COLUMNS],
        extract={"title": "values.title"},
    )
    return await threads.search(services, principal, wanted, for_gateway=True)


_COLUMNS: tuple[Any, ...] = (
    "thread_id",
    "status",
    "created_at",
    "updated_at",
    "metadata",
    "interrupts",
)


# Runs


async def create_run(
    services: Services,
    principal: Principal,
    thread_id: str | None,
    body: GatewayRun,
    key: str | None,
    *,
    told: bool = True,
) -> runs.Created:
    """Admit a run. Everything is checked before anything is written, so that nothing is left of a run that is refused.

    `told`: the caller is answered with what comes of it.
    """
    if thread_id is not None:
        parse_canonical(thread_id, "thread")
    wanted = resolved(services.graphs, principal, body)
    await messages.check(wanted.input)
    wanted = await with_agent(services, principal, wanted)
    return await runs.create(services, principal, thread_id, wanted, key, told=told)


def resolved(graphs: Graphs, principal: Principal, body: GatewayRun) -> GatewayRun:
    """What a request of the dialect means in the words of the API. Raises BadRequest."""
    config = body.config
    configurable = dict(config.configurable or {}) if config.context is None else dict(config.context)
    for name in (body.context.get("model_name"), configurable.get("model_name")):
        require_model(graphs, name)
    context = dict(body.context)
    assistant, agent = assistant_for(graphs, body.assistant_id)
    if agent is not None:
        for where in (context, configurable):
            where.setdefault(
                "agent_name", context.get("agent_name") or configurable.get("agent_name") or agent
            )
    context["user_id"] = safe_id(principal.owner)
    if config.recursion_limit is None and assistants.is_of_system(
        graphs, assistants.id_of(graphs, assistant)
    ):
        config = config.model_copy(update={"recursion_limit": RECURSION_LIMIT})
    return body.resolved(
        assistant,
        config=config.model_copy(update={"configurable": configurable}),
        context=context,
        stream_mode=modes_for(body.stream_modes, context),
    )


async def with_agent(services: Services, principal: Principal, wanted: GatewayRun) -> GatewayRun:
    """The same with `agent` in its context: what the caller has said of the agent whose name it has, if it is one of theirs.

    It is kept with the run, so that each attempt is told the same. A name that nobody has said anything of is the graph's affair: a
    page that makes an agent sends it before there is one, and graphs may have agents of their own. Raises UnknownModel.
    """
    configurable = wanted.config.configurable or {}
    name = wanted.context.get("agent_name") or configurable.get("agent_name")
    agent = await agents.of_run(services, principal.owner, name) if name is not None else None
    if agent is None:
        return wanted
    if not (wanted.context.get("model_name") or configurable.get("model_name")):
        # It may have been taken away since the agent was made: graphs would use another one, and say nothing.
        require_model(services.graphs, agent["model"])
    return wanted.model_copy(update={"context": {**wanted.context, "agent": agent}})


def assistant_for(graphs: Graphs, asked: str) -> tuple[str, str | None]:
    """The graph or assistant that a name means, and the name of the agent that it says, if it is none of ours.

    Raises BadRequest for what cannot be the name of an agent.
    """
    default = default_graph(graphs)
    if default is None or assistants.id_of(graphs, asked) is not None:
        return asked, None
    if not asked:
        return default, None
    name = asked.strip().lower().replace("_", "-")
    if name == LEAD_AGENT.replace("_", "-"):
        return default, None
    if not _AGENT.fullmatch(name):
        raise BadRequest(f"Invalid assistant_id {asked!r}: use letters, digits and hyphens only")
    return default, name


def default_graph(graphs: Graphs) -> str | None:
    """The graph of runs that name none: `lead_agent`, or else the only one."""
    if LEAD_AGENT in graphs:
        return LEAD_AGENT
    ids = list(graphs.ids)
    return ids[0] if len(ids) == 1 else None


def modes_for(asked: Iterable[str], context: Mapping[str, Any]) -> list[str]:
    """The stream modes of a run. DeerFlow's page always asks for `events`, which are most of a stream, and waits for one of them while it
    makes an agent. So they are for such a run, and for who asks for nothing else.
    """
    modes = list(asked)
    others = [mode for mode in modes if mode != "events"]
    return others if others and not context.get("is_bootstrap") else modes


def thread_of_stateless(body: GatewayRun) -> str | None:
    """The thread that a run without one names in its config."""
    named = (body.config.configurable or {}).get("thread_id")
    return None if named is None else str(named)


async def shown(services: Services, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Runs that the caller may see, with what is counted of each."""
    counted = await usage.counters(services.database, [row["run_id"] for row in rows])
    return [view.run(row, counted[row["run_id"]]) for row in rows]


async def reading(
    services: Services,
    principal: Principal,
    thread_id: str,
    run_id: str,
    bounds: Bounds | None,
    cancels: bool = False,
) -> Reading:
    """What a reader of a run reads. Raises NotFound."""
    thread, run = parse_canonical(thread_id, "thread"), parse_uuid(run_id, "run")
    found = await Reading.find(services, principal, thread, run, bounds, cancels, GATEWAY)
    if found is None:
        raise NotFound(f"Run {run} not found")
    return found


async def cancel_run(
    services: Services, principal: Principal, thread_id: UUID, run_id: UUID, action: CancelAction
) -> None:
    """Wish that a run stops. One that was interrupted before is fine.

    Raises NotFound, and NotCancellable for a run that has ended in another way.
    """
    try:
        await runs.cancel(services, principal, str(thread_id), [str(run_id)], action)
    except NotFound:
        row = await runs.get(services, principal, str(thread_id), str(run_id))
        if row["status"] != RunStatus.INTERRUPTED.value:
            raise NotCancellable(run_id, row["status"]) from None


async def ended(services: Services, run_id: UUID, bounds: Bounds | None) -> bool:
    """Wait until a run has ended; whether it has within the time that there is."""
    until = time.monotonic() + END_SECONDS
    if bounds is not None:
        until = min(until, bounds.wait_until)
    try:
        await runs.over(services, run_id, until=until)
    except (StreamCut, *DATABASE_UNAVAILABLE):
        return False
    return True
