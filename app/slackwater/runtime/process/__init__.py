"""What lives and stops with the process: the loops that claim and watch, the renewal of leases, the sweeps, the stop."""

from __future__ import annotations
