"""Files that are stored with a checkpoint, as the writer sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from slackwater.postgres.pool import Statement


class StoredFiles(Protocol):
    """What nodes have changed among the files of their thread. Their bytes are stored already, where nobody sees them yet."""

    def merged(self, later: Any) -> StoredFiles:
        """These changes, and then those of the same run that came later."""

    def statements(self, owned: str, key: Mapping[str, Any]) -> list[Statement]:
        """What makes them visible, if `owned`, a select by the parameters of `key`, finds a row. Idempotent.

        They fail, and their transaction with them, if the files may not be stored.
        """

    def refusal(self, error: Exception) -> Exception | None:
        """Why the statements have failed with the error; None if it is not theirs."""
