"""A server that samples itself: `python -m bench.sampled FILE`, from SIGUSR1 to SIGUSR2.

The timer counts the CPU time of the process. A sampler that looks at the clock (py-spy, cProfile) blames whatever
function the machine had interrupted, which on a busy machine is always the one that has just written to a socket.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

from slackwater.settings import Settings
from slackwater.web.server import serve

PERIOD_SECONDS = 0.001
"""The requested interval; most kernels have a coarser clock (4 ms)."""


class Sampler:
    """Counts stacks, innermost frame first: `function (file)` by lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stacks: Counter[tuple[CodeType, ...]] = Counter()
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR1, self._start)
        signal.signal(signal.SIGUSR2, self._stop)

    def _start(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, PERIOD_SECONDS, PERIOD_SECONDS)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            stack.append(frame.f_code)
            frame = frame.f_back
        self._stacks[tuple(stack)] += 1

    def _stop(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        unfinished = self._path.with_suffix(".new")
        unfinished.write_text(
            "".join(
                ";".join(
                    f"{getattr(code, 'co_qualname', code.co_name)} ({code.co_filename})" for code in stack
                )
                + f" {count}\n"
                for stack, count in self._stacks.items()
            )
        )
        unfinished.rename(self._path)


if __name__ == "__main__":
    Sampler(Path(sys.argv[1]))
    serve(Settings.load())
