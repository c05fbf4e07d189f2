"""One invocation: how much time it has, and what happens to its runs at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slackwater.kit.budget import Budget

if TYPE_CHECKING:
    from slackwater.runtime.runtime import Runtime
    from slackwater.settings import Settings

log = logging.getLogger(__name__)

LONGEST_SECONDS = 900.0
"""Lambda's own limit. The emulator may report centuries."""

ASK_SECONDS = 1.0
"""The longest time before the drain reserve at which runs are asked to stop: a superstep may reach its boundary in this time."""

ASK_SHARE, RESERVE_SHARE = 0.15, 0.4
"""The largest share of the whole time that each may take, for functions with short timeouts."""


FREEZE_SECONDS = 0.2
"""Left between the pause and the deadline: a pause may use all of its budget, for example on a queue that does not answer, and
the freeze needs a moment too."""

REST_SECONDS = 1.0
"""How long the freeze waits for wake-ups and statements still in flight."""


@dataclass(slots=True, eq=False)
class Invocation:
    """The time between two freezes. Times are seconds on the monotonic clock.

    ```
    began ──────── the response, and runs ─────── ask_at ─── pause: ask, insist, settle ─── deadline
    ```
    """

    request_id: str
    began: float
    deadline: float
    answered: threading.Event = field(default_factory=threading.Event)
    """Set when the response is being sent, or there is none."""
    requests: int = 0
    """Requests in flight; must be 0 when the environment is frozen. See `request`."""
    ask_at: float = field(init=False)
    """When runs are asked to stop, and responses have to be complete."""
    _reserve: float = 0.0
    _runtime: Runtime | None = None
    _settings: Settings | None = None
    _no_requests: asyncio.Event = field(default_factory=asyncio.Event)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _watch: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.ask_at = self.deadline

    @classmethod
    def of(cls, context: Any) -> Invocation:
        """From the context that the runtime client passes to the handler."""
        now = time.monotonic()
        seconds = min(context.get_remaining_time_in_millis() / 1000, LONGEST_SECONDS)
        return cls(context.aws_request_id, now, now + seconds)

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Count a request as in flight."""
        self.requests += 1
        self._no_requests.clear()
        try:
            yield
        finally:
            self.requests -= 1
            if not self.requests:
                self._no_requests.set()

    async def wait_for_requests(self, seconds: float) -> None:
        """Wait at most `seconds` until no request is in flight."""
        if self.requests:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._no_requests.wait()

    def left(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self.deadline - time.monotonic())

    def open(self, runtime: Runtime, settings: Settings) -> None:
        """Open the window and start the deadline timer. Call it in the event loop."""
        total = self.deadline - self.began
        self._reserve = min(settings.drain_reserve_seconds, RESERVE_SHARE * total)
        self.ask_at = self.deadline - self._reserve - min(ASK_SECONDS, ASK_SHARE * total)
        self._runtime, self._settings = runtime, settings
        runtime.open_window(self.deadline)
        self._watch = asyncio.create_task(self._stop_in_time(), name="invocation:deadline")

    async def work(self) -> None:
        """Work inline: claim runs until none is left or `ask_at` is reached, then leave nothing in flight."""
        assert self._runtime is not None
        await self._runtime.work(self.ask_at)
        await self.close(hold_seconds=0.0)

    async def close(self, hold_seconds: float | None = None) -> bool:
        """Let runs continue for a while, then stop and hand over the rest. Returns whether the environment may be frozen.

        It must not be frozen while a run is live (a node's thread that cannot be cancelled, a state that could not be written,
        a claim that was answered too late) or a request is in flight.
        """
        if self._runtime is None or self._settings is None or self._watch is None:
            return True
        if not self._over.is_set():
            seconds = self._settings.after_response_seconds if hold_seconds is None else hold_seconds
            await self._runtime.idle(min(time.monotonic() + seconds, self.ask_at))
            self._over.set()
        await asyncio.wait({self._watch})
        # What requests have started since the window was closed.
        until = min(time.monotonic() + REST_SECONDS, self.deadline - FREEZE_SECONDS / 2)
        return await self._runtime.rest(until) and not self.requests

    async def _stop_in_time(self) -> None:
        assert self._runtime is not None
        assert self._settings is not None
        reason = "deadline"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.ask_at - time.monotonic()):
                await self._over.wait()
                reason = "invocation over"
        budget = Budget.of(
            min(self.left() - FREEZE_SECONDS, self._reserve + ASK_SECONDS),
            drain_reserve=self._reserve,
            hard_reserve=min(self._settings.hard_reserve_seconds, self._reserve / 4),
        )
        report = await self._runtime.pause(budget, reason)
        if report["runs"]:
            log.info("paused", extra={"event": "drain.report", **report})
