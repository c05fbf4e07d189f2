"""What a project may offer as a graph, and how to get a compiled graph out of it.

Importing this module imports langgraph: seconds on a cold start.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, is_dataclass
from typing import Any, get_args, get_origin

from langchain_core.runnables import RunnableConfig
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore

# The public `ServerRuntime` is the union of these two; the server is who constructs them.
from langgraph_sdk.runtime import AccessContext, ServerRuntime, _ExecutionRuntime, _ReadRuntime
from pydantic import BaseModel

from slackwater.errors import NotAGraph
from slackwater.graphs.context import fitted, ids_of


@dataclass(frozen=True, slots=True)
class Factory:
    """A callable, or a context manager that can be entered again and again. It runs on every access."""

    graph_id: str
    target: Any
    signature: inspect.Signature | None
    """None: `target` is a context manager, which is not called."""
    runtime: str | None
    """The parameter that takes a `ServerRuntime`."""
    context_type: type[Any] | None
    """`Ctx` of a parameter that is annotated `ServerRuntime[Ctx]`."""
    config: str | None
    """The parameter that takes a `RunnableConfig`."""

    @classmethod
    def detect(cls, graph_id: str, value: Any) -> Factory:
        """Look at `value`, once. Raises ValueError, whose text says what is wrong with it."""
        if not isinstance(value, type) and _is_context_manager(value):
            # What a call of an @asynccontextmanager function returns can be entered a single time.
            generator = getattr(value, "gen", None)
            if inspect.isasyncgen(generator) or inspect.isgenerator(generator):
                raise ValueError(
                    "it is a context manager that can be entered only once: name the function instead of its result"
                )
            return cls(graph_id, value, None, None, None, None)
        if not callable(value):
            raise ValueError(f"it is {_kind(value)}, not a graph or a function that returns one")
        signature = _signature(value)
        asked = [p for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        if len(asked) > 1:
            asked = [p for p in asked if p.default is p.empty or _is_runtime(p.annotation)]
        runtimes = [p for p in asked if _is_runtime(p.annotation)]
        configs = [p for p in asked if not _is_runtime(p.annotation)]
        if len(runtimes) > 1 or len(configs) > 1:
            raise ValueError(
                f"its factory takes ({', '.join(p.name for p in asked)}); it may take at most one RunnableConfig and "
                "one parameter annotated with ServerRuntime"
            )
        return cls(
            graph_id,
            value,
            signature,
            runtimes[0].name if runtimes else None,
            _context_type(runtimes[0].annotation) if runtimes else None,
            configs[0].name if configs else None,
        )

    @asynccontextmanager
    async def build(
        self, access: AccessContext, config: RunnableConfig, store: BaseStore | None, context: Any
    ) -> AsyncIterator[Pregel[Any, Any, Any, Any]]:
        """The graph for one access; what its context manager holds is released afterwards.

        Raises NotAGraph, or whatever the project's own code raises.
        """
        async with AsyncExitStack() as stack:
            value = self.target
            if self.signature is not None:
                runtime = self._server_runtime(access, config, store, context)
                arguments = self._arguments(self.signature, config, runtime)
                value = value(*arguments.args, **arguments.kwargs)
            if inspect.isawaitable(value):
                value = await value
            if hasattr(value, "__aenter__"):
                value = await stack.enter_async_context(value)
            elif hasattr(value, "__enter__"):
                value = stack.enter_context(value)
            if isinstance(value, StateGraph):
                value = value.compile()
            if not isinstance(value, Pregel):
                raise NotAGraph(
                    f"The factory of graph {self.graph_id!r} returned {_kind(value)}, not a graph."
                )
            yield value

    def _arguments(
        self, signature: inspect.Signature, config: RunnableConfig, runtime: ServerRuntime[Any]
    ) -> inspect.BoundArguments:
        values = {self.config: config, self.runtime: runtime}
        in_order = [(name, values[name]) for name in signature.parameters if name in values]
        return inspect.BoundArguments(signature, OrderedDict(in_order))

    def _server_runtime(
        self, access: AccessContext, config: RunnableConfig, store: BaseStore | None, context: Any
    ) -> ServerRuntime[Any]:
        # Its type says that there is a store; for introspection there is none.
        some_store: Any = store
        user = config.get("configurable", {}).get("langgraph_auth_user")
        if access != "threads.create_run":
            return _ReadRuntime(access_context=access, store=some_store, user=user)
        context = fitted(self.context_type, context, ids_of(config))
        return _ExecutionRuntime(access_context=access, store=some_store, context=context, user=user)


def _signature(value: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(value, eval_str=True)
    except NameError:
        # An annotation that only a type checker can resolve; its text is enough to recognise it.
        return inspect.signature(value)


def _is_runtime(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return "ServerRuntime" in annotation
    if annotation is ServerRuntime or get_origin(annotation) is ServerRuntime:
        return True
    return any(_is_runtime(argument) for argument in get_args(annotation))


def _context_type(annotation: Any) -> type[Any] | None:
    """The dataclass or model that a run's context becomes, so that a factory can use its attributes."""
    if get_origin(annotation) is not ServerRuntime:
        return None
    (argument,) = get_args(annotation)
    is_model = isinstance(argument, type) and (issubclass(argument, BaseModel) or is_dataclass(argument))
    return argument if is_model else None


def _is_context_manager(value: object) -> bool:
    return hasattr(value, "__aenter__") or hasattr(value, "__enter__")


def _kind(value: object) -> str:
    if value is None:
        return "None"
    name = type(value).__name__
    return f"an {name}" if name[0] in "AEIOUaeiou" else f"a {name}"
