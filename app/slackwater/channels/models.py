"""What comes in by a channel of kind `webhook`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, StringConstraints, model_validator

NAME_CHARACTERS = 255

Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_CHARACTERS)]


class ChannelMessage(BaseModel):
    """A message of a conversation: its `text`, or the whole `input` of a run."""

    conversation_id: Name
    """As its sender names it: each conversation has a thread of its own."""
    user: Name | None = None
    """Who says it, as its sender names them: `channel_user_id` in the context of the run."""
    text: Annotated[str, StringConstraints(min_length=1)] | None = None
    input: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> ChannelMessage:
        if (self.text is None) == (self.input is None):
            raise ValueError("give text or input, and not both")
        return self
