"""What requests about agents look like."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

NAME_CHARACTERS = 64
TEXT_CHARACTERS = 32_768
"""Of a soul, and of what a user says of themselves: both are kept with each run of an agent."""

Description = Annotated[str, StringConstraints(max_length=2000)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Words = Annotated[list[Word], Field(max_length=200)]
Soul = Annotated[str, StringConstraints(max_length=TEXT_CHARACTERS)]


class AgentChanged(BaseModel):
    """What is left out stays as it is; null takes it away."""

    description: Description | None = None
    model: Word | None = None
    """The name of a model."""
    tool_groups: Words | None = None
    skills: Words | None = None
    """The names of skills: null for all, [] for none."""
    soul: Soul | None = None
    """Who it is, in Markdown."""


class AgentMade(AgentChanged):
    """A new one."""

    name: str
    """Letters, digits and hyphens; kept in lower case."""


class ProfileWritten(BaseModel):
    """What the caller says of themselves, in Markdown."""

    content: Soul | None = None
