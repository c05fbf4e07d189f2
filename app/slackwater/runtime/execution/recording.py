"""What the models and tools of a run say and cost, as its callbacks hear it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import LLMResult
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.types import Command

from slackwater.kit import json_format
from slackwater.kit.tokens import Tokens, label, model_of
from slackwater.kit.without_data import without_data
from slackwater.runtime.fenced.records import Records, SaidMessage, Tasks, Usage, tasks_of

log = logging.getLogger(__name__)

TRACE_BYTES = 10_240
"""What is kept of content that is told for tracing only."""

MESSAGE_BYTES = 16 * 1024 * 1024
"""A longer message is kept in the state alone."""

LEAD = "lead_agent"
_CALLERS = ("subagent:", "middleware:")


class SaidBefore(NamedTuple):
    """What earlier attempts of the run have stored."""

    human: bool = False
    calls: frozenset[tuple[str, int]] = frozenset()
    """Calls of models, as task and place within the task."""


class _ModelCall(NamedTuple):
    """A call of a model that has not ended."""

    namespace: str
    caller: str
    model: str
    number: int
    place: int
    repeated: bool
    began: float

    @property
    def tasks(self) -> Tasks:
        return tasks_of(self.namespace)


class _Task(NamedTuple):
    namespace: str
    step: int

    @property
    def id(self) -> str:
        return tasks_of(self.namespace)[-1]


class _Tool(NamedTuple):
    tasks: Tasks
    caller: str


class MessageRecorder(BaseCallbackHandler):
    """Turns callbacks into rows. It does no more than that: sync, and in whichever thread calls."""

    run_inline = True

    def __init__(self, records: Records, *, begins: bool, expects_human: bool, said: SaidBefore) -> None:
        """`begins`: this is the run's first attempt. `expects_human`: somebody has said something to start the run."""
        self._records = records
        self._begins = begins
        self._human = said.human or not expects_human
        self._booked = set(said.calls)
        self._index = len(said.calls)
        self._places = Counter[str]()
        self._root: UUID | None = None
        self._namespaces: dict[UUID, str] = {}
        """Of chains that are open."""
        self._tasks: dict[UUID, _Task] = {}
        """Those of them that are tasks of the graph."""
        self._begun: set[str] = set()
        self._calls: dict[UUID, _ModelCall] = {}
        self._tools: dict[UUID, _Tool] = {}
        self._failed_tools: dict[str, _Tool] = {}
        self._messages: set[str | None] = set()
        """Ids of those that were recorded."""

    # Tasks

    def on_chain_start(
        self,
        serialized: Any,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """The graph, a task, or something within a task begins."""
        if self._root is None:
            self._root = run_id
            self._namespaces[run_id] = ""
            if self._begins:
                self._records.say((), _STARTS)
            return
        namespace = self._namespaces[run_id] = _namespace(metadata)
        above = self._namespaces.get(parent_run_id) if parent_run_id is not None else None
        if above is None or above == namespace:
            return  # within a task: below a tool, a retriever, or another of its chains
        task = self._tasks[run_id] = _Task(namespace, int((metadata or {}).get("langgraph_step") or 0))
        if namespace in self._begun:
            self._unsay(task)  # it is tried again
            self._places[namespace] = 0
        self._begun.add(namespace)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """The graph, a task, or something within a task has ended."""
        self._namespaces.pop(run_id, None)
        if run_id == self._root:
            self._records.say_last(_ENDS)
        elif (task := self._tasks.pop(run_id, None)) is not None:
            if self._failed_tools:
                self._tell_failed(outputs)
            self._records.finish(task.id, task.step)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """The graph, a task, or something within a task has failed, was cancelled, or waits for an answer."""
        self._namespaces.pop(run_id, None)
        task = self._tasks.pop(run_id, None)
        if task is not None and isinstance(error, GraphInterrupt):
            self._unsay(task)
        if run_id == self._root and isinstance(error, Exception) and not isinstance(error, GraphBubbleUp):
            self._records.say_last(_trace("run.error", "error", json_format.error_object(error)))

    # Models

    def on_chat_model_start(
        self,
        serialized: Any,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A model is asked."""
        call = self._begin(run_id, tags, metadata, kwargs)
        if self._human or call.caller != LEAD:
            return  # what else a model is asked, nobody has said
        for message in (message for batch in messages for message in reversed(batch)):
            if (
                isinstance(message, HumanMessage)
                and message.name != "summary"
                and not message.additional_kwargs.get("hide_from_ui")
            ):
                self._human = True
                # It was there before the task began, and stays if that is tried again.
                self._say((), "llm.human.input", message, {"caller": call.caller})
                return

    def on_llm_start(
        self,
        serialized: Any,
        prompts: list[str],
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A model that is no chat model is asked."""
        self._begin(run_id, tags, metadata, kwargs)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """A model has answered."""
        if (call := self._calls.pop(run_id, None)) is None:
            return  # told twice
        message = _answer(response)
        usage = _usage(message, response)
        self._book(run_id, call, message, usage)
        if message is None:
            return
        if message.id is None:
            message.id = f"lc_run--{run_id}"  # as LangChain does
        facts: dict[str, Any] = {
            "caller": call.caller,
            "usage": usage,
            "latency_ms": round((time.monotonic() - call.began) * 1000),
            "llm_call_index": call.number,
        }
        self._say(call.tasks, "llm.ai.response", message, facts)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A model has failed, or its call was cancelled: what it has told of its tokens is spent."""
        if (call := self._calls.pop(run_id, None)) is None:
            return
        response = kwargs.get("response")
        if isinstance(response, LLMResult):
            message = _answer(response)
            self._book(run_id, call, message, _usage(message, response))
        if isinstance(error, Exception):
            facts = {"caller": call.caller, "llm_call_index": call.number}
            self._records.say(
                call.tasks, _trace("llm.error", "trace", json_format.error_object(error), facts)
            )

    def _begin(
        self,
        run_id: UUID,
        tags: Sequence[str] | None,
        metadata: Mapping[str, Any] | None,
        said: Mapping[str, Any],
    ) -> _ModelCall:
        namespace = _namespace(metadata)
        place = self._places[namespace]
        self._places[namespace] += 1
        call = _ModelCall(
            namespace,
            _caller(tags),
            _requested(metadata, said),
            self._index,
            place,
            bool(namespace) and (namespace, place) in self._booked,
            time.monotonic(),
        )
        self._index += 1
        self._calls[run_id] = call
        return call

    def _book(
        self, call_id: UUID, call: _ModelCall, message: AIMessage | None, usage: Mapping[str, Any] | None
    ) -> None:
        if not usage:
            return
        self._booked.add((call.namespace, call.place))
        try:
            answered = (message.response_metadata or {}) if message is not None else {}
            model = model_of(answered, call.model)
            tokens = Tokens.of(usage)
        except Exception as error:  # whatever a provider's package says of its tokens: its message is kept
            log.warning(
                "the tokens of a model's call are not counted",
                extra={"event": "usage.lost", "model": call.model, "error": type(error).__name__},
            )
            return
        self._records.book(
            Usage(call_id, model, call.caller, tokens, call.repeated, call.namespace, call.place)
        )

    # Tools

    def on_tool_start(
        self,
        serialized: Any,
        input_str: str,
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A tool is called."""
        self._tools[run_id] = _Tool(tasks_of(_namespace(metadata)), _caller(tags))

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """A tool has answered: with a message, or with an update of the state that has some."""
        if (tool := self._tools.pop(run_id, None)) is None:
            return
        for message in _tool_messages(output):
            self._result(tool, message)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A tool has failed. Whoever called it may make a message of that, which no callback is told of."""
        tool, call_id = self._tools.pop(run_id, None), kwargs.get("tool_call_id")
        if tool is not None and isinstance(call_id, str) and isinstance(error, Exception):
            self._failed_tools[call_id] = tool

    def _tell_failed(self, outputs: Any) -> None:
        for message in _tool_messages(outputs):
            if (tool := self._failed_tools.pop(message.tool_call_id, None)) is not None:
                self._result(tool, message)

    def _result(self, tool: _Tool, message: ToolMessage) -> None:
        if message.id is None:
            message.id = str(uuid4())  # as the state's reducer would
        self._say(tool.tasks, "llm.tool.result", message, {"caller": tool.caller})

    # Rows

    def _unsay(self, task: _Task) -> None:
        for message in self._records.unsay(task.id):
            self._messages.discard(message.id)

    def _say(self, tasks: Tasks, event_type: str, message: BaseMessage, facts: Mapping[str, Any]) -> None:
        if message.id is not None:
            if message.id in self._messages and event_type != "llm.ai.response":
                return
            self._messages.add(message.id)
        content = json_format.dumps(without_data(message.model_dump(warnings=False)))
        if len(content) > MESSAGE_BYTES:
            content = json_format.dumps(
                {"type": message.type, "id": message.id, "content": "[too long]", "left_out": len(content)}
            )
        self._records.say(
            tasks, SaidMessage(event_type, "message", content, json_format.dumps(facts), message.id)
        )


def _trace(
    event_type: str, category: str, content: Mapping[str, Any], facts: Mapping[str, Any] | None = None
) -> SaidMessage:
    text, metadata = json_format.dumps(content), dict(facts or {"caller": LEAD})
    if len(text) > TRACE_BYTES:
        metadata |= {"content_truncated": True, "original_length": len(text)}
        text = json_format.dumps(text[:TRACE_BYTES].decode(errors="ignore"))
    return SaidMessage(event_type, category, text, json_format.dumps(metadata))


# The same in every run.
_STARTS = _trace("run.start", "trace", {})
_ENDS = _trace("run.end", "outputs", {})


def _namespace(metadata: Mapping[str, Any] | None) -> str:
    return str((metadata or {}).get("langgraph_checkpoint_ns") or "")


def _caller(tags: Sequence[str] | None) -> str:
    for tag in tags or ():
        if tag == LEAD or tag.startswith(_CALLERS):
            return label(tag)
    return LEAD


def _requested(metadata: Mapping[str, Any] | None, said: Mapping[str, Any]) -> str:
    params = said.get("invocation_params") or {}
    return label((metadata or {}).get("ls_model_name") or params.get("model") or params.get("model_name"))


def _answer(response: LLMResult) -> AIMessage | None:
    for generations in response.generations:
        for generation in generations:
            message = getattr(generation, "message", None)
            if isinstance(message, AIMessage):
                return message
    return None


def _usage(message: AIMessage | None, response: LLMResult) -> Mapping[str, Any] | None:
    if message is not None and message.usage_metadata:
        return message.usage_metadata
    told = (response.llm_output or {}).get("token_usage")
    if not isinstance(told, Mapping):
        return None
    return {
        "input_tokens": told.get("prompt_tokens"),
        "output_tokens": told.get("completion_tokens"),
        "total_tokens": told.get("total_tokens"),
    }


def _tool_messages(output: Any, depth: int = 4) -> Iterator[ToolMessage]:
    if isinstance(output, ToolMessage):
        yield output
    elif depth == 0:
        return
    elif isinstance(output, Command):
        yield from _tool_messages(output.update, depth - 1)
    elif isinstance(output, dict):
        for value in output.values():
            yield from _tool_messages(value, depth - 1)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tool_messages(value, depth - 1)
