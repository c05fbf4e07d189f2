"""The queue of runs: admission, claims, leases, the order on a thread, cancellation, erasure, wake-ups."""

from __future__ import annotations
