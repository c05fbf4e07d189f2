"""What `langgraph.json` says of how long threads live: `checkpointer.ttl`."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from slackwater.errors import SettingsError

STRATEGIES = ("delete", "keep_latest")
MAX_MINUTES = 52_560_000
"""A hundred years."""

_READ = frozenset({"ttl", "backend", "serde"})


@dataclass(frozen=True, slots=True)
class TtlPolicy:
    """How long new threads may be idle, and how often is looked for those that were. Times in minutes."""

    default_minutes: float | None = None
    """None: for ever, unless a thread is given a time of its own."""
    strategy: str = "delete"
    interval_minutes: float = 5
    limit: int = 10_000
    """Threads in one round."""

    @property
    def of_new_threads(self) -> tuple[float | None, str | None]:
        """Minutes and strategy, or neither."""
        return self.default_minutes, self.strategy if self.default_minutes is not None else None

    @classmethod
    def read(cls, value: object, file: Path) -> tuple[TtlPolicy, tuple[str, ...]]:
        """From the value of `checkpointer`; and what of it has no effect, one sentence each. Raises SettingsError."""
        if not value:
            return cls(), ()
        if not isinstance(value, dict):
            raise SettingsError(f"{file}: checkpointer must be an object.")
        ignored = sorted(key for key in value if value[key] and key not in _READ)
        if value.get("backend") not in (None, "default"):
            ignored.append("backend")
        warnings: tuple[str, ...] = ()
        if ignored:
            warnings = (
                f"{file}: checkpointer: these keys have no effect because Postgres is the only checkpointer: {', '.join(ignored)}",
            )
        ttl = value.get("ttl") or {}
        if not isinstance(ttl, dict):
            raise SettingsError(f"{file}: checkpointer.ttl must be an object.")
        strategy = ttl.get("strategy", "delete")
        if strategy not in STRATEGIES:
            raise SettingsError(f"{file}: checkpointer.ttl.strategy must be one of {', '.join(STRATEGIES)}.")
        limit = _number(ttl, "sweep_limit", file) or 10_000
        read = cls(
            _number(ttl, "default_ttl", file),
            strategy,
            _number(ttl, "sweep_interval_minutes", file) or 5,
            max(1, int(limit)),
        )
        return read, warnings


def _number(ttl: dict[str, object], key: str, file: Path) -> float | None:
    value = ttl.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise SettingsError(f"{file}: checkpointer.ttl.{key} must be a number.")
    if not 0 < value <= MAX_MINUTES:
        raise SettingsError(f"{file}: checkpointer.ttl.{key} must be above 0 and at most {MAX_MINUTES}.")
    return float(value)
