"""What knows nothing of ours but the errors: JSON and server-sent events, ids, bounds, lazy imports."""

from __future__ import annotations
