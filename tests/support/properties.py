"""How tests of Hypothesis's `given` run: a busy machine is no fault."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A decorator for tests, above `given`: neither an example nor how it is drawn has a deadline."""
