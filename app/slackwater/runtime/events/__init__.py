"""The event log of runs, and its readers in any process."""

from __future__ import annotations
