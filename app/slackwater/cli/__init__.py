"""The command line: `slackwater`.

Every command imports what it works with when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

from slackwater.cli.root import main

__all__ = ["main"]
