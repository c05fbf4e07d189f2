"""What requests about the memory look like."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Content = Annotated[str, StringConstraints(max_length=100_000)]
Category = Annotated[str, StringConstraints(max_length=200)]


class FactCreate(BaseModel):
    """A fact that the user writes."""

    content: Content
    category: Category = "context"
    confidence: float = 0.5
    """0 to 1."""


class FactChange(BaseModel):
    """What is to change of a fact; what is left out, or null, stays."""

    content: Content | None = None
    category: Category | None = None
    confidence: float | None = None


class _Given(BaseModel):
    model_config = ConfigDict(extra="ignore")


class SectionGiven(_Given):
    """What is known of something."""

    summary: str = ""
    updatedAt: str = ""


class UserGiven(_Given):
    """What is known of the user."""

    workContext: SectionGiven = SectionGiven()
    personalContext: SectionGiven = SectionGiven()
    topOfMind: SectionGiven = SectionGiven()


class HistoryGiven(_Given):
    """What is known of earlier times."""

    recentMonths: SectionGiven = SectionGiven()
    earlierContext: SectionGiven = SectionGiven()
    longTermBackground: SectionGiven = SectionGiven()


class FactGiven(_Given):
    """A fact of an export."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    content: Content
    category: Category = "context"
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.5
    createdAt: str = ""
    source: str = "unknown"
    sourceError: str | None = None


class MemoryGiven(_Given):
    """An export, which replaces the memory."""

    version: str = "1.0"
    lastUpdated: str = ""
    user: UserGiven = UserGiven()
    history: HistoryGiven = HistoryGiven()
    facts: Annotated[list[FactGiven], Field(max_length=10_000)] = []

    def document(self) -> dict[str, Any]:
        """As it is kept."""
        return self.model_dump(exclude_none=True)
