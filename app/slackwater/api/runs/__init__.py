"""Runs over HTTP: created, streamed, waited for, joined, cancelled. The runtime executes them."""

from __future__ import annotations
