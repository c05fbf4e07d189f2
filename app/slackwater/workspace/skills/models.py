"""What requests about skills look like."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, StrictBool, StrictInt, StringConstraints


class SkillSwitched(BaseModel):
    """On or off."""

    enabled: StrictBool
    everybody: StrictBool = False
    """For all who have not said, and not for the caller alone: of administrators only, and of public skills."""


class SkillInstalled(BaseModel):
    """An archive among the files of a thread."""

    thread_id: str
    path: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    """`/mnt/user-data/outputs/report.skill`"""


class SkillEdited(BaseModel):
    """A new SKILL.md."""

    content: str


class RolledBack(BaseModel):
    """Which change is undone."""

    history_index: StrictInt = -1
    """Of the list that the history is; -1 is the last one."""
