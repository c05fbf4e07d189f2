"""The database: one pool per process with every statement bounded, migrations, group commit, the embedded server."""

from __future__ import annotations
