"""Two replicas behind a balancer, and a stock client that knows only the balancer."""

from __future__ import annotations

from tests.drills.conftest import drill

__all__ = ["drill"]
