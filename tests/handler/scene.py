"""Execution environments on one database, and what their runs really did."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.drills.drill import PROJECT
from tests.support.effects import Effects, Watcher
from tests.support.emulator import LocalEnvironment, environment_of, request

SECRET = "only-for-tests"
KEYS = f"tester:{hashlib.sha256(SECRET.encode()).hexdigest()}"


@dataclass
class Scene:
    """What a test of the handler acts on."""

    database_uri: str
    folder: Path
    effects: Effects
    watcher: Watcher
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _started: int = 0

    async def environment(
        self, timeout_seconds: int = 30, env: Mapping[str, str] | None = None, **options: Any
    ) -> LocalEnvironment:
        """An execution environment that is gone at the end of the test; initialised, which the emulator does too late."""
        self._started += 1
        environment = await self._stack.enter_async_context(
            environment_of(
                self.folder / f"environment-{self._started}.log",
                folder=PROJECT,
                timeout_seconds=timeout_seconds,
                env={**self.variables, **(env or {})},
                **options,
            )
        )
        await environment.invoke(asked("GET", "/ok"))
        return environment

    @property
    def variables(self) -> dict[str, str]:
        return {
            "SLACKWATER_DATABASE_URI": self.database_uri,
            "SLACKWATER_PROJECT": str(PROJECT),
            "SLACKWATER_API_KEYS": KEYS,
            "DRILL_EFFECTS_URI": self.database_uri,
        }

    async def close(self) -> None:
        await self._stack.aclose()

    # Acting

    async def ask(self, environment: LocalEnvironment, method: str, path: str, body: object = None) -> Any:
        """One request through the environment; the JSON of its answer."""
        reply = await environment.invoke(asked(method, path, body))
        assert reply.status == 200, (reply, environment.log()[-4000:])
        return reply.body

    async def begin(self, environment: LocalEnvironment, graph: str, **given: Any) -> dict[str, Any]:
        """Start a run in the background on a thread of its own, and wait until the environment is free again."""
        thread = await self.ask(environment, "POST", "/threads", {})
        path = f"/threads/{thread['thread_id']}/runs"
        run: dict[str, Any] = await self.ask(
            environment, "POST", path, {"assistant_id": graph, "input": given}
        )
        return run

    async def sweep_until_over(
        self, environment: LocalEnvironment, run: Mapping[str, Any], timeout: float = 40.0
    ) -> None:
        """Send the schedule's event until the run has ended."""
        deadline = time.monotonic() + timeout
        while self.row(run)["status"] in ("pending", "running"):
            assert time.monotonic() < deadline, (self.row(run), environment.log()[-4000:])
            await environment.invoke({"task": "sweep"})
            await asyncio.sleep(0.05)

    # Looking

    def row(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """The run as it is in the database."""
        (row,) = self.watcher.query("select * from slackwater.runs where run_id = %s", (run["run_id"],))
        return row

    def thread(self, run: Mapping[str, Any]) -> dict[str, Any]:
        (row,) = self.watcher.query(
            "select * from slackwater.threads where thread_id = %s", (run["thread_id"],)
        )
        return row

    def begun(self, run: Mapping[str, Any]) -> Counter[str]:
        """How often each node of the run has started."""
        return Counter(effect.node for effect in self.effects.of(run["run_id"]) if effect.phase == "start")

    async def until(self, condition: Callable[[], object], timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


def asked(method: str, path: str, body: object = None) -> dict[str, Any]:
    """The event of a request with the key."""
    return request(method, path, body, headers={"x-api-key": SECRET})


def once_each(n: int) -> Counter[str]:
    return Counter(f"step-{i}" for i in range(1, n + 1))


@asynccontextmanager
async def scene_of(database_uri: str, folder: Path) -> AsyncIterator[Scene]:
    effects, watcher = Effects(database_uri), Watcher(database_uri)
    scene = Scene(database_uri, folder, effects, watcher)
    try:
        yield scene
    finally:
        await scene.close()
        watcher.close()
        effects.watcher.close()
