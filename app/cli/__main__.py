"""`python -m app.cli`, for where the console script is not on the path."""

from __future__ import annotations

from app.cli import main

main()
