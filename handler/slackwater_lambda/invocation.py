"""One invocation: the time there is, and what becomes of its runs when it is over."""

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
"""Lambda's own limit. Its emulator may report centuries."""

ASK_SECONDS = 1.0
"""How long before the drain reserve runs are asked to stop, at most: a superstep may end in this time by itself."""

ASK_SHARE, RESERVE_SHARE = 0.15, 0.4
"""Both reserves as shares of the whole time at most, for functions with short time limits."""


FREEZE_SECONDS = 0.2
"""Of the deadline's: a queue that does not answer, say, takes all that a pause may, and the freeze needs a moment, too."""

REST_SECONDS = 1.0
"""How long the freeze waits for a wake-up, and for a statement that nobody waits for any more."""


@dataclass(slots=True, eq=False)
class Invocation:
    """Between two freezes. Times are monotonic seconds.

    ```
    began ──────── the answer, and runs ──────── ask_at ─── pause: ask, insist, settle ─── deadline
    ```
    """

    request_id: str
    began: float
    deadline: float
    answered: threading.Event = field(default_factory=threading.Event)
    """The response is on its way out, or there is none."""
    requests: int = 0
    """Requests that are being answered: none when the environment is frozen. See `request`."""
    ask_at: float = field(init=False)
    """From here on runs are asked to stop, and answers have to be given."""
    _reserve: float = 0.0
    _runtime: Runtime | None = None
    _settings: Settings | None = None
    _quiet: asyncio.Event = field(default_factory=asyncio.Event)
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
        """A request is being answered."""
        self.requests += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self.requests -= 1
            if not self.requests:
                self._quiet.set()

    async def quiet(self, seconds: float) -> None:
        """Wait, `seconds` at most, until no request is being answered."""
        if self.requests:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._quiet.wait()

    def left(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self.deadline - time.monotonic())

    def open(self, runtime: Runtime, settings: Settings) -> None:
        """Open the window, and begin to watch the time. In the loop's thread."""
        total = self.deadline - self.began
        self._reserve = min(settings.drain_reserve_seconds, RESERVE_SHARE * total)
        self.ask_at = self.deadline - self._reserve - min(ASK_SECONDS, ASK_SHARE * total)
        self._runtime, self._settings = runtime, settings
        runtime.open_window(self.deadline)
        self._watch = asyncio.create_task(self._stop_in_time(), name="invocation:deadline")

    async def work(self) -> None:
        """Work inline: claim until nothing is left, or the time has come, and leave nothing behind."""
        assert self._runtime is not None
        await self._runtime.work(self.ask_at)
        await self.close(hold_seconds=0.0)

    async def close(self, hold_seconds: float | None = None) -> bool:
        """Let the runs go on for a while, then stop and hand over what is left; whether the environment may be frozen.

        It may not with a run that is still live (a node's thread that cannot be cancelled, a state that could not be
        written, a claim that was answered too late), or with a request that has not ended.
        """
        if self._runtime is None or self._settings is None or self._watch is None:
            return True
        if not self._over.is_set():
            seconds = self._settings.after_response_seconds if hold_seconds is None else hold_seconds
            await self._runtime.idle(min(time.monotonic() + seconds, self.ask_at))
            self._over.set()
        await asyncio.wait({self._watch})
        # What requests have left behind since the window was closed.
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
