"""`python -m slackwater`, for where the console script is not on the path."""

from __future__ import annotations

from slackwater.cli import main

main()
