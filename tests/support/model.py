"""A chat model behind an API like OpenAI's: a real HTTP server on loopback, which says what a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

Said = str | int | asyncio.Future[str] | None


PROVIDER = """
import httpx
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult


class ChatPerplexity(BaseChatModel):
    model: str
    base_url: str

    @property
    def _llm_type(self):
        return "stub"

    def _generate(self, *args, **kwargs):
        raise NotImplementedError

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        body = {"model": self.model, "messages": [{"role": m.type, "content": m.content} for m in messages]}
        async with httpx.AsyncClient(timeout=60, trust_env=False, verify=False) as client:
            answer = (await client.post(f"{self.base_url}/chat/completions", json=body)).raise_for_status().json()
        used = answer["usage"]
        usage = {"input_tokens": used["prompt_tokens"], "output_tokens": used["completion_tokens"]}
        said = AIMessage(
            answer["choices"][0]["message"]["content"], usage_metadata={**usage, "total_tokens": used["total_tokens"]}
        )
        return ChatResult(generations=[ChatGeneration(message=said)])
"""
"""The package of a provider, which takes no seconds to be imported."""
PROVIDER_FILE = "langchain_perplexity.py"
"""In a project: `perplexity:stub` is its model, with a `base_url`."""


@dataclass(eq=False)
class StubModel:
    """Answers each request with the next of `answers`, the last one again and again."""

    port: int = 0
    answers: list[Said] = field(default_factory=lambda: ["[]"])
    """A text; a status, for an error; None: no answer; a future: what it will be."""
    name: str = "stub"
    """As which it answers."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """The bodies of the requests."""
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def says(self, *answers: Said) -> None:
        self.answers = list(answers)

    async def until_asked(self, count: int = 1) -> None:
        """Wait for so many requests, of all that there were."""
        async with asyncio.timeout(30):
            while len(self.asked) < count:
                await asyncio.sleep(0.01)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r")[0])
            self.asked.append(json.loads(await reader.readexactly(length)))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, asyncio.Future):
                answer = await answer
            if answer is None:
                await reader.read()  # until the other side goes away
                return
            status, body = (
                (answer, {"error": {}}) if isinstance(answer, int) else (200, completion(answer, self.name))
            )
            content = json.dumps(body).encode()
            writer.write(
                f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n"
                "connection: close\r\n\r\n".encode()
                + content
            )
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            with suppress(OSError):
                writer.close()

    def abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()


def completion(text: str, model: str) -> dict[str, Any]:
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }


@asynccontextmanager
async def stub_model() -> AsyncIterator[StubModel]:
    """One that is up."""
    model = StubModel()
    server = await asyncio.start_server(model.serve, "127.0.0.1", 0)
    model.port = server.sockets[0].getsockname()[1]
    try:
        yield model
    finally:
        server.close()
        model.abort()
