"""What requests about feedback look like."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, StrictInt, StringConstraints

MessageId = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class FeedbackGiven(BaseModel):
    """Thumbs up (1) or down (-1) for a run, or for one of its messages."""

    rating: StrictInt
    comment: Annotated[str, StringConstraints(max_length=10_000)] | None = None
    message_id: MessageId | None = None
