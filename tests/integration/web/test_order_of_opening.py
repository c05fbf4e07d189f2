"""The start of a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from slackwater.graphs.registry import Graphs
from slackwater.runtime.process.signals import StopSignals
from slackwater.runtime.runtime import Runtime


async def test_nothing_is_claimed_before_it_is_known_how_to_stop(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Imports take long. A start that is given up meanwhile hands nothing over: it must not have taken anything."""
    told: list[str] = []

    def telling(kind: type[Any], name: str) -> None:
        real = getattr(kind, name)

        def tell(*arguments: Any) -> Any:
            told.append(name)
            return real(*arguments)

        monkeypatch.setattr(kind, name, tell)

    telling(Graphs, "warm")
    telling(Runtime, "start")
    telling(StopSignals, "started")
    async with serve():
        assert told == ["warm", "start", "started"]
