"""What the process says of itself: logs, metrics, traces.

Nothing here takes part in what the process does: a figure that cannot be delivered is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slackwater.telemetry import emf, logs, tracing
from slackwater.telemetry.logs import start_failed
from slackwater.telemetry.metrics import recorder

if TYPE_CHECKING:
    from slackwater.settings import Settings

__all__ = ["configure", "flush", "start_failed"]


def configure(settings: Settings) -> None:
    """Set up what the settings and the place ask for. May be called again."""
    logs.configure(settings)
    if settings.on_lambda:
        emf.write(recorder)
        tracing.start()


def flush() -> None:
    """Everything said until now is out when this returns: called before a freeze, and before `os._exit`."""
    emf.flush()
    logs.flush()
