"""Writes that only the owner of a lease can make: grouped, each a single compare-and-set."""

from __future__ import annotations
