"""Chat models, built once by LangChain when they are first asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from slackwater.kit.bounded import bounded
from slackwater.kit.imports import run_in_import_thread
from slackwater.project.gateway import LlmModel

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel, LanguageModelInput
    from langchain_core.messages import AIMessage


ASK_SECONDS = 10.0
"""How long a model has for its answer while a page waits."""
BUILD_SECONDS = 18.0
"""And how long its package may be imported, the first time; both together are less than API Gateway waits."""


class ChatModels:
    """The chat models of this process, by name."""

    def __init__(self) -> None:
        self._building: dict[str, tuple[LlmModel, asyncio.Task[BaseChatModel]]] = {}

    async def get(self, model: LlmModel) -> BaseChatModel:
        """The chat model. Raises whatever its provider's package raises; whoever asks next tries again."""
        known, task = self._building.get(model.name, (None, None))
        # One that was configured anew is built anew; whoever works with the old one goes on with it.
        if task is None or known != model or _has_failed(task):
            # A task of its own: the import goes on when whoever asked first is gone.
            task = asyncio.create_task(self._build(model), name=f"chat-model:{model.name}")
            self._building[model.name] = model, task
            task.add_done_callback(_look_at)
        return await asyncio.shield(task)

    async def ask(self, model: LlmModel, question: LanguageModelInput) -> AIMessage | None:
        """What the model answers while a page waits; None if that takes too long. Raises whatever its provider's package raises."""
        chat = await bounded(self.get(model), BUILD_SECONDS, None)
        return None if chat is None else await bounded(chat.ainvoke(question), ASK_SECONDS, None)

    async def _build(self, model: LlmModel) -> BaseChatModel:
        return await run_in_import_thread(lambda: build(model))

    async def close(self) -> None:
        """Wait for nothing more."""
        for _, task in self._building.values():
            task.cancel()


def build(model: LlmModel) -> BaseChatModel:
    """The chat model, as `init_chat_model` makes it: takes seconds. Raises ImportError, and SettingsError for `$NAME`."""
    from langchain.chat_models import init_chat_model

    built: BaseChatModel = init_chat_model(model.model, **model.arguments())
    return built


def _has_failed(task: asyncio.Task[BaseChatModel]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _look_at(task: asyncio.Task[BaseChatModel]) -> None:
    if not task.cancelled():
        task.exception()
