"""What an assistant looks like: in the database and in answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from slackwater.api.assistants.models import AssistantSearch
from slackwater.kit.json_format import timestamp


@dataclass(frozen=True, slots=True)
class AssistantRow:
    """A row of `slackwater.assistants`."""

    assistant_id: UUID
    owner: str
    graph_id: str
    name: str
    description: str | None
    config: dict[str, Any]
    context: dict[str, Any]
    metadata: dict[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime

    def view(self) -> dict[str, Any]:
        """The assistant as the API shows it."""
        return {
            "assistant_id": str(self.assistant_id),
            "graph_id": self.graph_id,
            "config": self.config,
            "context": self.context,
            "metadata": self.metadata,
            "name": self.name,
            "created_at": timestamp(self.created_at),
            "updated_at": timestamp(self.updated_at),
            "version": self.version,
            "description": self.description,
        }

    def version_view(self) -> dict[str, Any]:
        """One version of an assistant as the API shows it: it never changes."""
        return {name: value for name, value in self.view().items() if name != "updated_at"}


def page_of(rows: Sequence[AssistantRow], query: AssistantSearch) -> list[dict[str, Any]]:
    """One page of a search, with what it selects of each."""
    views = [row.view() for row in rows[: query.limit]]
    return [{name: view[name] for name in query.select} for view in views] if query.select else views
