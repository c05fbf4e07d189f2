"""What is read: the log of a run while it is written, and its readers, wherever they are."""

from __future__ import annotations
