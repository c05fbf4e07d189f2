"""What waits, and who may work on it: admission, claims, leases, the order of a thread, cancel, erasure, wake-ups."""

from __future__ import annotations
