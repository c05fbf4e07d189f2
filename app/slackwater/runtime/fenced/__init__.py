"""What is stored: by the owner of a lease only, in groups, as one compare-and-set."""

from __future__ import annotations
