"""Under which name the process speaks of itself."""

from __future__ import annotations

import os


def name() -> str:
    """In logs, in traces, and the one dimension of its metrics: POWERTOOLS_SERVICE_NAME, or else `slackwater`."""
    return os.environ.get("POWERTOOLS_SERVICE_NAME") or "slackwater"
