"""The state of a thread, read from its checkpoints through its graph, and written as if a node had done it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast
from uuid import UUID

from slackwater.api.assistants.service import system_id
from slackwater.api.threads import queries
from slackwater.api.threads.models import (
    Checkpoint,
    HistorySearch,
    StateUpdate,
    StepUpdate,
    Superstep,
    ThreadCreate,
)
from slackwater.api.threads.service import not_found
from slackwater.errors import BadRequest, Draining, Invalid, LeaseLost, WriteForgotten
from slackwater.graphs import snapshot
from slackwater.graphs.config import config_of, of_a_thread
from slackwater.identity.custom import access
from slackwater.identity.principal import Principal
from slackwater.kit import json_format
from slackwater.runtime.execution import engine
from slackwater.runtime.fenced.writer import Forgotten
from slackwater.runtime.process.hold import ThreadHeld
from slackwater.web.pieces import Pieces

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from slackwater.graphs.registry import Graph
    from slackwater.postgres.pool import Row
    from slackwater.services import Services

HEAD = Checkpoint()


@dataclass(frozen=True, slots=True)
class _Thread:
    """A thread as far as its graph is concerned."""

    thread_id: UUID
    owner: str
    graph_id: str | None
    """None until a run, or its creator, has said which graph it belongs to."""
    assistant_id: str | None
    configurable: Mapping[str, Any]
    """What the runs of this thread were configured with: a factory may need it to build the same graph again."""
    headers: Mapping[str, str]
    """Of the request that reads or writes it now."""
    user: Mapping[str, Any] | None
    """Who reads or writes it now, in a project with an `auth` of its own."""

    def config(self, at: Checkpoint = HEAD) -> RunnableConfig:
        """The config of this thread's graph, pointing at a checkpoint of this thread whatever `at` says."""
        return config_of(
            owner=self.owner,
            graph_id=self.graph_id,
            assistant_id=self.assistant_id,
            thread_id=self.thread_id,
            stored={"configurable": self.configurable},
            headers=self.headers,
            user=self.user,
            checkpoint={**at.model_dump(exclude_none=True), "checkpoint_ns": at.checkpoint_ns or ""},
        )


async def read(
    services: Services,
    principal: Principal,
    thread_id: UUID,
    at: Checkpoint = HEAD,
    *,
    subgraphs: bool = False,
) -> Mapping[str, Any]:
    """The `ThreadState` at a checkpoint; the empty one if nothing has run. Raises NotFound."""
    principal = await access.to_thread(services, principal, "read", thread_id)
    thread = await _find(services, principal, thread_id)
    if thread.graph_id is None:
        return snapshot.EMPTY
    async with _open_to_read(services, thread) as graph:
        return snapshot.thread_state(await graph.aget_state(thread.config(at), subgraphs=subgraphs))


Show = Callable[[int, Mapping[str, Any]], Mapping[str, Any]]
"""What is shown of a `ThreadState`, by its place in the answer."""


async def history(
    services: Services, principal: Principal, thread_id: UUID, query: HistorySearch, show: Show | None = None
) -> Sequence[Any]:
    """What was selected of `ThreadState`s, or what `show` makes of them, newest first, as JSON.

    Raises NotFound and PageTooLarge.
    """
    principal = await access.to_thread(services, principal, "read", thread_id)
    thread = await _find(services, principal, thread_id)
    if thread.graph_id is None:
        return []
    pieces, before = Pieces(query.limit), query.before_id
    async with _open_to_read(services, thread) as graph:
        while asked := pieces.wanted:
            states = [
                found
                async for found in graph.aget_state_history(
                    thread.config(query.checkpoint or HEAD),
                    filter=query.metadata,
                    before=cast("RunnableConfig", {"configurable": {"checkpoint_id": before}})
                    if before
                    else None,
                    limit=asked,
                )
            ]
            for found in states:
                whole = snapshot.thread_state(found)
                if show is not None:
                    pieces.add(show(len(pieces.found), whole), whole)
                else:
                    pieces.add(snapshot.select_from(whole, query.select), whole if query.select else None)
            if len(states) < asked:
                break
            before = states[-1].config["configurable"]["checkpoint_id"]
    return pieces.found


async def update(
    services: Services,
    principal: Principal,
    thread_id: UUID,
    body: StateUpdate,
    *,
    any_node: bool = False,
    graph_id: str | None = None,
) -> dict[str, Any]:
    """Write a checkpoint; the config that names it. Raises NotFound, BadRequest and ThreadHeld.

    `any_node`: where several nodes ran last, and none is named, one of them is chosen. `graph_id` is that of a thread without runs.
    """
    principal = await access.to_each(services, principal, {"update": {}, "read": {}}, thread_id)
    thread = await _find(services, principal, thread_id)
    if thread.graph_id is None and graph_id is not None:
        thread = replace(thread, graph_id=graph_id)
        known = {"graph_id": graph_id, "assistant_id": str(system_id(graph_id))}
        await queries.patch(services.database, principal.owner, thread_id, known, None)
    if thread.graph_id is None:
        raise BadRequest(
            f"Thread '{thread_id}' has no assigned graph ID. This usually occurs when no runs have been made on this "
            "particular thread. Start a run on it, or create it with a graph_id in its metadata."
        )
    services.graphs.require(thread.graph_id)
    at = body.checkpoint or HEAD
    if body.checkpoint_id:
        at = at.model_copy(update={"checkpoint_id": body.checkpoint_id})
    hold = services.runtime.hold(
        thread_id,
        owner=principal.owner,
        graph_id=thread.graph_id,
        assistant_id=UUID(thread.assistant_id) if thread.assistant_id else system_id(thread.graph_id),
    )
    try:
        async with hold as held, _open(services, thread, held.saver, "threads.update") as graph:
            written = await _apply(graph, thread.config(at), body, any_node)
            state = snapshot.thread_state(await graph.aget_state(thread.config()))
            event = json_format.dumps({"state": state, "thread_id": str(thread_id)})
            held.writer.publish("state_update", event)  # for the readers of the thread's stream
            await held.writer.flush()
    except LeaseLost:
        # Somebody has deleted the thread, or this process stalled for longer than its lease.
        await _find(services, principal, thread_id)
        raise ThreadHeld from None
    except Forgotten:
        raise WriteForgotten from None
    await services.runtime.refresh_thread(thread_id, clear_error=True)
    checkpoint = snapshot.checkpoint_of(written)
    return {
        "checkpoint": checkpoint,
        "configurable": checkpoint,
        "checkpoint_id": checkpoint["checkpoint_id"],
    }


async def draft(
    services: Services, principal: Principal, thread_id: UUID, body: ThreadCreate, ttl: queries.Lifetime
) -> Row | None:
    """Make a thread whose state the supersteps have written; None if its id is taken. All of it, or nothing.

    Raises Invalid without a graph, NotFound for one that is not served here, and BadRequest.
    """
    graph_id, assistant_id = body.metadata.get("graph_id"), body.metadata.get("assistant_id")
    if not isinstance(graph_id, str):
        raise Invalid("supersteps: set graph_id in the thread's metadata to the graph that they are for")
    services.graphs.require(graph_id)
    assistant_id = assistant_id if isinstance(assistant_id, str) else None
    thread = _Thread(
        thread_id, principal.owner, graph_id, assistant_id, {}, principal.headers, principal.user
    )
    await engine.load()
    saver = engine.NewThreadSaver(services.database, thread_id)
    async with _open(services, thread, saver, "threads.update") as graph:
        await _apply_all(graph, thread.config(), body.supersteps or ())
        status, values, interrupts = snapshot.thread_facts(await graph.aget_state(thread.config()))
    return await queries.insert_draft(
        saver,
        principal.owner,
        thread_id,
        body.metadata,
        ttl,
        status=status,
        values=json_format.dumps(values) if values is not None else None,
        interrupts=interrupts,
    )


async def _apply_all(graph: Graph, config: RunnableConfig, supersteps: Sequence[Superstep]) -> None:
    """Raises BadRequest for what the graph cannot take."""
    from langgraph.types import StateUpdate

    def written(update: StepUpdate) -> Any:
        if update.command is None:
            return update.values
        return engine.command_of(update.command.model_dump(exclude_unset=True))

    steps = [[StateUpdate(written(update), update.as_node) for update in step.updates] for step in supersteps]
    with _refused():
        await graph.abulk_update_state(config, steps)


async def _apply(graph: Graph, config: RunnableConfig, body: StateUpdate, any_node: bool) -> RunnableConfig:
    """Raises BadRequest for what the graph cannot take; its own reducers and edges see the values too."""
    with _refused():
        node = body.as_node
        if node is None and any_node:
            node = await _one_that_ran_last(graph, config)
        return await graph.aupdate_state(config, body.values, as_node=node)


async def _one_that_ran_last(graph: Graph, config: RunnableConfig) -> str | None:
    """A node that ran in the last superstep, if there were several: LangGraph would choose none. What comes after them has been
    triggered by all of them, so that nothing more comes after this one.
    """
    saver = cast("BaseCheckpointSaver[Any]", graph.checkpointer)
    found = await saver.aget_tuple(config)
    if found is None:
        return None
    ran = sorted(
        (version, name)
        for name, seen in found.checkpoint["versions_seen"].items()
        if name in graph.nodes
        for version in seen.values()
    )
    several = len(ran) > 1 and ran[-1][0] == ran[-2][0]
    return ran[-1][1] if several else None


@contextmanager
def _refused() -> Iterator[None]:
    """What a graph makes of values that it cannot take is the caller's error: raises BadRequest."""
    from langgraph.errors import EmptyInputError, InvalidUpdateError

    try:
        yield
    except (InvalidUpdateError, EmptyInputError, ValueError) as error:
        raise BadRequest(str(error)) from error
    except (TypeError, LookupError, AttributeError) as error:
        raise BadRequest(f"{type(error).__name__}: {error}") from error


async def _find(services: Services, principal: Principal, thread_id: UUID) -> _Thread:
    """Raises NotFound."""
    row = await queries.find_graph(services.database, principal.owner, thread_id)
    if row is None:
        raise not_found(thread_id)
    graph_id = row["metadata"].get("graph_id")
    assistant_id = row["metadata"].get("assistant_id")
    return _Thread(
        thread_id,
        principal.owner,
        graph_id if isinstance(graph_id, str) else None,
        assistant_id if isinstance(assistant_id, str) else None,
        of_a_thread(row["config"].get("configurable")),
        principal.headers,
        principal.user,
    )


@asynccontextmanager
async def _open_to_read(services: Services, thread: _Thread) -> AsyncIterator[Graph]:
    await engine.load()
    async with _open(services, thread, engine.PooledSaver(services.database), "threads.read") as graph:
        yield graph


@asynccontextmanager
async def _open(
    services: Services,
    thread: _Thread,
    saver: BaseCheckpointSaver[Any],
    access: Literal["threads.read", "threads.update"],
) -> AsyncIterator[Graph]:
    """The thread's graph over `saver`. Raises NotFound if this server has no such graph, and Draining."""
    assert thread.graph_id is not None
    try:
        async with services.graphs.open(
            thread.graph_id,
            owner=thread.owner,
            config=thread.config(),
            access=access,
            checkpointer=saver,
            store=services.runtime.store_of(thread.owner),
        ) as graph:
            yield graph
    except asyncio.CancelledError:
        # The gate says "no more" in this way; nobody has cancelled the request.
        task = asyncio.current_task()
        if services.database.gate.is_shut and task is not None and not task.cancelling():
            raise Draining from None
        raise
