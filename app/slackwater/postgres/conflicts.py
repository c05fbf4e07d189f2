"""What two writers at the same time may not both do, for those who leave psycopg to this package."""

from __future__ import annotations

from psycopg.errors import UniqueViolation

__all__ = ["UniqueViolation"]
