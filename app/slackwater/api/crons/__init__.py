"""Crons: runs that start by the calendar. Each due date starts one, however many processes look for it."""

from __future__ import annotations
