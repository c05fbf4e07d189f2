"""The chat model: the configured one, or one that needs no key, no network and no luck."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel, agenerate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from digest.settings import Settings

MAX_WORDS = 30
"""Of a longer sentence only the beginning is quoted."""


def chat_model(settings: Settings) -> BaseChatModel:
    """The model that the settings name."""
    if settings.model is None:
        return SkimmingModel(words_per_second=settings.words_per_second)
    try:
        from langchain import chat_models  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise ImportError(
            f"DIGEST_MODEL={settings.model} needs `pip install langchain` and the provider's package"
        ) from None
    model: BaseChatModel = chat_models.init_chat_model(settings.model)
    return model


class SkimmingModel(BaseChatModel):
    """Answers with the most telling sentences of what it is given, word by word, always the same ones.

    It does what the system message says about their number (`at most 3 sentences`) and leaves the rest of it alone.
    """

    words_per_second: float = 25.0

    @property
    def _llm_type(self) -> str:
        return "skimming"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("".join(_answer(messages))))])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages, stop, run_manager, **kwargs))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for word in _answer(messages):
            if self.words_per_second:
                await asyncio.sleep(1 / self.words_per_second)
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))


def _answer(messages: Sequence[BaseMessage]) -> Iterator[str]:
    """The words of the answer, each with the blank or line end that follows it."""
    instruction, text = messages[0].text, messages[-1].text
    asked = re.search(r"at most (\d+) sentences?", instruction)
    sentences = telling_sentences(text, int(asked[1]) if asked else 3)
    answer = ("\n" if "one per line" in instruction else " ").join(sentences)
    yield from re.findall(r"\S+\s*", answer or "There is nothing to read in this text.")


def telling_sentences(text: str, count: int) -> list[str]:
    """The `count` sentences whose words the text repeats most, in the order of the text."""
    plain = [_plain(part) for part in re.split(r"(?<=[.!?])\s+|\n\s*\n", text)]
    # Once each, and no headings, unless there is nothing else.
    found = list(dict.fromkeys(sentence for sentence in plain if sentence))
    sentences = [sentence for sentence in found if sentence[-1] in ".!?…"] or found
    frequency = Counter(word for sentence in sentences for word in _words(sentence))

    def weight(sentence: str) -> float:
        words = _words(sentence)
        # The root keeps a long sentence from winning by its length alone.
        return sum(frequency[word] for word in words) / len(words) ** 0.5 if words else 0.0

    best = sorted(range(len(sentences)), key=lambda index: (-weight(sentences[index]), index))[:count]
    return [sentences[index] for index in sorted(best)]


def _plain(sentence: str) -> str:
    """Without Markdown's markers, and not endless."""
    words = [word for word in re.sub(r"[#*_`>|]+", " ", sentence).split() if word.strip("-=")]
    return " ".join(words[:MAX_WORDS]) + (" …" if len(words) > MAX_WORDS else "")


def _words(sentence: str) -> list[str]:
    return [word for word in re.findall(r"\w+", sentence.lower()) if len(word) > 3]
