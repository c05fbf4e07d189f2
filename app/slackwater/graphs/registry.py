"""The graphs of a project, ready to be opened."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from slackwater.errors import ConfigurationUnusable, GraphBroken, GraphImportError, NotFound
from slackwater.graphs.importer import (
    Imported,
    import_app,
    import_auth,
    import_embedding,
    import_graph,
    import_run_context,
)
from slackwater.graphs.opened import LEAVE_SECONDS, OPEN_SECONDS, OpenedGraph
from slackwater.kit.imports import run_in_import_thread
from slackwater.project.project import Project

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.pregel import Pregel
    from langgraph.store.base import BaseStore
    from langgraph_sdk.runtime import AccessContext

    from slackwater.graphs.run_context import RunContext
    from slackwater.project.gateway import GatewaySpec, LlmModel
    from slackwater.project.serde import SerdeSpec

    Graph = Pregel[Any, Any, Any, Any]

log = logging.getLogger(__name__)


@runtime_checkable
class Learner(Protocol):
    """A serializer that wants to know which types may be in the checkpoints of a graph."""

    def learn(self, graph: Graph, spec: SerdeSpec, folders: Collection[Path]) -> None:
        """What the graph declares, what `langgraph.json` names, and where the project's own modules are."""


_UNNAMED = "LangGraph"
"""The name of every compiled graph that was not given one."""


class Graphs:
    """The graphs of this process, by id."""

    def __init__(self, project: Project) -> None:
        self._root = project.root
        self.webhooks = project.webhooks
        """What `langgraph.json` says of webhooks, as it stands there."""
        self.thread_ttl = project.thread_ttl
        """What `langgraph.json` says of how long threads live."""
        self.store_spec = project.store
        """What `langgraph.json` says of the store."""
        self.http = project.http
        """What `langgraph.json` says of the HTTP surface."""
        self.auth = project.auth
        """What `langgraph.json` says of who may call."""
        self.own_gateway = project.gateway
        """What `langgraph.json` says of the routes below `/api`."""
        self._gateway: GatewaySpec | None = project.gateway
        self.gateway_trouble = False
        """There is a newer configuration than the one in force, and this process cannot use it."""
        self._run_context_spec = project.run_context
        self._run_context: RunContext | None = None
        self._serde = project.serde
        self._folders = project.paths
        self._specs = {spec.id: spec for spec in project.graphs}
        self._imported: dict[str, Imported] = {}
        self._imports: dict[str, asyncio.Task[Imported]] = {}
        self._opened: set[OpenedGraph] = set()
        self.ids = tuple(self._specs)
        """In the order of `langgraph.json`."""
        self.on_import: Callable[[str], Awaitable[None]] | None = None
        """Awaited with the id of a graph that was imported when it was first opened."""

    @classmethod
    def load(cls, project: Path, *, lazy: bool = False) -> Graphs:
        """Read the project at `project` (its folder, or its `langgraph.json`), and import its graphs: takes seconds.

        With `lazy` each graph is imported when it is first opened. Changes `sys.path` and the environment as the
        project asks. Raises SettingsError if its file makes no sense, and GraphImportError, which names the graph, if
        one does not import.
        """
        read = Project.read(project)
        for warning in read.warnings:
            log.warning(warning, extra={"event": "project.ignored"})
        read.activate()
        graphs = cls(read)
        if not lazy:
            for graph_id in graphs.ids:
                graphs._import(graph_id)
        return graphs

    @property
    def gateway(self) -> GatewaySpec:
        """What is in force below `/api`: `langgraph.json`, and what administrators have laid over it. Ask each time, and keep it for
        one request at most. Raises ConfigurationUnusable."""
        if self._gateway is None:
            raise ConfigurationUnusable
        return self._gateway

    @property
    def gateway_of_runs(self) -> GatewaySpec:
        """The same for work that nobody waits for an answer of; that of `langgraph.json`, if there is no other."""
        return self._gateway or self.own_gateway

    def model(self, name: str) -> LlmModel | None:
        """The model that runs may ask for by this name. Raises ConfigurationUnusable, if there might be one elsewhere."""
        model = self.gateway.model(name)
        if model is None and self.gateway_trouble:
            raise ConfigurationUnusable
        return model

    def put_in_force(self, gateway: GatewaySpec) -> None:
        """From now on this is what is in force below `/api`."""
        self._gateway, self.gateway_trouble = gateway, False

    def cannot_put_in_force(self, *, keeps: bool) -> None:
        """There is another, which this process cannot use. `keeps`: what was in force before stays in force."""
        self.gateway_trouble = True
        if not keeps:
            self._gateway = None

    def __contains__(self, graph_id: object) -> bool:
        return graph_id in self._specs

    def require(self, graph_id: str) -> None:
        """Raises NotFound, which lists the graphs that there are."""
        if graph_id not in self._specs:
            raise NotFound(f"Graph '{graph_id}' not found. Expected one of: {sorted(self.ids)}")

    def description(self, graph_id: str) -> str | None:
        """The description in `langgraph.json`."""
        return self._specs[graph_id].description

    def name(self, graph_id: str) -> str | None:
        """The name that the graph was compiled with, or else its id; a factory's graph has its id.

        None as long as the graph has not been imported.
        """
        imported = self._imported.get(graph_id)
        if imported is None:
            return None
        return _name(imported.graph, graph_id) if imported.graph else graph_id

    @asynccontextmanager
    async def open(
        self,
        graph_id: str,
        *,
        owner: str,
        config: RunnableConfig,
        access: AccessContext,
        checkpointer: BaseCheckpointSaver[Any] | None,
        store: BaseStore | None,
        context: Any = None,
        scope: Context | None = None,
    ) -> AsyncIterator[Graph]:
        """The graph with this checkpointer and store in place of its own.

        A factory runs each time; `config`, `access`, `store` and, for `threads.create_run`, `context` are what
        it may ask for. What it holds is released at the end, which a run does not wait for, and nobody for long. An
        exception from the body always comes out. `scope` is the caller's context: what the factory sets there, the
        graph's nodes find. The project's `run_context` is entered there first, and left last: once for each call.
        Raises NotFound for an unknown id, GraphBroken for one that is imported now and cannot be, GraphSilent (but not
        for a run), `NotAGraph`, RunContextFailed, and what the factory raises.
        """
        self.require(graph_id)
        imported = self._imported.get(graph_id) or await self._import_now(graph_id)
        if imported.graph and self._run_context is None:
            yield self._bind(imported.graph, graph_id, checkpointer, store)
        else:
            is_run = access == "threads.create_run"
            building = imported.build(access, config, store, context)
            if self._run_context is not None:
                building = self._run_context.around(building, owner, graph_id, config, access)
            opened = OpenedGraph(graph_id, building, scope)
            self._opened.add(opened)
            opened.task.add_done_callback(lambda _: self._opened.discard(opened))
            try:
                graph = await opened.graph(None if is_run else OPEN_SECONDS)
                yield self._bind(graph, graph_id, checkpointer, store)
            except BaseException as error:
                opened.leave(error)
                raise
            finally:
                opened.leave()
                if opened.made and not is_run:
                    await opened.gone(LEAVE_SECONDS)

    def _bind(
        self,
        graph: Graph,
        graph_id: str,
        checkpointer: BaseCheckpointSaver[Any] | None,
        store: BaseStore | None,
    ) -> Graph:
        # Not `graph.copy(update=…)`: it validates the graph again, and drops the allow-list of types that strict
        # deserialisation needs, together with the output mappers (langgraph 1.2.22).
        bound = copy.copy(graph)
        bound.checkpointer = checkpointer
        bound.store = store
        bound.name = _name(graph, graph_id)
        if checkpointer is not None and isinstance(checkpointer.serde, Learner):
            checkpointer.serde.learn(graph, self._serde, self._folders)
        return bound

    def embedding(self) -> Any:
        """What makes vectors for the store's index, or None if there is none. Raises GraphImportError."""
        index = self.store_spec.index
        return import_embedding(index.embed, self._root) if index else None

    def custom_app(self) -> Any:
        """What `http.app` names, or None if it names nothing. Raises GraphImportError."""
        spec = self.http.app
        return import_app(spec, self._root) if spec else None

    def custom_auth(self) -> Any:
        """What `auth.path` names, or None if it names nothing. Raises GraphImportError."""
        return import_auth(self.auth, self._root) if self.auth else None

    async def warm(self) -> None:
        """Import what has not been imported. What cannot be fails those who need it, and is logged."""
        for graph_id in self.ids:
            if graph_id not in self._imported:
                with suppress(GraphBroken):
                    await self._import_now(graph_id)

    @property
    def held(self) -> bool:
        """Whether a factory still holds something open."""
        return bool(self._opened)

    async def left(self, timeout: float) -> None:
        """Wait, `timeout` seconds at most, until what factories hold open is closed."""
        if self._opened:
            await asyncio.wait({opened.task for opened in self._opened}, timeout=timeout)

    async def close(self, timeout: float) -> None:
        """End imports, and what factories hold open, which nobody waits for any more; within `timeout` seconds."""
        tasks = [*self._imports.values(), *(opened.task for opened in self._opened)]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)

    def _import(self, graph_id: str) -> Imported:
        if self._run_context is None and self._run_context_spec is not None:
            self._run_context = import_run_context(self._run_context_spec, self._root)
        imported = self._imported[graph_id] = import_graph(self._specs[graph_id], self._root)
        return imported

    async def _import_now(self, graph_id: str) -> Imported:
        """The graph, imported once however many want it now. After a failure the next one who wants it tries again."""
        task = self._imports.get(graph_id)
        if task is None:
            task = asyncio.create_task(self._import_in_turn(graph_id), name=f"import:{graph_id}")
            self._imports[graph_id] = task
            task.add_done_callback(lambda _: self._imports.pop(graph_id, None))
        return await asyncio.shield(task)

    async def _import_in_turn(self, graph_id: str) -> Imported:
        try:
            imported = await run_in_import_thread(lambda: self._import(graph_id))
        except GraphImportError as error:
            # Clients get no more than that: what a module raises while it is imported may quote a key.
            log.error(
                error.message,
                exc_info=error.__cause__,
                extra={"event": "graph.import_failed", "graph_id": graph_id},
            )
            raise GraphBroken(f"Graph '{graph_id}' cannot be imported: the server's log says why.") from error
        if self.on_import is not None:
            try:
                await self.on_import(graph_id)
            except Exception:  # the graph itself is fine
                log.exception("after an import", extra={"event": "graph.after_import", "graph_id": graph_id})
        return imported


def _name(graph: Graph, graph_id: str) -> str:
    return graph_id if graph.name == _UNNAMED else graph.name
