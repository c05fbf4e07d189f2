"""What knows nothing of ours but the errors: JSON and server-sent events, ids, bounds, answers that are remembered, lazy imports."""

from __future__ import annotations
