"""The memory of a run's owner, for the nodes and tools of a graph.

    from slackwater.memory import aprompt, aupdate

    async def agent(state: State) -> State:
        told = await aprompt()                       # what is known of the user, for the system prompt; may be empty
        answer = await model.ainvoke([("system", f"You help. {told}"), *state["messages"]])
        await aupdate([*state["messages"], answer])  # in a while a model finds out what is to be remembered of it
        return {"messages": [answer]}

Each function is there twice: `update` for a `def`, and `aupdate` for an `async def`, in which the first would hold up the event loop and
raises InvalidStateError. All of them raise NoMemory outside of a run, and RunOver when the run has ended or goes on in another process.

It is the same document as that of `/api/memory`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slackwater.errors import NoMemory
from slackwater.runtime.execution.node_memory import RunMemory, current_memory


async def amemory() -> dict[str, Any]:
    """All that is remembered: `user`, `history` and `facts`, as `/api/memory` shows it."""
    run = _of_this_run()
    return await run.loop.run(run.read)


def memory() -> dict[str, Any]:
    """As `amemory`, for a `def`."""
    run = _of_this_run()
    return run.loop.call(run.read)


async def aprompt() -> str:
    """What a prompt should say of it, of `gateway.memory.max_injection_tokens` at most; empty if nothing is known, or if
    `enabled` or `injection_enabled` is false."""
    run = _of_this_run()
    return await run.loop.run(run.prompt)


def prompt() -> str:
    """As `aprompt`, for a `def`."""
    run = _of_this_run()
    return run.loop.call(run.prompt)


async def aremember(content: str, *, category: str = "context", confidence: float = 1.0) -> None:
    """Remember one thing at once, unless it is known. Nothing happens if `gateway.memory.enabled` is false.

    Raises ValueError for an empty content, or a confidence that is not 0 to 1, MemoryContended and MemoryTooLarge.
    """
    run = _of_this_run()
    await run.loop.run(lambda: run.remember(content, category, confidence))


def remember(content: str, *, category: str = "context", confidence: float = 1.0) -> None:
    """As `aremember`, for a `def`."""
    run = _of_this_run()
    run.loop.call(lambda: run.remember(content, category, confidence))


async def aupdate(messages: Sequence[Any]) -> None:
    """Let a model find out what is to be remembered of a conversation: when for `gateway.memory.debounce_seconds` nobody has called
    this for the thread again, with the messages of the last call. It is stored now, and done by whichever process is there then.

    `messages` are LangChain's, or objects with `role` and `content`. What users and answers say counts, what tools say does not.
    Nothing happens without a model (`gateway.models`), or if `gateway.memory.enabled` is false.
    """
    run = _of_this_run()
    await run.loop.run(lambda: run.update(messages))


def update(messages: Sequence[Any]) -> None:
    """As `aupdate`, for a `def`."""
    run = _of_this_run()
    run.loop.call(lambda: run.update(messages))


def _of_this_run() -> RunMemory:
    found = current_memory.get()
    if found is None:
        raise NoMemory
    return found
