"""What a request for suggestions looks like."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt


class ConversationTurn(BaseModel):
    """A message of the conversation."""

    role: str
    """`user` or `assistant`."""
    content: Any = None
    """Text, or a list of texts and parts. Parts that are no text are left out."""


class SuggestionsWanted(BaseModel):
    """A request for suggestions."""

    model_config = ConfigDict(extra="ignore")

    messages: Annotated[list[ConversationTurn], Field(max_length=1000)]
    """Oldest first."""
    n: Annotated[StrictInt, Field(ge=1, le=5)] = 3
    """How many, at most."""
    model_name: str | None = None
    """The model of the conversation."""
