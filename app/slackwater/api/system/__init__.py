"""What a server says of itself: health, readiness, versions, metrics. Nothing of anyone's data."""

from __future__ import annotations
