"""Processes that carry out commands: a JSON line in, a JSON line out, one at a time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import orjson
import uvloop

from bench.lab import ROOT, clean_environment

ANSWER_SECONDS = 120


class Companion(AbstractContextManager["Companion"]):
    """A process that runs `python -m module`, whose commands are the methods of an object there."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Give a command and return its result. Raises RuntimeError with the error of the other process."""
        self.tell(op, **arguments)
        return self.answer()

    def tell(self, op: str, **arguments: Any) -> None:
        """Give a command; `answer` waits for its result."""
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps({"op": op, **arguments}) + b"\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a companion has died (exit {self._process.wait(5)})")
        answer: dict[str, Any] = orjson.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def serve_commands(make: Callable[..., Any]) -> None:
    """The other side: carry out commands on `make(*arguments of the process)` until stdin ends."""
    uvloop.run(_serve(make))


async def _serve(make: Callable[..., Any]) -> None:
    commands = asyncio.StreamReader(limit=2**26)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    servant = make(*sys.argv[1:])
    while line := await commands.readline():
        command = orjson.loads(line)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await getattr(servant, command.pop("op"))(**command)
        except Exception:
            answer = {"error": traceback.format_exc()}
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
        sys.stdout.buffer.flush()
