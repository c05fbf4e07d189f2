"""Execution environments on demand, as on Lambda: one per concurrent event, up to a limit."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import IO

from slackwater.emulator import events
from slackwater.emulator.binary import EmulatorError
from slackwater.emulator.environment import STOP_SECONDS, EmulatedEnvironment, InvocationResult
from slackwater.emulator.function import Function

log = logging.getLogger(__name__)

STOPPING = InvocationResult.failed("Sandbox.Failure", "the emulator is stopping")


class Fleet:
    """Up to `limit` environments. Further events wait in FIFO order."""

    def __init__(self, function: Function, *, limit: int, log: IO[bytes] | None = None) -> None:
        self.function = function
        self.limit = limit
        self.environments: list[EmulatedEnvironment] = []
        self._log = log
        self._slots = asyncio.Semaphore(limit)
        self._idle: list[EmulatedEnvironment] = []
        self._work: set[asyncio.Task[None]] = set()
        self._closed = False

    async def invoke(self, payload: bytes) -> InvocationResult:
        """Invoke the function and return its result. May be cancelled at any time: an event in progress continues."""
        if self._closed:
            return STOPPING
        await self._slots.acquire()
        outcome: asyncio.Future[InvocationResult] = asyncio.get_running_loop().create_future()
        # From here on the slot belongs to the task, which outlives a client that disconnects.
        self._track(asyncio.create_task(self._process(payload, outcome), name="event"))
        return await asyncio.shield(outcome)

    def submit(self, payload: bytes) -> None:
        """Invoke asynchronously: the result is only logged, if it is an error."""
        self._track(asyncio.create_task(self.deliver(payload), name="asynchronous-event"))

    async def deliver(self, payload: bytes) -> None:
        """The same, and wait until the event is processed."""
        outcome = await self.invoke(payload)
        if outcome.error is not None and outcome is not STOPPING:
            log.warning(
                "an asynchronous event failed",
                extra={"event": "emulator.event_failed", "error": outcome.payload.decode(errors="replace")},
            )

    async def close(self, seconds: float = STOP_SECONDS) -> None:
        """Stop every environment. Waiting events fail."""
        self._closed = True
        await asyncio.gather(*(environment.stop(seconds) for environment in self.environments))
        while self._work:
            await asyncio.wait(self._work)

    async def _process(self, payload: bytes, outcome: asyncio.Future[InvocationResult]) -> None:
        try:
            environment = await self._acquire()
            if environment is None:
                outcome.set_result(STOPPING)
                return
            invocation = environment.invoke(payload)
            outcome.set_result(await invocation.outcome)
            await invocation.done
            if environment.alive:
                self._idle.append(environment)
            else:
                self.environments.remove(environment)
                await environment.stop(0)
        except (EmulatorError, OSError) as error:
            log.error("%s", error, extra={"event": "emulator.start_failed"})
            outcome.set_result(InvocationResult.failed("Sandbox.Failure", str(error)))
        finally:
            self._slots.release()

    async def _acquire(self) -> EmulatedEnvironment | None:
        """The most recently used idle environment, as on Lambda, or a new one; None while stopping."""
        while self._idle:
            environment = self._idle.pop()
            if environment.alive:
                return environment
            self.environments.remove(environment)
            await environment.stop(0)
        if self._closed:
            return None
        environment = EmulatedEnvironment(self.function, log=self._log)
        self.environments.append(environment)
        began = time.monotonic()
        try:
            await environment.start()
            # On AWS, initialisation has its own time limit.
            await environment.invoke(events.warm_up()).done
        except BaseException:
            self.environments.remove(environment)
            raise
        log.info(
            "an execution environment started",
            extra={
                "event": "emulator.environment_started",
                "environments": len(self.environments),
                "ms": round(1000 * (time.monotonic() - began)),
            },
        )
        return environment

    def _track(self, task: asyncio.Task[None]) -> None:
        self._work.add(task)
        task.add_done_callback(self._work.discard)
